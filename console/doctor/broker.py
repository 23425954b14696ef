"""The doctor's look at the broker: reachable, our rights there, and whether it keeps what it is given."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import redis

from consent.broker.address import why_unreachable
from consent.broker.wakeups import KEY_PREFIX, redis_client
from consent.settings import Settings
from console.doctor.finding import Finding, clock_finding
from console.local.broker import broker_binary
from worker.heartbeat import has_worker, why_unhealthy


def look(settings: Settings) -> Iterator[Finding]:
    """Look at the configured broker, or for the server that `optrelay run` would start."""
    if not settings.broker_url:
        name = Path(broker_binary()).name
        yield Finding("broker", ok=True, message=f"none is configured; `optrelay run` starts its own {name}")
        yield Finding("workers", ok=None, message="`optrelay worker` and `sweep` need OPTRELAY_BROKER_URL")
        return
    client = redis_client(settings.broker_url)
    try:
        yield from _server(client)
    except (redis.RedisError, OSError) as error:
        yield _unreachable(error)
    finally:
        client.close()


def look_at_worker(settings: Settings) -> Iterator[Finding]:
    """Look whether this machine's worker, under the name that Celery gives it, takes wake-ups."""
    if not settings.broker_url:
        yield Finding("worker", ok=False, message="it needs a broker", remedy="set OPTRELAY_BROKER_URL")
        return
    client = redis_client(settings.broker_url)
    try:
        why = why_unhealthy(client, f"celery@{socket.gethostname()}", settings.connections)
        remedy = "start the worker again" if why else ""
        yield Finding("worker", ok=not why, message=why or "it takes wake-ups", remedy=remedy)
    except (redis.RedisError, OSError) as error:
        yield _unreachable(error)
    finally:
        client.close()


def _unreachable(error: Exception) -> Finding:
    why = why_unreachable(error)
    remedy = "see OPTRELAY_BROKER_URL; nothing is lost meanwhile, but nothing is delivered"
    if "certificate" in why:
        remedy += "; of a certificate's own authority the option ssl_ca_certs=FILE of the address names the file"
    return Finding("broker", ok=False, message=f"it cannot be reached ({why})", remedy=remedy)


def _server(client: redis.Redis) -> Iterator[Finding]:
    client.ping()
    try:
        info = client.info("server")
        message = f"{info.get('server_name', 'redis')} {_version(info)} answers"
    except redis.ResponseError:  # a rented server, or one that grants us little, may refuse the question
        message = "it answers, and does not say which version it is"
    yield Finding("broker", ok=True, message=message)
    yield from look_at_rights(client)
    yield from _workers(client)
    with suppress(redis.ResponseError):
        seconds, micros = client.time()
        yield clock_finding("broker's clock", seconds + micros / 1e6 - time.time())
    yield _policy(_setting(client, "maxmemory-policy"))
    yield _persistence(_setting(client, "appendonly"))


def _workers(client: redis.Redis) -> Iterator[Finding]:
    """Say if no worker reports at the broker: what is recorded then waits."""
    with suppress(redis.ResponseError):
        if not has_worker(client):
            remedy = "start `optrelay worker` and one `optrelay sweep`, or deliver with `optrelay run`"
            yield Finding("workers", ok=None, message="no worker reports at this broker", remedy=remedy)


def _version(info: dict[str, object]) -> object:
    return info.get("valkey_version") or info.get("redis_version")


def _setting(client: redis.Redis, name: str) -> str | None:
    try:
        return str(client.config_get(name).get(name) or "") or None
    except redis.RedisError:
        return None  # a rented server may refuse the question


def _policy(found: str | None) -> Finding:
    if found is None:
        return Finding("broker memory", ok=None, message="the server does not say its maxmemory-policy: see noeviction")
    remedy = (
        "" if found == "noeviction" else "set maxmemory-policy to noeviction: the shared rate limit must not be evicted"
    )
    return Finding("broker memory", ok=not remedy, message=f"maxmemory-policy is {found}", remedy=remedy)


def _persistence(found: str | None) -> Finding:
    if found is None:
        return Finding("broker disk", ok=None, message="the server does not say whether appendonly is on")
    if found == "yes":
        return Finding("broker disk", ok=True, message="appendonly is on")
    message = "appendonly is off: after a restart calls pause for some seconds, and the sweep sends the wake-ups again"
    return Finding("broker disk", ok=None, message=message)


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
            message = "it takes no writes: it is a replica, or was switched over"
            yield Finding("broker's rights", ok=False, message=message, remedy="see OPTRELAY_BROKER_URL")
            return
        except redis.ResponseError:
            continue  # what follows from a right that is missing, such as EXEC without MULTI
    remedy = f"give it the rights: ACL SETUSER name {RIGHTS}" if missing else ""
    message = f"our user may not use {', '.join(missing)}" if missing else "our user may do all that workers need"
    yield Finding("broker's rights", ok=not missing, message=message, remedy=remedy)
