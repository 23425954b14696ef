"""Keeping a provider's limit over all processes: permits are reserved in Redis, spread evenly, before they are used.

A script in Redis does it (GCRA, `reserve.lua`): one round trip a batch, on Redis' own clock. A permit that is not used
in time is lost, never used late: that keeps every window within the limit. When Redis cannot be reached, each process
falls back to its own share, never to none.

Up to when permits are given out is written into the ledger before, a few seconds at a time, with the name of the broker
that does it. A broker that comes after another one, or beside it, begins when those permits are over.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any, cast

import redis
import structlog

from consent.broker.wakeups import KEY_PREFIX
from consent.change import Bucket
from consent.connection import Rate
from consent.errors import LedgerUnavailable
from consent.ledger.ledger import Ledger
from worker.ratelimit.own_share import OwnShare
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
_DRIFT = 0.0005  # seconds by which two clocks part in a second at most, while one is slewed: ntpd's 500 ppm
_READINGS, _READ_AGAIN_SECONDS = 5, 10.0
_log = structlog.get_logger()


@dataclass(slots=True)
class Reservation:
    """Permits: moments of our monotonic clock, to be used `late` seconds late at most; `crowded`: deliveries enough."""

    moments: deque[float] = field(default_factory=deque)
    late: float = 0.0
    crowded: bool = False
    tat: int = 0
    shared: bool = True


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
    """Redis' clock as one process knows it, to `enough` seconds if replies are quick enough for that.

    A reply says where it stood at some moment between question and answer, so the quickest one says it best. A later
    one that took long, because a machine is busy, must not move the permits of this process against those of others.
    """

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
    processes: InitVar[int] = 1
    known: int = 1
    concurrency: int = 1
    written: WriteAhead | None = None
    slack: float = field(init=False)
    tolerance: float = field(init=False)
    spare_calls: int = field(init=False)
    interval: float = field(init=False)
    _alone: OwnShare = field(init=False)
    _clock: RedisClock = field(init=False)
    _doubt: float = 0.0

    def __post_init__(self, processes: int) -> None:
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
        self._alone = OwnShare(self.bucket, self.rate, self.interval, self.reservation_seconds, processes)

    def write_into(self, ledger: Ledger) -> None:
        """Have a ledger know from now on up to when permits are given out, before they are."""
        key = self._keys()[3]
        self.written = self._alone.written = WriteAhead(
            self.store, ledger, self.bucket, self.process, key, self.reservation_seconds, self.tolerance
        )

    def reserve(self, wanted: int, delivery: str = "", delivery_seconds: float = PLACE_SECONDS) -> Reservation:
        """Reserve up to `wanted` permits within the reservation window; register `delivery` if it names one.

        Raises LedgerOutdated; without ledger there are no permits.
        """
        arguments = (
            *(self.interval * 1e6, wanted, self.reservation_seconds * 1e6, delivery, self.max_deliveries),
            *(delivery_seconds * 1e6, self.process, _PROCESS_MEMORY_SECONDS * 1e6, int(self.written is not None)),
        )
        try:
            answer, seconds = self._ask(arguments)
            if int(answer[0]) == _UNWRITTEN and self._write_ahead(int(answer[4])):
                answer, seconds = self._ask(arguments)
        except redis.RedisError as error:
            return Reservation(self._alone.moments(wanted, error), self.tolerance, shared=False)
        except LedgerUnavailable as error:
            _log.warning("rate_limit.not_written", bucket=str(self.bucket), reason=str(error))
            return Reservation()
        asked = time.monotonic()
        if seconds > _LATE_REPLY_SECONDS:
            self.end_delivery(delivery)
            return Reservation()  # it is unknown when Redis' clock was read: these permits are lost
        own = self._alone
        if (own.starts or own.given_to > asked) and (ahead := own.lasts(asked)):  # those of all lie behind its own
            self.push(ahead)
            return Reservation()
        if self.written is not None and int(answer[0]) > 0 and int(answer[5]) < self.written.ahead * 1e6 / 2:
            self.written.extend_soon(int(answer[4]), self.interval)
        doubt = self._doubt
        if int(answer[4]):
            asked, doubt = self._clock.learn(int(answer[4]) / 1e6, asked - seconds, asked, _CLOCK_PART * self.slack)
            self._doubt = doubt
        count, wait, tat, processes = int(answer[0]), int(answer[1]) / 1e6, int(answer[2]), int(answer[3])
        self._alone.processes = max(self.known, processes)
        moments = deque(asked + wait + n * self.interval for n in range(max(0, count)))
        # Of who wants more and gets as few, several parts may be held at once: for those there is no room.
        late = max(self._late(doubt), self.reservation_seconds if wanted <= self.spare_calls else 0.0)
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
        self._alone.push(time.monotonic() + seconds)

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

    def _late(self, doubt: float) -> float:
        """Return by how many seconds permits of now may be used late: what the clock may be off is used up already."""
        unknown = max(0.0, doubt - _CLOCK_PART * self.slack)
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

    def _keys(self) -> tuple[str, ...]:
        stem = f"{KEY_PREFIX}pace:{self.bucket}"  # processes of older versions keep the same limit under this name
        return f"{stem}:tat", f"{stem}:deliveries", f"{KEY_PREFIX}processes", f"{stem}:written", f"{stem}:clock"

    def _quietly(self, script: str, keys: Sequence[str], *arguments: str | float) -> None:
        try:
            self.store.eval(script, len(keys), *keys, *arguments)
        except redis.RedisError:
            _log.warning("rate_limit.redis_lost", bucket=str(self.bucket))
