"""Events from a RabbitMQ queue (AMQP 0-9-1): acknowledged by hand, after the commit.

CloudEvents in binary mode carry their attributes in headers named `ce-type`, `cloudEvents:type` or `cloudEvents_type`:
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/amqp-protocol-binding.md
"""

from __future__ import annotations

import secrets
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from amqp.exceptions import AccessRefused, NotAllowed, NotFound
from cloudevents.core.bindings.common import encode_header_value
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.exceptions import KombuError
from kombu.messaging import Consumer

from consent.errors import ConfigurationError, SourceUnavailable
from producers.events.event import Event
from producers.events.sources.amqp_messages import UNREADABLE, forgive_unreadable_properties
from producers.events.sources.source import MOST_BYTES, Sizes, read_address
from producers.parsing.error_messages import RowError

SCHEMES = ("amqp", "amqps")
EXAMPLE = "amqp://user:password@localhost:5672/vhost?queue=consent"
HEARTBEAT_SECONDS = 30.0
_MOMENT = 0.005  # how long the next message may take to belong to the same batch
_AHEAD = 2  # batches that the broker may have sent before the first is acknowledged
_MOST_BYTES_AHEAD = 64 * 1024 * 1024
_MOST_AHEAD = 65_535  # prefetch is a 16-bit number
_TOO_LATE = 100_000_000_000  # the year 5138: such a timestamp is in milliseconds
_PREFIXES = ("ce-", "cloudevents:", "cloudevents_")


class Amqp:
    """A consumer of one durable queue.

    The message's `timestamp` is when it was published, its `message_id` makes it known again. A queue that exists is
    used as it is; one that does not is declared durable.
    """

    kind = "amqp queue"

    def __init__(self, url: str, consumer: str) -> None:
        address = read_address(url, ("queue", "heartbeat", "ca"))
        self._queue = address.options.get("queue", "")
        if not self._queue:
            raise ConfigurationError(f"the address of a RabbitMQ source names the queue: {EXAMPLE}")
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
        forgive_unreadable_properties()

    def read(self, most: int, wait_seconds: float, most_bytes: int = MOST_BYTES) -> Sequence[Event]:
        """Return up to `most` events of about `most_bytes` as soon as there is one, or none after a while."""
        with self._told_well():
            if self._is_too_far_ahead:
                self._hang_up()
            connection = self._connection or self._connect(most, most_bytes)
            self._take_in(most, most_bytes, wait_seconds)
            connection.heartbeat_check()  # not before: while no one reads, the broker's heartbeats are not seen
            events = list(self._given_out(most, most_bytes))
            if self._sizes.saw(events):
                self._adapt(most, most_bytes)
        return events

    def _take_in(self, most: int, most_bytes: int, wait: float) -> None:
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
        with suppress(*_errors(self._connection)):  # a lost connection is noticed by who uses it next
            while not done.wait(self._heartbeat / 3):
                self._connection.connection.send_heartbeat()

    def keep_alive(self) -> None:
        """Send heartbeats and read what has come, as far as there is room."""
        if self._connection is None:
            return
        with self._told_well():
            if self._bytes < MOST_BYTES:
                self._take_in(_MOST_AHEAD, MOST_BYTES, _MOMENT)
                self._connection.heartbeat_check()
            elif time.monotonic() - self._beaten > self._heartbeat / 3:
                self._beaten = time.monotonic()
                self._connection.connection.send_heartbeat()

    def acknowledge(self, events: Sequence[Event]) -> None:
        """Let the broker forget events: they and everything that was read before them is recorded."""
        if not events:
            return
        with self._told_well():
            self._channel.basic_ack(events[-1].receipt, multiple=True)

    def close(self) -> None:
        """End the connection; the broker gives what was not acknowledged to someone else."""
        connection, self._connection, self._channel = self._connection, None, None
        self._came.clear()
        self._bytes, self._is_too_far_ahead = 0, False
        if connection is not None:
            with suppress(*_errors(connection)):
                connection.release()

    def _hang_up(self) -> None:
        """End the connection without reading what is on its way: to say goodbye would mean to read all of it."""
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
        self._channel = self._at_the_queue(connection, queue)
        self._reader = Consumer(self._channel, [queue], on_message=self._take, auto_declare=False)
        self._ahead = 0
        self._adapt(most, most_bytes)
        return connection

    def _adapt(self, most: int, most_bytes: int) -> None:
        """Let the broker send about two batches ahead, by the size of what has come: RabbitMQ counts messages only.

        A limit holds for consumers that begin after it was set, so we begin anew if it has changed much; one for the
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

    def _at_the_queue(self, connection: Any, queue: Any) -> Any:
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
        place = f"{self.name}, message {_printable(id_)}" if id_ else self._delivery(message)
        headers = dict(_headers(message.headers, message.content_type))
        since = _moment(properties.get("timestamp"))
        return Event(
            _body(message),
            headers,
            place,
            since,
            id_,
            since_is_own=True,
            sender=self.name,
            receipt=message.delivery_tag,
        )

    def _unreadable(self, message: Any) -> Event:
        return Event(_body(message), place=self._delivery(message), fault=_UNREADABLE, receipt=message.delivery_tag)

    def _delivery(self, message: Any) -> str:
        """Say where a message without an id stands: delivered again over another connection it is another one."""
        return f"{self.name}, delivery {self._session}-{message.delivery_tag}"

    @contextmanager
    def _told_well(self) -> Iterator[None]:
        """Turn the library's errors into ours."""
        try:
            yield
        except (AccessRefused, NotAllowed):
            raise ConfigurationError(f"{self.name}: the broker refuses our user, password, vhost or rights") from None
        except _errors(self._connection) as error:
            raise SourceUnavailable(f"{self.name} cannot be reached ({type(error).__name__})") from error


def _body(message: Any) -> bytes:
    return message.body.encode(errors="surrogateescape") if isinstance(message.body, str) else bytes(message.body)


def _errors(connection: Any) -> tuple[type[Exception], ...]:
    """Return what the library may raise when the connection or the queue is lost; AttributeError, too, it says."""
    own = (*connection.connection_errors, *connection.channel_errors) if connection is not None else ()
    return (*own, KombuError, OSError, AttributeError)


def _headers(said: Mapping[str, Any], content_type: object) -> Iterator[tuple[str, str]]:
    """Give a message's headers under lower-case names, a CloudEvent's attributes as HTTP would write them."""
    if content_type:
        yield "content-type", str(content_type)
    for name, value in said.items():
        prefix = next((one for one in _PREFIXES if name.lower().startswith(one)), None)
        if prefix is not None:
            attribute = name.lower().removeprefix(prefix)
            yield f"ce-{attribute}", encode_header_value(_attribute(attribute, value))


def _attribute(name: str, value: object) -> object:
    """Return an attribute's value; AMQP may write a time as milliseconds, and its own times have no zone."""
    match value:
        case datetime():
            return value.replace(tzinfo=UTC)
        case bool():
            return str(value).lower()
        case int() if name == "time":
            with suppress(ValueError, OverflowError, OSError):
                return datetime.fromtimestamp(value / 1000, UTC)
    return value


def _moment(timestamp: object) -> datetime | None:
    """Return when a message was published; None if no one says so in seconds, as the protocol wants it."""
    if not isinstance(timestamp, int) or not 0 < timestamp < _TOO_LATE:
        return None
    return datetime.fromtimestamp(timestamp, UTC)


def _printable(id_: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in id_)


def _tls(server: str, authorities: str | None) -> dict[str, object]:
    """Return how to check that the broker is who it says."""
    checked: dict[str, object] = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": urlsplit(server).hostname}
    return checked | ({"ca_certs": authorities} if authorities else {})


_UNREADABLE = RowError(
    "unreadable_properties", "the message's properties or headers cannot be read: look at its timestamps"
)
