"""Events from a RabbitMQ queue (AMQP 0-9-1): acknowledged by hand, after the commit.

https://www.rabbitmq.com/docs/consumers
"""

from __future__ import annotations

import secrets
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from amqp.exceptions import AccessRefused, NotAllowed, NotFound
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.exceptions import KombuError
from kombu.messaging import Consumer

from consent.errors import ConfigurationError, SourceUnavailable
from producers.events.event import Event
from producers.events.sources.amqp_messages import (
    UNREADABLE,
    accept_unreadable_properties,
    body_of,
    headers_of,
    printable,
    published_at,
)
from producers.events.sources.source import MOST_BYTES, Sizes, read_address
from producers.parsing.error_messages import RowError

SCHEMES = ("amqp", "amqps")
EXAMPLE = "amqp://user:password@localhost:5672/vhost?queue=consent"
HEARTBEAT_SECONDS = 30.0
_MOMENT = 0.005  # how long the next message may take to belong to the same batch
_AHEAD = 2  # batches that the broker may have sent before the first is acknowledged
_MOST_BYTES_AHEAD = 64 * 1024 * 1024
_MOST_AHEAD = 65_535  # prefetch is a 16-bit number


class Amqp:
    """A consumer of one durable queue.

    A message's `timestamp` is when it was published, its `message_id` identifies it. A queue that exists is used as it
    is; one that does not is declared durable.
    """

    kind = "amqp queue"

    def __init__(self, url: str, consumer: str) -> None:
        address = read_address(url, ("queue", "heartbeat", "ca"))
        self._queue = address.options.get("queue", "")
        if not self._queue:
            raise ConfigurationError(f"the address of a RabbitMQ source lacks its queue: write it like {EXAMPLE}")
        self._consumer = consumer
        self._heartbeat = address.number("heartbeat", HEARTBEAT_SECONDS)
        self._server = address.server
        self._ssl = _tls(address.server, address.options.get("ca")) if address.scheme == "amqps" else False
        self.name = f"{address.shown} queue {self._queue}"
        self._connection: Any = None
        self._channel: Any = None
        self._session = ""
        self._reader: Any = None
        self._came: deque[Event] = deque()
        self._bytes = self._ahead = 0
        self._is_too_far_ahead = False
        self._sizes, self._beaten = Sizes(), 0.0
        accept_unreadable_properties()

    def read(self, most: int, wait_seconds: float, most_bytes: int = MOST_BYTES) -> Sequence[Event]:
        """Return up to `most` events of about `most_bytes` as soon as there is one, or none after a while."""
        with self._translated_errors():
            if self._is_too_far_ahead:
                self._drop_connection()
            connection = self._connection or self._connect(most, most_bytes)
            self._receive(most, most_bytes, wait_seconds)
            connection.heartbeat_check()  # not before: until something is read, the broker's heartbeats are not seen
            events = list(self._given_out(most, most_bytes))
            if self._sizes.saw(events):
                self._adapt(most, most_bytes)
        return events

    def _receive(self, most: int, most_bytes: int, wait: float) -> None:
        """Read what has come, and no more than fits: the rest waits at the broker and in the network."""
        with suppress(TimeoutError):
            while len(self._came) < most and self._bytes < most_bytes:
                self._connection.drain_events(timeout=_MOMENT if self._came else wait)

    def _given_out(self, most: int, most_bytes: int) -> Iterator[Event]:
        for _ in range(min(most, len(self._came))):
            event = self._came.popleft()
            self._bytes -= event.size
            most_bytes -= event.size
            yield event
            if most_bytes <= 0:
                break

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Send heartbeats from a thread, however long the ledger takes: a lost connection gives everything back."""
        done = threading.Event()
        beating = threading.Thread(target=self._beat_until, args=(done,), name="heartbeats", daemon=True)
        beating.start()
        try:
            yield
        finally:
            done.set()
            beating.join()

    def _beat_until(self, done: threading.Event) -> None:
        with suppress(*_errors(self._connection)):  # the next use of the connection notices that it is lost
            while not done.wait(self._heartbeat / 3):
                self._connection.connection.send_heartbeat()

    def keep_alive(self) -> None:
        """Send heartbeats and read what has come, as far as there is room."""
        if self._connection is None:
            return
        with self._translated_errors():
            if self._bytes < MOST_BYTES:
                self._receive(_MOST_AHEAD, MOST_BYTES, _MOMENT)
                self._connection.heartbeat_check()
            elif time.monotonic() - self._beaten > self._heartbeat / 3:
                self._beaten = time.monotonic()
                self._connection.connection.send_heartbeat()

    def acknowledge(self, events: Sequence[Event]) -> None:
        """Let the broker forget events: they and all that were read before them are recorded."""
        if not events:
            return
        with self._translated_errors():
            self._channel.basic_ack(events[-1].receipt, multiple=True)

    def close(self) -> None:
        """End the connection; the broker delivers what was not acknowledged to another consumer."""
        connection, self._connection, self._channel = self._connection, None, None
        self._came.clear()
        self._bytes, self._is_too_far_ahead = 0, False
        if connection is not None:
            with suppress(*_errors(connection)):
                connection.release()

    def _drop_connection(self) -> None:
        """End the connection without reading what is on its way: an orderly close would read all of it."""
        with suppress(*_errors(self._connection)):
            self._connection.connection.collect()
        self.close()

    def _connect(self, most: int, most_bytes: int) -> Any:
        connection: Any = Connection(
            self._server,
            ssl=self._ssl,
            heartbeat=round(self._heartbeat),
            connect_timeout=5,
            transport_options={"client_properties": {"connection_name": f"optrelay listen {self._consumer}"}},
        )
        self._connection, self._session = connection, secrets.token_hex(4)
        connection.ensure_connection(max_retries=1, interval_start=0, reraise_as_library_errors=False)
        queue: Any = Queue(self._queue, durable=True, no_declare=True)
        self._channel = self._channel_of(connection, queue)
        self._reader = Consumer(self._channel, [queue], on_message=self._take, auto_declare=False)
        self._ahead = 0
        self._adapt(most, most_bytes)
        return connection

    def _adapt(self, most: int, most_bytes: int) -> None:
        """Let the broker send about two batches ahead, by the size of what has come: RabbitMQ counts messages only.

        A limit holds for consumers that begin after it was set, so ours begins anew if it has changed much; one for the
        whole channel is refused for quorum queues: https://www.rabbitmq.com/docs/consumer-prefetch
        """
        wanted = _AHEAD * self._sizes.fitting(most_bytes, min(most, _MOST_AHEAD // _AHEAD))
        if self._ahead // 2 < wanted < max(self._ahead * 2, 1):
            return
        if wanted < self._ahead and self._ahead * self._sizes.bytes_each > _MOST_BYTES_AHEAD:
            self._is_too_far_ahead = True  # to cancel would mean to read all of it; a new connection gives it back
            return
        self._reader.cancel()
        self._channel.basic_qos(0, wanted, a_global=False)
        self._reader.consume()
        self._ahead = wanted

    def _channel_of(self, connection: Any, queue: Any) -> Any:
        """Return a channel on which the queue is known to exist."""
        channel = connection.channel()
        try:
            queue(channel).queue_declare(passive=True)
        except NotFound:
            channel = connection.channel()  # the broker has closed the first one
            queue(channel).queue_declare()
        return channel

    def _take(self, message: Any) -> None:
        if self._connection is None:
            return  # it came while the connection was being closed, and comes again
        try:
            event = self._event(message)
        except (ValueError, TypeError, AttributeError):
            event = self._unreadable(message)
        self._came.append(event)
        self._bytes += event.size

    def _event(self, message: Any) -> Event:
        properties: Mapping[str, Any] = message.properties
        if properties.get("type") == UNREADABLE:
            return self._unreadable(message)
        id_ = properties.get("message_id") or None
        place = f"{self.name}, message {printable(id_)}" if id_ else self._delivery(message)
        headers = dict(headers_of(message))
        since = published_at(message)
        return Event(
            body_of(message),
            headers,
            place,
            since,
            id_,
            since_is_own=True,
            sender=self.name,
            receipt=message.delivery_tag,
        )

    def _unreadable(self, message: Any) -> Event:
        return Event(body_of(message), place=self._delivery(message), error=_UNREADABLE, receipt=message.delivery_tag)

    def _delivery(self, message: Any) -> str:
        """Return the place of a message without an id: delivered again over another connection it is another one."""
        return f"{self.name}, delivery {self._session}-{message.delivery_tag}"

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Turn the library's errors into ours."""
        try:
            yield
        except (AccessRefused, NotAllowed):
            raise ConfigurationError(f"{self.name}: the broker refuses our user, password, vhost or rights") from None
        except _errors(self._connection) as error:
            raise SourceUnavailable(f"{self.name} cannot be reached ({type(error).__name__})") from error


def _errors(connection: Any) -> tuple[type[Exception], ...]:
    """Return what the library may raise when the connection or the queue is lost, which includes AttributeError."""
    own = (*connection.connection_errors, *connection.channel_errors) if connection is not None else ()
    return (*own, KombuError, OSError, AttributeError)


def _tls(server: str, authorities: str | None) -> dict[str, object]:
    """Return the options that verify the broker's certificate and name."""
    checked: dict[str, object] = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": urlsplit(server).hostname}
    return checked | ({"ca_certs": authorities} if authorities else {})


_UNREADABLE = RowError(
    "unreadable_properties",
    "the message's properties cannot be read: check its timestamps, and publish it again",
)
