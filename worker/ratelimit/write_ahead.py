"""Up to when a bucket's permits are given out, written into the ledger before they are: see `RateLimiter`."""

from __future__ import annotations

import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

import redis

from consent.broker.wakeups import KEY_PREFIX
from consent.change import Bucket
from consent.errors import LedgerError
from consent.ledger.ledger import Ledger

_WRITTEN = """
-- A server that was wiped since knows nothing of the broker for which the ledger has been told.
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
if tonumber(ARGV[1]) > (tonumber(redis.call('GET', KEYS[1])) or 0) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', 604800000)
end
return 1
"""
_BROKER = f"{KEY_PREFIX}broker"
_AHEAD_SECONDS = 2.0
"""For how long permits are written down ahead, at least; two reservation windows if longer. A kill costs no more."""

_LATEST_SECONDS = 10.0  # by which a process that lives may use a permit late, as far as another broker minds
_WRITING_MILLISECONDS = 500  # in which no other process begins to write the same


@dataclass(slots=True)
class WriteAhead:
    """One process's view of what is written down for a bucket.

    `late` is by how many seconds a permit may be used late, `key` where Redis keeps up to when it is written, and
    `ahead` are the seconds that are written down beyond what is given out.
    """

    store: redis.Redis
    ledger: Ledger
    bucket: Bucket
    process: str
    key: str
    reservation_seconds: float
    late: float
    ahead: float = field(init=False)
    _owner: str = ""
    _busy: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.ahead = max(_AHEAD_SECONDS, 2 * self.reservation_seconds)

    def extend(self, now: int, interval: float) -> float:
        """Write down that permits are given out from `now` (Redis' clock, microseconds) for a while.

        Returns 0.0, or the seconds after which what another broker has given out is over. Raises redis.RedisError,
        LedgerUnavailable and LedgerOutdated.
        """
        self.store.set(_BROKER, secrets.token_hex(8), nx=True)
        if (name := cast("bytes | None", self.store.get(_BROKER))) is None:
            raise redis.ConnectionError("the broker has lost its data between two questions")
        self._owner = name.decode()
        seconds = self.reservation_seconds + self.ahead
        if wait := self.extend_alone(seconds, interval):
            return wait
        known = self.store.eval(_WRITTEN, 2, self.key, _BROKER, f"{now + seconds * 1e6:.0f}", self._owner)
        return 0.0 if known else interval

    def extend_soon(self, now: int, interval: float) -> None:
        """Do the same beside the calls, so that none waits for the ledger; once at a time, over all processes."""
        if not self._busy.acquire(blocking=False):
            return

        def extend() -> None:
            try:
                with suppress(redis.RedisError, LedgerError):  # then it is done when the last written permit is gone
                    if self.store.set(f"{self.key}:now", 1, nx=True, px=_WRITING_MILLISECONDS):
                        self.extend(now, interval)
            finally:
                self._busy.release()

        threading.Thread(target=extend, name="written ahead", daemon=True).start()

    def extend_alone(self, seconds: float, interval: float) -> float:
        """Write down that permits up to so many seconds from now may be used, without Redis; returns like `extend`.

        Raises LedgerUnavailable and LedgerOutdated.
        """
        now = self.ledger.now()
        until = now + int((seconds + min(max(self.reservation_seconds, self.late), _LATEST_SECONDS)) * 1e6)
        owner = self._owner or self.process
        return self.ledger.leases.reserve_ahead(str(self.bucket), owner, interval, now=now, until=until)


def end_reservations_of(store: redis.Redis, ledger: Ledger) -> None:
    """Note in the ledger that no call is made any more with this broker, whose workers have all ended.

    Then the next broker waits for an interval from now, and not for what was written ahead. Raises redis.RedisError and
    LedgerUnavailable.
    """
    if owner := cast("bytes | None", store.get(_BROKER)):
        ledger.leases.end_reservations(owner.decode(), now=ledger.now())
