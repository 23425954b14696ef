"""The doctor's look at what our user may do at the broker: each command that workers need, tried on its own key."""

from __future__ import annotations

from collections.abc import Iterator

import redis

from consent.broker.wakeups import KEY_PREFIX
from console.finding import Finding

_KEY = f"{KEY_PREFIX}doctor"
_LIST, _HASH, _SORTED, _SET = (f"{_KEY}:{kind}" for kind in ("list", "hash", "sorted", "set"))
_TRIALS: tuple[tuple[str | int, ...], ...] = (
    *(("SET", _KEY, 1, "EX", 10), ("GET", _KEY), ("PEXPIRE", _KEY, 10_000), ("DEL", _KEY)),
    *(("LPUSH", _LIST, 1), ("LLEN", _LIST), ("LRANGE", _LIST, 0, 0), ("BRPOP", _LIST, 1), ("RPUSH", _LIST, 1)),
    *(("HSET", _HASH, "a", 1), ("HGET", _HASH, "a"), ("HDEL", _HASH, "a")),
    *(("ZADD", _SORTED, 1, "a"), ("ZCARD", _SORTED), ("ZCOUNT", _SORTED, 0, 1), ("ZSCORE", _SORTED, "a")),
    *(("ZRANGE", _SORTED, 0, 0), ("ZREVRANGEBYSCORE", _SORTED, 1, 0), ("ZREMRANGEBYSCORE", _SORTED, 5, 6)),
    *(("ZREM", _SORTED, "a"), ("SADD", _SET, "a"), ("SMEMBERS", _SET), ("SREM", _SET, "a"), ("DEL", _LIST)),
    *(("TIME",), ("EVAL", "return 1", 0), ("SCRIPT LOAD", "return 1")),
    *(("EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", 0), ("MULTI",), ("EXEC",)),
)
"""What worker, sweep and producers send: INFO commandstats of a broker that they have used, and what kombu sends to
give back what a dead worker held (kombu/transport/redis.py)."""

RIGHTS = f"~{KEY_PREFIX}* resetchannels +@read +@write +@connection +@transaction +@scripting -@dangerous +time"
"""The rights that suffice, as ACL SETUSER takes them."""


def look_at_rights(client: redis.Redis) -> Iterator[Finding]:
    """Name what our user may not do, and whether the server takes writes; raises redis.RedisError if it is away."""
    missing: dict[str, None] = {}
    for trial in _TRIALS:
        try:
            client.execute_command(*trial)  # type: ignore[no-untyped-call]
        except redis.exceptions.NoPermissionError as error:
            missing["the keys optrelay:*" if "key" in str(error).lower().split("command")[0] else str(trial[0])] = None
        except redis.exceptions.ReadOnlyError:
            words = "it takes no writes: it is a replica, or was switched over"
            yield Finding("broker's rights", ok=False, words=words, remedy="see OPTRELAY_BROKER_URL")
            return
        except redis.ResponseError:
            continue  # what follows from a right that is missing, such as EXEC without MULTI
    remedy = f"give it the rights: ACL SETUSER name {RIGHTS}" if missing else ""
    words = f"our user may not use {', '.join(missing)}" if missing else "our user may do all that workers need"
    yield Finding("broker's rights", ok=not missing, words=words, remedy=remedy)
