"""How often one key may ask: a limit for each key, kept by this process."""

from __future__ import annotations

import time
from collections.abc import Callable

from consent.connection import Rate

_BURST_SECONDS = 1.0


class Allowance:
    """A limit for each name: its rate, with a second's worth (at least one request) at once.

    The names are those of the configured keys, so they are few. Several server processes each keep their own.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = rate.interval
        self._tolerance = max(0.0, _BURST_SECONDS - rate.interval)
        self._clock = clock
        self._next: dict[str, float] = {}

    def wait(self, name: str) -> float:
        """Take one request's turn and return 0.0, or return how many seconds to wait for one."""
        now = self._clock()
        due = max(self._next.get(name, now), now)
        if due - now > self._tolerance:
            return due - now - self._tolerance
        self._next[name] = due + self._interval
        return 0.0
