"""How wake-ups travel in Redis: the library's transport, made deaf to everything that is no wake-up.

Who can write to the broker could otherwise end a worker: kombu takes what it cannot read for a fault of its own.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from datetime import datetime
from queue import Empty
from typing import Any, cast

import redis
import structlog
from kombu.transport.redis import Channel as RedisChannel
from kombu.transport.redis import Transport as RedisTransport

from consent.broker.address import read_broker_address
from consent.change import Bucket

DELIVER_TASK = "optrelay.deliver"
_DELIVER_TASKS = {DELIVER_TASK, "optrelay.stroke"}
"""The name, and the one that earlier versions gave it: their wake-ups may still be waiting."""

_log = structlog.get_logger()
_MOST_NAME = 512  # characters of a connection's or a bucket's name


class UnreadableWakeUp(ValueError):
    """An entry of a queue that holds no wake-up."""


def bucket_of(message: bytes | str) -> Bucket:
    """Return the bucket that a wake-up names, from the form that kombu gives it; raise UnreadableWakeUp."""
    return _bucket(_table(message))


def _table(message: bytes | str) -> dict[str, Any]:
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        raise UnreadableWakeUp from None
    if not isinstance(found, dict):
        raise UnreadableWakeUp
    return found


def _bucket(message: dict[str, Any]) -> Bucket:
    try:
        arguments = json.loads(b64decode(message["body"]))[0]
        connection, name = arguments if len(arguments) > 1 else (*arguments, "")
    except (ValueError, TypeError, LookupError, RecursionError):
        raise UnreadableWakeUp from None
    for one in (connection, name):
        if not isinstance(one, str) or len(one) > _MOST_NAME:
            raise UnreadableWakeUp
    return Bucket(connection, name)


def _cleaned(message: dict[str, Any], queue: str) -> dict[str, Any]:
    """Return a wake-up that says what ours say and nothing else; raise UnreadableWakeUp.

    Celery obeys headers (time limits, callbacks, chains, stamps), so none is passed on but the id and the end.
    """
    _bucket(message)
    headers, properties = message.get("headers"), message.get("properties")
    if not isinstance(headers, dict) or not isinstance(properties, dict) or headers.get("task") not in _DELIVER_TASKS:
        raise UnreadableWakeUp
    id_, tag, expires = headers.get("id"), properties.get("delivery_tag"), headers.get("expires")
    if not isinstance(id_, str) or not isinstance(tag, str):
        raise UnreadableWakeUp
    arguments = json.loads(b64decode(message["body"]))[0]
    return {
        "body": b64encode(json.dumps([arguments, {}, {}]).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": DELIVER_TASK,
            "id": id_,
            "root_id": id_,
            "parent_id": None,
            "group": None,
            "retries": 0,
            "timelimit": [None, None],
            "eta": None,
            "expires": expires if _is_moment(expires) else None,
            "argsrepr": repr(tuple(arguments)),
            "kwargsrepr": "{}",
        },
        "properties": {
            "correlation_id": id_,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": tag,
        },
    }


def _is_moment(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


class Channel(RedisChannel):
    """Speaks to the server that the address names, as `consent.broker.address` reads it."""

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - the library's shape
        address = read_broker_address(self.connection.client.hostname)
        self.connection_class = cast("type[redis.Connection]", address.connection_class)
        params = cast("dict[str, Any]", super()._connparams(asynchronous))
        if address.path:
            for name in ("socket_connect_timeout", "socket_keepalive", "socket_keepalive_options"):
                params.pop(name, None)
        return params | address.options

    def _brpop_read(self, **options: Any) -> Any:
        """Take the next entry; one that is no JSON at all is dropped, and logged."""
        try:
            return super()._brpop_read(**options)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            _log.warning("wake-up.unreadable", reason=type(error).__name__)
            raise Empty from None


class Transport(RedisTransport):
    """A transport without broadcasts, so without remote control, and for which a refusal is a lost connection.

    A server that has become a replica (READONLY, UNBLOCKED), loads its data, or has no memory left answers with errors
    in place of results. The library lets them end the worker; here the worker connects anew until it is served.
    """

    Channel = Channel
    driver_type = "optrelay"  # Celery then leaves out gossip and mingle, which would listen to broadcasts
    can_parse_url = True  # the whole address is handed over: see Channel._connparams
    connection_errors = (*RedisTransport.connection_errors, redis.ResponseError)
    implements = RedisTransport.implements.extend(exchange_type=frozenset(["direct"]))

    def _deliver(self, message: Any, queue: str) -> None:
        try:
            clean = _cleaned(message if isinstance(message, dict) else {}, queue)
        except UnreadableWakeUp:
            _log.warning("wake-up.unreadable", reason="it is no wake-up")
            return
        super()._deliver(clean, queue)
