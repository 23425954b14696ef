"""Who may take up a place of the worker pool: a connection whose calls hang must not keep the others from theirs.

A stroke occupies its process (or thread) until its calls have answered. So beyond its first place a connection takes
another only if one is left for each other connection that has something to deliver and holds none, and a third only if
each of them can have two: two strokes in turn keep a pace without gaps. A pool of twice as many places as there are
connections is enough for all of them.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis
import structlog

from consent.wakeups import KEY_PREFIX

_TAKE = """
-- KEYS: seated, places.  ARGV: connection, seat, its end (us from now), place, further: -1 not asked yet, else the
-- number of connections named behind it, which are waiting.  Returns 1 taken, 0 not taken, -1 ask who is waiting.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local ends = now + tonumber(ARGV[3])
redis.call('ZADD', KEYS[2], math.max(ends, now + 30000000), ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], 3600000)
redis.call('PEXPIRE', KEYS[2], 3600000)
local held, total = {}, 0
for _, seat in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local name = string.match(seat, '^(.*)|[^|]*$')
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
  if kept > 0 and redis.call('ZCARD', KEYS[2]) - total - 1 < kept then return 0 end
end
redis.call('ZADD', KEYS[1], ends, ARGV[1] .. '|' .. ARGV[2])
return 1
"""
_KEYS = (f"{KEY_PREFIX}seated", f"{KEY_PREFIX}places")
_log = structlog.get_logger()


@dataclass(slots=True)
class Seats:
    """The places of all workers that share a broker."""

    store: redis.Redis
    process: str

    @contextmanager
    def taken(self, connection: str, seconds: float, waiting: Callable[[], Collection[str]]) -> Iterator[bool]:
        """Take a place for a stroke, and give it back; yields whether there was one.

        `seconds` is how long the stroke can last at most; `waiting` returns the other connections that have something
        to deliver now, and is asked only where it matters. Without Redis everybody is seated.
        """
        seat = secrets.token_hex(8)
        try:
            answer = self._ask(connection, seat, seconds, None)
            if answer < 0:
                answer = self._ask(connection, seat, seconds, waiting())
        except redis.RedisError:
            yield True
            return
        try:
            yield answer > 0
        finally:
            self._leave(connection, seat, taken=answer > 0)

    def occupied(self) -> int:
        """Return how many strokes are under way; raise redis.RedisError."""
        clock = self.store.time()
        return int(self.store.zcount(_KEYS[0], clock[0] * 1_000_000 + clock[1], "+inf"))

    def _ask(self, connection: str, seat: str, seconds: float, waiting: Collection[str] | None) -> int:
        place = f"{self.process}:{threading.get_ident()}"
        others = [-1] if waiting is None else [len(waiting), *waiting]
        found = self.store.eval(_TAKE, 2, *_KEYS, connection, seat, int(seconds * 1e6), place, *others)
        return int(found)

    def _leave(self, connection: str, seat: str, *, taken: bool) -> None:
        try:
            if taken:
                self.store.zrem(_KEYS[0], f"{connection}|{seat}")
        except redis.RedisError:
            _log.warning("seats.redis_lost", connection=connection)
