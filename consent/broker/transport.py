"""How Celery takes wake-ups from Redis: the library's transport, made deaf to everything that is no wake-up.

Who can write to the broker could otherwise end a worker: kombu takes what it cannot read for a fault of its own.
"""

from __future__ import annotations

import os
from queue import Empty
from typing import Any, cast

import redis
import structlog
from kombu.transport.redis import Channel as RedisChannel
from kombu.transport.redis import Transport as RedisTransport

from consent.broker.address import read_broker_address
from consent.broker.message import UnreadableWakeUp, cleaned
from consent.broker.wakeups import KEY_PREFIX

SWEEP_TASK = "optrelay.sweep"

_OF_OTHERS = (
    *("APP", "BROKER_URL", "CONFIG_MODULE", "LOADER", "RESULT_BACKEND"),
    *("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND"),
    *("CELERY_CONFIG_MODULE", "CELERY_LOADER"),
)

_log = structlog.get_logger()


def forget_other_programs() -> None:
    """Remove from this process's environment what is meant for another Celery program: for Celery it goes before ours.

    Source: celery/app/utils.py (`Settings.broker_url`) and celery/bin/celery.py (`envvar`) of Celery 5.
    """
    for name in _OF_OTHERS:
        os.environ.pop(name, None)


def broker_settings(broker_url: str) -> dict[str, object]:
    """Return Celery's settings for the broker, the same in every worker; raises ConfigurationError."""
    return {
        "broker_url": read_broker_address(broker_url).url,
        "broker_transport": "consent.broker.transport:Transport",
        "broker_transport_options": {
            "global_keyprefix": KEY_PREFIX,
            "socket_timeout": 30.0,
            "socket_connect_timeout": 5.0,
            "health_check_interval": 25,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
        },
    }


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
            clean = cleaned(message if isinstance(message, dict) else {}, queue)
        except UnreadableWakeUp:
            _log.warning("wake-up.unreadable", reason="it is no wake-up")
            return
        super()._deliver(clean, queue)
