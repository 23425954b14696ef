"""Keeping a provider's limit over all processes: permits are reserved in Redis, spread evenly, before they are used.

A script in Redis does it (GCRA, `reserve.lua`): one round trip a batch, on Redis' own clock. A permit that is not used
in time is lost, never used late: that keeps every window within the limit. When Redis cannot be reached, each process
falls back to its share, never to none.

Up to when permits are given out is written into the ledger before, a few seconds at a time, with the name of the broker
that does it. A broker that comes after another one, or beside it, begins when those permits are over.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import redis
import structlog

from consent.broker.wakeups import KEY_PREFIX
from consent.change import Bucket
from consent.connection import Rate
from consent.errors import LedgerUnavailable
from consent.ledger.ledger import Ledger
from worker.ratelimit.clock import RedisClock
from worker.ratelimit.write_ahead import WriteAhead

SLACK = 0.005
LEAST_SLACK_SECONDS = 0.025
"""By how much a window is stretched: half a percent, and at least so many seconds.

Permits are spread as if the provider's window of W seconds had W + slack, so no W seconds hold more calls than the
limit as long as a call reaches the provider at most `slack` later, after its permit's moment, than another one does.
Two parts in five are for a process that uses a permit late, one for what it does not know of Redis' clock, and two are
left for the network: on a window of a second 10, 5 and 10 ms, on one of a minute 120, 60 and 120.
"""

_LATE_PART, _CLOCK_PART = 0.4, 0.2

LATE_CALLS = 0.005
"""The part of a high limit that is kept free for the permits that a delivery may use late (see `spare_calls`)."""

FEW = 4
"""A delivery asks for more permits when this part of a reservation is left."""

_SET_BACK, _RESERVED = ((Path(__file__).parent / name).read_text() for name in ("set_back.lua", "reserve.lua"))
_RESERVE = _SET_BACK + _RESERVED
_GIVE_BACK = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL') return 1 end return 0
"""
_PUSH = f"""{_SET_BACK}
local until_, tat = now + tonumber(ARGV[1]), tonumber(redis.call('GET', KEYS[1])) or 0
if until_ > tat then redis.call('SET', KEYS[1], string.format('%.0f', until_), 'PX', 604800000) end
return 1
"""
_SOONEST = f"{_SET_BACK} return string.format('%.0f', (tonumber(redis.call('GET', KEYS[1])) or 0) - now)"
_KEEP = """
local clock = redis.call('TIME')
return redis.call('ZADD', KEYS[1], 'XX', clock[1] * 1000000 + clock[2] + tonumber(ARGV[1]), ARGV[2])
"""
_CROWDED, _UNWRITTEN = -1, -2
PLACE_SECONDS = 5.0
"""For how long a delivery counts without saying that it is still there: what a killed one blocks at most."""
_PROCESS_MEMORY_SECONDS = 120
_LATE_REPLY_SECONDS = 0.05
_log = structlog.get_logger()


@dataclass(slots=True)
class Reservation:
    """Permits: moments of our monotonic clock, to be used `late` seconds late at most; `crowded`: deliveries enough."""

    moments: deque[float] = field(default_factory=deque)
    late: float = 0.0
    crowded: bool = False
    tat: int = 0
    shared: bool = True


@dataclass(slots=True)
class RateLimiter:
    """The rate limit of one bucket of a connection, shared by every process that uses the same Redis.

    `slack` are the seconds by which calls may reach the provider late, against each other, without a window over the
    limit, `tolerance` those by which a permit may be used late: it is given up then, and the call takes another one.
    `interval` are the seconds between two permits: at most `rate.calls` of them lie in any window and its slack.
    `spare_calls` are the permits that a delivery may reserve at once and use late; 0 where the limit is too low.
    """

    store: redis.Redis
    bucket: Bucket
    rate: Rate
    process: str
    reservation_seconds: float
    max_deliveries: int
    processes: int = 1
    known: int = 1
    concurrency: int = 1
    written: WriteAhead | None = None
    slack: float = field(init=False)
    tolerance: float = field(init=False)
    spare_calls: int = field(init=False)
    interval: float = field(init=False)
    _alone_from: float = 0.0
    _alone_to: float = 0.0
    _clock: RedisClock = field(init=False)
    _doubt: float = 0.0

    def __post_init__(self) -> None:
        self._clock = RedisClock(self.store)
        self.slack = max(LEAST_SLACK_SECONDS, SLACK * self.rate.seconds)
        self.tolerance = _LATE_PART * self.slack
        # Late calls come into a window on top of its own, so `interval` keeps room for those of `max_deliveries`. A
        # delivery holds at most two such reservations, what was left when it asked for one of them, and one permit for
        # each call that it prepares.
        late = LATE_CALLS * self.rate.calls
        spare = int((late / self.max_deliveries - self.concurrency) / (2 + 1 / FEW))
        self.spare_calls = spare if spare >= self.concurrency else 0
        room = late if self.spare_calls and self.tolerance < self.reservation_seconds else 0.0
        self.interval = (self.rate.seconds + self.slack) / (self.rate.calls - room)

    def write_into(self, ledger: Ledger) -> None:
        """Have a ledger know from now on up to when permits are given out, before they are."""
        key = self._keys()[3]
        self.written = WriteAhead(
            self.store, ledger, self.bucket, self.process, key, self.reservation_seconds, self.tolerance
        )

    def reserve(self, wanted: int, delivery: str = "", delivery_seconds: float = PLACE_SECONDS) -> Reservation:
        """Reserve up to `wanted` permits within the reservation window; register `delivery` if it names one.

        Raises LedgerOutdated; without ledger there are no permits.
        """
        arguments = (
            self.interval * 1e6,
            wanted,
            self.reservation_seconds * 1e6,
            delivery,
            self.max_deliveries,
            delivery_seconds * 1e6,
            self.process,
            _PROCESS_MEMORY_SECONDS * 1e6,
            int(self.written is not None),
        )
        try:
            answer, seconds = self._ask(arguments)
            if int(answer[0]) == _UNWRITTEN and self._write_ahead(int(answer[4])):
                answer, seconds = self._ask(arguments)
        except redis.RedisError as error:
            return self._share(wanted, error)
        except LedgerUnavailable as error:
            _log.warning("rate_limit.not_written", bucket=str(self.bucket), reason=str(error))
            return Reservation()
        asked = time.monotonic()
        if seconds > _LATE_REPLY_SECONDS:
            self.end_delivery(delivery)
            return Reservation()  # it is unknown when Redis' clock was read: these permits are lost
        if self.written is not None and int(answer[0]) > 0 and int(answer[5]) < self.written.ahead * 1e6 / 2:
            self.written.extend_soon(int(answer[4]), self.interval)
        if int(answer[4]):
            now = int(answer[4]) / 1e6
            asked, self._doubt = self._clock.learn(now, asked - seconds, asked, _CLOCK_PART * self.slack)
        count, wait, tat, processes = int(answer[0]), int(answer[1]) / 1e6, int(answer[2]), int(answer[3])
        self.processes, self._alone_from = max(self.known, processes), 0.0
        moments = deque(asked + wait + n * self.interval for n in range(max(0, count)))
        late = self._late()
        if count <= self.spare_calls:
            late = max(self.reservation_seconds, late)
        return Reservation(moments, late, crowded=count == _CROWDED, tat=tat)

    def give_back(self, reservation: Reservation, unused: int) -> None:
        """Return the last `unused` permits of a reservation, if no process has reserved any since."""
        if unused <= 0 or not reservation.shared:
            return
        before = reservation.tat - unused * self.interval * 1e6
        self._quietly(_GIVE_BACK, self._keys()[:1], reservation.tat, f"{before:.0f}")
        for _ in range(min(unused, len(reservation.moments))):
            reservation.moments.pop()

    def push(self, seconds: float) -> None:
        """Let no process reserve a permit for so many seconds: the provider asked us to wait."""
        self._quietly(_PUSH, self._keys(), seconds * 1e6)
        self._alone_from = max(self._alone_from, time.monotonic() + seconds)

    def keep_delivery(self, delivery: str) -> None:
        """Say that a delivery is still under way; a place that was lost is not won back."""
        self._quietly(_KEEP, self._keys()[1:2], PLACE_SECONDS * 1e6, delivery)

    def end_delivery(self, delivery: str) -> None:
        """Free a delivery's place."""
        try:
            self.store.zrem(self._keys()[1], delivery)
        except redis.RedisError:
            _log.warning("rate_limit.redis_lost", bucket=str(self.bucket))

    def deliveries(self) -> int:
        """Return how many deliveries are under way; raise redis.RedisError."""
        clock = self.store.time()
        now = clock[0] * 1_000_000 + clock[1]
        return int(self.store.zcount(self._keys()[1], now, "+inf"))

    def soonest(self) -> float:
        """Return the seconds until the next permit that no delivery has reserved; raise redis.RedisError."""
        keys = self._keys()
        return max(0.0, int(cast("bytes", self.store.eval(_SOONEST, len(keys), *keys))) / 1e6)

    def prime(self) -> None:
        """Tell a broker that was just started, and that no process has used, that permits are free from now on."""
        clock = self.store.time()
        self.store.set(self._keys()[0], clock[0] * 1_000_000 + clock[1], nx=True, px=604_800_000)

    def _late(self) -> float:
        """Return by how many seconds permits of now may be used late: what the clock may be off is used up already."""
        unknown = max(0.0, self._doubt - _CLOCK_PART * self.slack)
        return self.tolerance - min(unknown, self.tolerance / 2)

    def _ask(self, arguments: Sequence[str | float]) -> tuple[list[Any], float]:
        """Run the script; return its answer, and how many seconds it took."""
        before = time.monotonic()
        answer = cast("list[Any]", self.store.eval(_RESERVE, 5, *self._keys(), *arguments))
        return answer, time.monotonic() - before

    def _write_ahead(self, now: int) -> bool:
        """Have the ledger know up to when permits are given out; False if another broker does it: then not before."""
        wait = self.written.extend(now, self.interval) if self.written is not None else 0.0
        if wait:
            _log.warning("rate_limit.held_by_another_broker", bucket=str(self.bucket), seconds=round(wait, 3))
            self.push(wait)
        return not wait

    def _share(self, wanted: int, error: redis.RedisError) -> Reservation:
        """Keep the limit alone, at this process's share; the first permit lies beyond what others have reserved."""
        now = time.monotonic()
        if not self._alone_from:
            _log.warning(
                "rate_limit.redis_lost", bucket=str(self.bucket), share=self.processes, error=type(error).__name__
            )
            self._alone_from = now + self.reservation_seconds + self.interval
        interval = self._interval_alone
        first = max(now, self._alone_from)
        count = max(0, min(wanted, math.floor((now + self.reservation_seconds - first) / interval) + 1))
        if not count or not self._is_written_alone(first + (count - 1) * interval, now):
            return Reservation(shared=False)
        self._alone_from = first + count * interval
        return Reservation(deque(first + n * interval for n in range(count)), self.tolerance, shared=False)

    @property
    def _interval_alone(self) -> float:
        """Seconds between two permits of one process of several that know nothing of each other.

        In each window every process makes the same whole number of calls, so that they keep the limit together
        whatever their phases; where there are more processes than calls, only on average.
        """
        each = max(1, int(self.rate.calls / self.processes))
        return max(self.interval * self.processes, self.interval * self.rate.calls / each)

    def _is_written_alone(self, last: float, now: float) -> bool:
        """Write down what this process gives itself, up to the moment `last`; return whether it may."""
        if last <= self._alone_to or self.written is None:
            return True
        ahead = last - now + self.written.ahead
        try:
            wait = self.written.extend_alone(ahead, self.interval)
        except LedgerUnavailable as error:
            _log.warning("rate_limit.not_written", bucket=str(self.bucket), reason=str(error))
            return False
        if wait:
            self._alone_from = max(self._alone_from, now + wait)
            return False
        self._alone_to = now + ahead
        return True

    def _keys(self) -> tuple[str, ...]:
        stem = f"{KEY_PREFIX}pace:{self.bucket}"  # processes of older versions keep the same limit under this name
        return f"{stem}:tat", f"{stem}:deliveries", f"{KEY_PREFIX}processes", f"{stem}:written", f"{stem}:clock"

    def _quietly(self, script: str, keys: Sequence[str], *arguments: str | float) -> None:
        try:
            self.store.eval(script, len(keys), *keys, *arguments)
        except redis.RedisError:
            _log.warning("rate_limit.redis_lost", bucket=str(self.bucket))
