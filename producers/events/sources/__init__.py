"""The sources of events: one module for each kind, and which of them an address means."""

from __future__ import annotations

from consent.errors import ConfigurationError
from producers.events.sources import amqp, redis_stream
from producers.events.sources.source import Source

_FORMS = f"{redis_stream.EXAMPLE} or {amqp.EXAMPLE}"


def open_source(url: str, consumer: str) -> Source:
    """Return the source of this address, not connected yet; `consumer` names us to it.

    Raises ConfigurationError, with an example and never with a password, for an address that cannot be used.
    """
    scheme = url.strip().partition("://")[0].lower() if "://" in url else ""
    if scheme in redis_stream.SCHEMES:
        return redis_stream.RedisStream(url, consumer)
    if scheme in amqp.SCHEMES:
        return amqp.Amqp(url, consumer)
    what = f"{scheme}:// is no source of events that has been tried" if scheme else "there is no address of a source"
    raise ConfigurationError(f"{what}; write {_FORMS}")
