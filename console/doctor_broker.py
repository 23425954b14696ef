"""The doctor's look at the broker: reachable, and not about to throw wake-ups away."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import redis

from consent.broker.address import why_unreachable
from consent.broker.wakeups import redis_client
from consent.settings import Settings
from console.doctor_ledger import clock_finding
from console.doctor_rights import look_at_rights
from console.embedded import broker_binary
from console.finding import Finding


def look(settings: Settings) -> Iterator[Finding]:
    """Look at the configured broker, or for the server that `optrelay run` would start."""
    if not settings.broker_url:
        name = Path(broker_binary()).name
        yield Finding("broker", ok=True, words=f"none is configured; `optrelay run` starts its own {name}")
        yield Finding("workers", ok=None, words="`optrelay worker` and `sweep` need OPTRELAY_BROKER_URL")
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
        yield Finding("worker", ok=False, words="it needs a broker", remedy="set OPTRELAY_BROKER_URL")
        return
    from worker.heartbeat import why_unhealthy  # noqa: PLC0415 - it loads Celery, which the others need not

    client = redis_client(settings.broker_url)
    try:
        why = why_unhealthy(client, f"celery@{socket.gethostname()}", settings.connections)
        remedy = "start the worker again" if why else ""
        yield Finding("worker", ok=not why, words=why or "it takes wake-ups", remedy=remedy)
    except (redis.RedisError, OSError) as error:
        yield _unreachable(error)
    finally:
        client.close()


def _unreachable(error: Exception) -> Finding:
    why = why_unreachable(error)
    remedy = "see OPTRELAY_BROKER_URL; nothing is lost meanwhile, but nothing is delivered"
    if "certificate" in why:
        remedy += "; of a certificate's own authority the option ssl_ca_certs=FILE of the address names the file"
    return Finding("broker", ok=False, words=f"it cannot be reached ({why})", remedy=remedy)


def _server(client: redis.Redis) -> Iterator[Finding]:
    client.ping()
    try:
        info = client.info("server")
        words = f"{info.get('server_name', 'redis')} {_version(info)} answers"
    except redis.ResponseError:  # a rented server, or one that grants us little, may refuse the question
        words = "it answers, and does not say which version it is"
    yield Finding("broker", ok=True, words=words)
    yield from look_at_rights(client)
    with suppress(redis.ResponseError):
        seconds, micros = client.time()
        yield clock_finding("broker's clock", seconds + micros / 1e6 - time.time())
    yield _policy(_setting(client, "maxmemory-policy"))
    yield _persistence(_setting(client, "appendonly"))


def _version(info: dict[str, object]) -> object:
    return info.get("valkey_version") or info.get("redis_version")


def _setting(client: redis.Redis, name: str) -> str | None:
    try:
        return str(client.config_get(name).get(name) or "") or None
    except redis.RedisError:
        return None  # a rented server may refuse the question


def _policy(found: str | None) -> Finding:
    if found is None:
        return Finding("broker memory", ok=None, words="the server does not say its maxmemory-policy: see noeviction")
    remedy = (
        "" if found == "noeviction" else "set maxmemory-policy to noeviction: the shared rate limit must not be evicted"
    )
    return Finding("broker memory", ok=not remedy, words=f"maxmemory-policy is {found}", remedy=remedy)


def _persistence(found: str | None) -> Finding:
    if found is None:
        return Finding("broker disk", ok=None, words="the server does not say whether appendonly is on")
    if found == "yes":
        return Finding("broker disk", ok=True, words="appendonly is on")
    words = "appendonly is off: after a restart calls pause for some seconds, and the sweep sends the wake-ups again"
    return Finding("broker disk", ok=None, words=words)
