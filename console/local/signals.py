"""The signals that ask a process to end once what it has in hand is finished."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from console.exit_codes import ExitCode


@dataclass(slots=True)
class Stop:
    """Whether a signal has asked us to end, and with which exit code; a second signal ends us at once."""

    code: ExitCode = ExitCode.WELL

    def __call__(self) -> bool:
        """Return whether one has come."""
        return self.code is not ExitCode.WELL

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM for as long as this lasts."""
        before = {one: signal.signal(one, self._asked) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _asked(self, number: int, _frame: object) -> None:
        self.code = ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED
        signal.signal(number, signal.SIG_DFL)
