"""Fair sharing of the worker pool: a connection whose calls hang must not keep the other connections from delivering.

A delivery occupies its process (or thread) until its calls have answered. So beyond its first process a connection
acquires another only if one is left for each other connection that has something to deliver and holds none, and a
third only if each of them can have two: two deliveries in turn use a rate limit without gaps. A pool of twice as many
processes as there are connections is enough for all of them.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis
import structlog

from consent.broker.wakeups import KEY_PREFIX

_ACQUIRE = """
-- KEYS: deliveries, processes.  ARGV: connection, delivery, its end (us from now), process, waiting: -1 not asked yet,
-- else the number of connections named behind it, which are waiting.  Returns 1 acquired, 0 not, -1 ask who is waiting.
-- A delivery that has its process already asks whether it may keep it.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local ends = now + tonumber(ARGV[3])
redis.call('ZADD', KEYS[2], math.max(ends, now + 30000000), ARGV[4])
for n = 1, 2 do
  redis.call('ZREMRANGEBYSCORE', KEYS[n], '-inf', now)
  redis.call('ZREMRANGEBYSCORE', KEYS[n], now + 3600000000, '+inf') -- none lasts so long: a clock was set back
end
redis.call('PEXPIRE', KEYS[1], 3600000)
redis.call('PEXPIRE', KEYS[2], 3600000)
local own = ARGV[1] .. '|' .. ARGV[2]
local more = redis.call('ZSCORE', KEYS[1], own) and 0 or 1
local held, total = {}, 0
for _, delivery in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local name = string.match(delivery, '^(.*)|[^|]*$')
  held[name] = (held[name] or 0) + 1
  total = total + 1
end
local mine = held[ARGV[1]] or 0
if mine > 0 then
  if ARGV[5] == '-1' then return -1 end
  local kept = 0
  for n = 6, 5 + tonumber(ARGV[5]) do
    kept = kept + math.max(0, math.min(mine, 2) - (held[ARGV[n]] or 0))
  end
  if kept > 0 and redis.call('ZCARD', KEYS[2]) - total - more < kept then return 0 end
end
redis.call('ZADD', KEYS[1], ends, own)
return 1
"""
_KEYS = (f"{KEY_PREFIX}deliveries", f"{KEY_PREFIX}pool")
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ProcessShare:
    """What a delivery was told when it asked for a process: whether it `acquired` one.

    `keep` asks whether it may go on for as long again, because no one else waits for its process.
    """

    acquired: bool
    keep: Callable[[], bool]


@dataclass(slots=True)
class FairSharing:
    """The processes (or threads) of all workers that share a broker."""

    store: redis.Redis
    process: str

    @contextmanager
    def acquire(
        self,
        connection: str,
        seconds: float,
        waiting: Callable[[], Collection[str]],
        waiting_to_go_on: Callable[[], Collection[str]] | None = None,
    ) -> Iterator[ProcessShare]:
        """Acquire a process for a delivery, and release it; yields whether there was one to spare.

        `seconds` is how long the delivery can last at most; `waiting` returns the other connections that have something
        to deliver now, and is asked only where it matters. `waiting_to_go_on` does the same for a delivery that would
        keep its process; it may name buckets of the same connection. Without Redis every delivery goes on.
        """
        delivery = secrets.token_hex(8)
        try:
            answer = self._ask(connection, delivery, seconds, None)
            if answer < 0:
                answer = self._ask(connection, delivery, seconds, waiting())
        except redis.RedisError:
            yield ProcessShare(acquired=True, keep=lambda: True)
            return

        def keep() -> bool:
            try:
                return self._ask(connection, delivery, seconds, (waiting_to_go_on or waiting)()) > 0
            except redis.RedisError:
                return True

        try:
            yield ProcessShare(answer > 0, keep)
        finally:
            self._release(connection, delivery, acquired=answer > 0)

    def in_use(self) -> int:
        """Return how many deliveries are under way; raise redis.RedisError."""
        clock = self.store.time()
        return int(self.store.zcount(_KEYS[0], clock[0] * 1_000_000 + clock[1], "+inf"))

    def _ask(self, connection: str, delivery: str, seconds: float, waiting: Collection[str] | None) -> int:
        process = f"{self.process}:{threading.get_ident()}"
        others = [-1] if waiting is None else [len(waiting), *waiting]
        found = self.store.eval(_ACQUIRE, 2, *_KEYS, connection, delivery, int(seconds * 1e6), process, *others)
        return int(found)

    def _release(self, connection: str, delivery: str, *, acquired: bool) -> None:
        try:
            if acquired:
                self.store.zrem(_KEYS[0], f"{connection}|{delivery}")
        except redis.RedisError:
            _log.warning("fairness.redis_lost", connection=connection)
