"""A wake-up as it travels: the message of a Celery task, in the form in which kombu keeps it in a list of Redis.

It is written here, and not by Celery, so that what only sends wake-ups need not load it. What comes in is read
strictly: who can write to the broker could otherwise end a worker.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from consent.change import Bucket

DELIVER_TASK = "optrelay.deliver"
_DELIVER_TASKS = {DELIVER_TASK, "optrelay.stroke"}
"""The name, and the one that earlier versions gave it: their wake-ups may still be waiting."""

WAKE_UP_SECONDS = 300
"""A wake-up that no worker took for this long is dropped: the sweep will have sent others."""

CUSTOMERS_A_WAKE_UP = 200
"""Customers for which one more delivery is worth its while: one that takes more at once still leaves some to others."""

_MOST_NAME = 512  # characters of a connection's or a bucket's name


class UnreadableWakeUp(ValueError):
    """An entry of a queue that holds no wake-up."""


def write_wake_up(bucket: Bucket, queue: str) -> str:
    """Return the entry of this queue that wakes a worker for a bucket, if one takes it in time."""
    expires = datetime.now(UTC) + timedelta(seconds=WAKE_UP_SECONDS)
    return json.dumps(_message(bucket, queue, str(uuid4()), str(uuid4()), expires.isoformat()))


def bucket_of(message: bytes | str) -> Bucket:
    """Return the bucket that a wake-up names, from the entry of a queue; raise UnreadableWakeUp."""
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        raise UnreadableWakeUp from None
    if not isinstance(found, dict):
        raise UnreadableWakeUp
    return _bucket(found)


def cleaned(message: dict[str, Any], queue: str) -> dict[str, Any]:
    """Return a wake-up that says what ours say and nothing else; raise UnreadableWakeUp.

    Celery obeys headers (time limits, callbacks, chains, stamps), so none is passed on but the id and the end.
    """
    bucket = _bucket(message)
    headers, properties = message.get("headers"), message.get("properties")
    if not isinstance(headers, dict) or not isinstance(properties, dict) or headers.get("task") not in _DELIVER_TASKS:
        raise UnreadableWakeUp
    id_, tag, expires = headers.get("id"), properties.get("delivery_tag"), headers.get("expires")
    if not isinstance(id_, str) or not isinstance(tag, str):
        raise UnreadableWakeUp
    return _message(bucket, queue, id_, tag, expires if _is_moment(expires) else None)


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


def _is_moment(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _message(bucket: Bucket, queue: str, id_: str, tag: str, expires: str | None) -> dict[str, Any]:
    """Return the message: version 2 of https://docs.celeryq.dev/en/stable/internals/protocol.html."""
    arguments = tuple(bucket)
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
            "expires": expires,
            "argsrepr": repr(arguments),
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
