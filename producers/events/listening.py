"""The loop of a listener: read a batch, record it, commit, and only then acknowledge it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from consent.errors import LedgerUnavailable, SourceUnavailable
from producers.events.intake import EventIntake, Result
from producers.events.source import Source

BATCH = 2000
"""Events in one transaction at most."""

WAIT_SECONDS = 0.5
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_SLICE = 0.1


class Told(Protocol):
    """Who is told how listening goes."""

    def took(self, results: Sequence[Sequence[Result]]) -> None:
        """Hear what became of each change of each event of a batch that was recorded and acknowledged."""
        ...

    def trouble(self, words: str) -> None:
        """Hear that source or ledger cannot be used now; it is tried again until it can."""
        ...

    def well_again(self) -> None:
        """Hear that both can be used again."""
        ...


@dataclass(slots=True)
class Listener:
    """One process that listens to one source.

    `stopping` is asked between batches and while there is nothing to do: the batch in hand is finished.
    """

    source: Source
    intake: EventIntake
    told: Told
    stopping: Callable[[], bool]
    batch: int = BATCH
    pause: Callable[[float], None] = time.sleep
    _troubles: int = 0
    _tidied: bool = field(default=False)

    def run(self) -> None:
        """Listen until told to stop; end the run, and leave to the source what was not acknowledged.

        Raises ConfigurationError and LedgerOutdated, for which waiting is of no use.
        """
        try:
            while not self.stopping():
                self._turn()
        finally:
            self.source.close()
            with suppress(LedgerUnavailable):
                self.intake.close()

    def _turn(self) -> None:
        """Take one batch; whatever fails, nothing was acknowledged and everything is read again."""
        try:
            if not self._tidied:
                self.intake.end_abandoned()
                self._tidied = True
            events = self.source.read(self.batch, WAIT_SECONDS)
            results = self.intake.take(events) if events else []
            if events:
                self.source.acknowledge(events)
        except (SourceUnavailable, LedgerUnavailable) as error:
            self._endure(str(error))
            return
        if self._troubles:
            self._troubles = 0
            self.told.well_again()
        if results:
            self.told.took(results)

    def _endure(self, words: str) -> None:
        """Let go of the source, so that others may have what we held, and wait: longer each time."""
        if not self._troubles:
            self.told.trouble(words)
        self.source.close()
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._troubles)
        self._troubles += 1
        left = random.uniform(longest / 2, longest)  # noqa: S311 - so that listeners do not come back as one
        while left > 0 and not self.stopping():
            self.pause(min(_SLICE, left))
            left -= _SLICE
