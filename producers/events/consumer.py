"""The consumer of a source of events: read a batch, record it, commit, and only then acknowledge it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from consent.errors import LedgerUnavailable, SourceUnavailable
from producers.events.event import Event
from producers.events.ingest import EventIngest, Result
from producers.events.sources.source import MOST_BYTES, Source

BATCH = 2000
"""Events in one transaction at most."""

WAIT_SECONDS = 0.5
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_SLICE = 0.1


class Observer(Protocol):
    """What is called as a consumer works."""

    def took(self, results: Sequence[Sequence[Result]]) -> None:
        """Note a batch that was recorded and acknowledged: what became of each change of each event."""
        ...

    def trouble(self, message: str) -> None:
        """Note that the source or the ledger cannot be used now; the consumer tries again until it can."""
        ...

    def recovered(self) -> None:
        """Note that both can be used again."""
        ...


@dataclass(slots=True)
class Listener:
    """One process that listens to one source.

    `stopping` is called between batches and while there is nothing to do: the batch in hand is finished. `read_to` is
    told, after each look at the source, until when it has been read: everything that was published by then, as far as
    its events tell, is recorded.
    """

    source: Source
    intake: EventIngest
    observer: Observer
    stopping: Callable[[], bool]
    batch: int = BATCH
    pause: Callable[[float], None] = time.sleep
    most_bytes: int = MOST_BYTES
    read_to: Callable[[datetime], None] = lambda _: None
    _troubles: int = 0
    _ended_abandoned_runs: bool = False
    _ledger_answers: bool = False
    _held: Sequence[Event] = field(default=(), repr=False)

    def run(self) -> None:
        """Listen until `stopping`; end the run, and leave to the source what was not acknowledged.

        Raises ConfigurationError and LedgerOutdated, for which waiting is of no use.
        """
        try:
            while not self.stopping():
                self._take_batch()
        finally:
            self.source.close()
            with suppress(LedgerUnavailable):
                self.intake.close()

    def _take_batch(self) -> None:
        """Take one batch; nothing is acknowledged that was not recorded.

        While the ledger is unavailable the batch stays in hand and the source's connection open, and nothing more is
        read: brokers count how often they have delivered a message, and drop it in the end.
        """
        try:
            results = self._recorded()
        except LedgerUnavailable as error:
            self._ledger_answers = False
            self._wait(str(error), let_go=False)
            return
        except SourceUnavailable as error:
            self._wait(str(error), let_go=True)
            return
        except MemoryError:
            self.batch, self.most_bytes = max(1, self.batch // 2), max(1, self.most_bytes // 2)
            message = f"there is not enough memory: from now on at most {self.batch:,} events at once"
            self._wait(message, let_go=True)
            return
        if self._troubles:
            self._troubles = 0
            self.observer.recovered()
        if results:
            self.observer.took(results)

    def _recorded(self) -> list[list[Result]]:
        """Record and acknowledge the batch in hand, or the next one."""
        began = datetime.now(UTC)
        if not self._held:
            self._check_ledger()
            self._held = self.source.read(self.batch, WAIT_SECONDS, self.most_bytes)
        if not self._held:
            self.read_to(began)
            return []
        with self.source.recording():
            results = self.intake.take(self._held)
        self._ledger_answers = True
        self.source.acknowledge(self._held)
        if published := [event.since for event in self._held if event.since is not None]:
            self.read_to(max(published))
        elif len(self._held) < self.batch:  # the source had no more, and does not say when these were published
            self.read_to(began)
        self._held = ()
        return results

    def _check_ledger(self) -> None:
        """Check the ledger before anything is read that it could not record."""
        if not self._ended_abandoned_runs:
            self.intake.end_abandoned()
            self._ended_abandoned_runs = True
        elif not self._ledger_answers:
            self.intake.check()
        self._ledger_answers = True

    def _let_go(self) -> None:
        """Leave what is in hand to the source, which gives it again, here or to another listener."""
        self._held = ()
        self.source.close()

    def _wait(self, message: str, *, let_go: bool) -> None:
        """Wait, longer each time; keep what is in hand, or let others have it."""
        if not self._troubles:
            self.observer.trouble(message)
        if let_go:
            self._let_go()
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._troubles)
        self._troubles += 1
        left = random.uniform(longest / 2, longest)  # noqa: S311 - so that listeners do not come back as one
        while left > 0 and not self.stopping():
            self.pause(min(_SLICE, left))
            left -= _SLICE
            try:
                self.source.keep_alive()
            except SourceUnavailable:
                self._let_go()
