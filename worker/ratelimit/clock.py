"""What a process knows of Redis' clock: permits are moments of that clock, and calls go by this process's own.

A reply says where Redis' clock stood at some moment between question and answer, so the quickest reply says it best. A
later one that took long on its way, because a machine is busy, must not move the permits of this process against those
of others, and neither may the first one: where it was slow, Redis is asked again at once.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

import redis

_DRIFT = 0.0005  # seconds by which two clocks part in a second at most, while one is slewed: ntpd's 500 ppm
_READINGS, _READ_AGAIN_SECONDS = 5, 10.0


@dataclass(frozen=True, slots=True)
class Offset:
    """By how many seconds Redis' clock is ahead of this process's monotonic one: known at a moment, to an `error`.

    It is never taken for smaller than it is, so a permit comes late by the error at most, and never early.
    """

    seconds: float
    error: float
    at: float

    def doubt(self, now: float) -> float:
        """Return by how many seconds it may be wrong now."""
        return self.error + (now - self.at) * _DRIFT

    @classmethod
    def better(cls, before: Offset | None, clock: float, asked: float, answered: float) -> Offset:
        """Return what is known after a reply: Redis' clock stood at `clock` at some moment between these two."""
        found = cls(clock - answered, answered - asked, answered)
        if before is None:
            return found
        drift = (answered - before.at) * _DRIFT
        is_possible = found.seconds - drift <= before.seconds <= found.seconds + found.error + drift
        return before if is_possible and before.doubt(answered) < found.error else found


@dataclass(slots=True)
class RedisClock:
    """Redis' clock as one process knows it, to `enough` seconds if replies are quick enough for that."""

    store: redis.Redis
    offset: Offset | None = None
    _read_again: float = 0.0

    def learn(self, clock: float, asked: float, answered: float, enough: float) -> tuple[float, float]:
        """Take in a reply that shows Redis' clock; return when it stood there, by this process's monotonic one.

        The second number says by how many seconds this process may take Redis' moments too late. If that is more than
        `enough`, Redis is asked some more, but not all the time.
        """
        self.offset = Offset.better(self.offset, clock, asked, answered)
        if self.offset.doubt(time.monotonic()) > enough and answered >= self._read_again:
            self._read_again = answered + _READ_AGAIN_SECONDS
            self._read()
        return clock - self.offset.seconds, self.offset.doubt(time.monotonic())

    def _read(self) -> None:
        with suppress(redis.RedisError):
            for _ in range(_READINGS):
                asked = time.monotonic()
                seconds, microseconds = self.store.time()
                self.offset = Offset.better(self.offset, seconds + microseconds / 1e6, asked, time.monotonic())
