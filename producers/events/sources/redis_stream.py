"""Events from a Redis or Valkey stream, through a consumer group.

https://redis.io/docs/latest/develop/data-types/streams/
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consent.broker.address import read_broker_address, why_unreachable
from consent.errors import ConfigurationError, SourceUnavailable
from producers.events.event import Event
from producers.events.sources.source import MOST_BYTES, Sizes, read_address
from producers.parsing.error_messages import RowError

SCHEMES = ("redis", "rediss", "unix", "redis+socket")
EXAMPLE = "redis://localhost:6379/0?stream=consent&group=optrelay"
CLAIM_AFTER_SECONDS = 60.0
_FIRST_BELIEVED = 946_684_800_000  # 2000-01-01: a smaller id was chosen by the publisher and is no time
_ANSWER_SECONDS = 10.0
_PING_SECONDS = 20.0
_MOST_ASKED = 100  # entries in one answer: they are in memory before their size is known
_GONE = ("NOGROUP", "UNBLOCKED")
"""Errors after which the stream or the group is gone: it was deleted."""

Entry = tuple[bytes, Sequence[bytes] | None]
"""An id with its fields' names and values in turn: in a dictionary one name twice could not be seen."""


class RedisStream:
    """One consumer of a group: its own pending entries first, then those of dead consumers, then new ones.

    An entry is one field `event` that holds JSON, or flat fields named like our columns. Entries stay in the stream.
    """

    kind = "redis stream"

    def __init__(self, url: str, consumer: str) -> None:
        address = read_address(url, ("stream", "group", "claim_after"))
        self._stream = address.options.get("stream", "")
        self._group = address.options.get("group", "") or "optrelay"
        if not self._stream:
            raise ConfigurationError(f"the address of a Redis stream lacks its stream: write it like {EXAMPLE}")
        self._consumer = consumer
        self._claim_after = address.number("claim_after", CLAIM_AFTER_SECONDS)
        self._client = _client(address.server)
        self.name = f"{address.shown} stream {self._stream}"
        self._ready, self._may_create = False, True
        self._sizes, self._spoke = Sizes(), 0.0
        self._own: bytes | None = b"0"
        self._abandoned = b"0-0"
        self._look_again = 0.0
        self._is_behind, self._noted = True, b""

    def read(self, most: int, wait_seconds: float, most_bytes: int = MOST_BYTES) -> Sequence[Event]:
        """Return up to `most` events of about `most_bytes` as soon as there is one, or none after a while."""
        with self._translated_errors():
            if not self._ready:
                self._make_group()
            for portions in (self._own_pending, self._abandoned_entries, partial(self._new, wait_seconds)):
                if events := self._read_portions(portions, most, most_bytes):
                    return events
            return []

    def _read_portions(self, portions: Callable[[int, bool], list[Event]], most: int, most_bytes: int) -> list[Event]:
        """Read portion by portion, for the server counts entries and not bytes."""
        events: list[Event] = []
        while len(events) < most and most_bytes > 0:
            asked = self._sizes.fitting(most_bytes, min(most - len(events), _MOST_ASKED))
            came = portions(asked, not events)
            events += came
            most_bytes -= self._sizes.saw(came)
            if len(came) < asked:
                break
        return events

    def recording(self) -> AbstractContextManager[None]:
        """Do nothing: the server waits as long as it takes."""
        return nullcontext()

    def keep_alive(self) -> None:
        """Send a PING, so that no proxy takes the connection for dead; a lost one is opened anew when it is used."""
        if time.monotonic() - self._spoke > _PING_SECONDS:
            self._spoke = time.monotonic()
            with suppress(redis.RedisError, OSError):
                self._client.ping()

    def acknowledge(self, events: Sequence[Event]) -> None:
        """Take events off the group's list of pending ones."""
        with self._translated_errors():
            self._forget([event.receipt for event in events if event.receipt is not None])

    def close(self) -> None:
        """Let go of the connection; it is opened anew when it is needed, and what was pending is read again."""
        self._client.close()
        self._ready, self._own, self._abandoned, self._look_again = False, b"0", b"0-0", 0.0
        self._is_behind = True

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Turn the library's errors into ours."""
        try:
            yield
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
            raise ConfigurationError(f"{self.name}: the server refuses {_refused(error)}") from None
        except redis.ResponseError as error:
            word = str(error).partition(" ")[0]
            if word == "WRONGTYPE":
                raise ConfigurationError(f"{self.name}: this key is there and is no stream") from None
            if word == "NOGROUP" and not self._may_create:
                raise ConfigurationError(f"{self.name}: {self._how_to_create()}") from None
            message = "stream or group was deleted; it is made anew" if word in _GONE else f"the server says {word}"
            raise SourceUnavailable(f"{self.name}: {message}") from error
        except (redis.RedisError, OSError) as error:
            raise SourceUnavailable(f"{self.name} cannot be reached ({why_unreachable(error)})") from error

    def _make_group(self) -> None:
        """Make the group if it is not there; a user without that right relies on a group that is there."""
        with suppress(redis.exceptions.NoPermissionError):
            self._client.client_setname("optrelay-listen")  # shown in CLIENT LIST; it works without
        try:
            self._client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except redis.exceptions.NoPermissionError:
            self._may_create = False
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        self._ready = True

    def _how_to_create(self) -> str:
        command = f"XGROUP CREATE {self._stream} {self._group} 0 MKSTREAM"
        return f"there is no group {self._group}, and our user may not make one: run `{command}` as another user"

    def _own_pending(self, most: int, _is_first: bool = True) -> list[Event]:  # noqa: FBT001, FBT002 - like _new
        """Return what was delivered to this consumer before and never acknowledged."""
        while self._own is not None:
            entries = self._group_read(self._own, most, None)
            self._own = entries[-1][0] if entries else None
            if events := self._events(entries):
                return events
        return []

    def _abandoned_entries(self, most: int, _is_first: bool = True) -> list[Event]:  # noqa: FBT001, FBT002
        """Claim what other consumers have held for too long; look again only now and then."""
        while time.monotonic() >= self._look_again:
            idle = int(self._claim_after * 1000)
            reply: Any = self._client.xautoclaim(
                self._stream, self._group, self._consumer, idle, self._abandoned, count=most
            )
            self._abandoned, entries = reply[0], _entries(reply[1])
            entries += [(id_, None) for id_ in reply[2]] if len(reply) > 2 else []  # noqa: PLR2004 - deleted, from 7.0 on
            if self._abandoned == b"0-0":
                self._look_again = time.monotonic() + self._claim_after / 2
            if events := self._events(entries):
                return events
        return []

    def _new(self, wait_seconds: float, most: int, is_first: bool) -> list[Event]:  # noqa: FBT001
        """Return new entries; wait for the first of a batch only."""
        if is_first and self._is_behind and (lost := self._deleted_unread()):
            return lost
        entries = self._group_read(b">", most, max(1, int(wait_seconds * 1000)) if is_first else None)
        self._is_behind = len(entries) == most
        return self._events(entries)

    def _deleted_unread(self) -> list[Event]:
        """Return an event that tells how many entries were deleted before the group was given them, if any were.

        A server before Redis 7 does not count what was added; one that we may not ask tells nothing.
        """
        try:
            with self._client.pipeline() as both:
                both.xinfo_stream(self._stream)
                both.xinfo_groups(self._stream)
                stream, groups = both.execute()
        except redis.ResponseError:  # what is wrong, such as a stream that was deleted, reading it will say
            return []
        group: dict[str, Any] = next((one for one in groups if one["name"] == self._group.encode()), {})
        added, read, last = stream.get("entries-added"), group.get("entries-read"), group.get("last-delivered-id")
        if added is None or read is None or last is None or last == self._noted:
            return []
        first = stream["first-entry"]
        lost = added - read - stream["length"]
        if lost <= 0 or (first and _order(first[0]) <= _order(last)):
            return []
        self._noted = last
        place = f"{self.name}, entries after {last.decode()}"
        return [Event(b"", place=place, error=RowError("deleted_unread", _DELETED_UNREAD.format(f"{lost:,}")))]

    def _group_read(self, after: bytes, most: int, block: int | None) -> list[Entry]:
        reply: Any = self._client.xreadgroup(
            self._group, self._consumer, {self._stream: after}, count=most, block=block
        )
        streams = reply.values() if isinstance(reply, dict) else [one[1] for one in reply or ()]
        return [entry for entries in streams for entry in _entries(entries)]

    def _events(self, entries: Sequence[Entry]) -> list[Event]:
        """Return entries as events; of one that was deleted while it was pending only the place is left."""
        return [self._event(id_, fields) if fields else self._deleted(id_) for id_, fields in entries]

    def _deleted(self, id_: bytes) -> Event:
        return Event(b"", place=f"{self.name}, entry {id_.decode()}", error=_DELETED, receipt=id_)

    def _forget(self, ids: Sequence[Any]) -> None:
        if ids:
            self._client.xack(self._stream, self._group, *ids)

    def _event(self, id_: bytes, raw: Sequence[bytes]) -> Event:
        place = f"{self.name}, entry {id_.decode()}"
        since, fields = _moment(id_), dict(zip(raw[::2], raw[1::2], strict=True))
        if 2 * len(fields) != len(raw):
            return Event(_as_json(raw), place=place, since=since, sender=self.name, receipt=id_)
        if (body := fields.get(b"event")) is not None:
            return Event(body, place=place, since=since, sender=self.name, receipt=id_)
        flat = {_text(name): _text(value) for name, value in fields.items()}
        whole = all(one.isascii() or _is_whole(one) for pair in flat.items() for one in pair)
        return Event(flat, place=place, since=since, sender=self.name, error=None if whole else _NOT_UTF8, receipt=id_)


def _refused(error: Exception) -> str:
    """Return which command our user may not use, if the server names it."""
    found = _COMMAND.search(str(error))
    return f"our user the command {found[1].upper()}" if found else "our user, password or rights"


_COMMAND = re.compile(r"permissions to run the '([a-z|]+)' command")


def _entries(reply: Sequence[Any] | None) -> list[Entry]:
    return [(entry[0], entry[1]) for entry in reply or () if entry]


def _as_sent(response: Any, **_options: object) -> Any:
    """Return a reply as the server sent it."""
    return response


def _as_json(raw: Sequence[bytes]) -> bytes:
    """Return fields of which one stands twice as a JSON object that says so: it is refused like any other."""
    parts = [json.dumps(_text(part)) for part in raw]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return f"{{{', '.join(f'{name}: {value}' for name, value in pairs)}}}".encode()


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")


def _is_whole(text: str) -> bool:
    """Whether a text was UTF-8: bytes that were none came through as halves of surrogate pairs."""
    return not any("\ud800" <= one <= "\udfff" for one in text)


def _moment(id_: bytes) -> datetime | None:
    """Return when an entry was published; None if its id is not a time of day but a number of the publisher's own."""
    millis = int(id_.partition(b"-")[0])
    try:
        return datetime.fromtimestamp(millis / 1000, UTC) if millis >= _FIRST_BELIEVED else None
    except (OverflowError, ValueError, OSError):
        return None


def _order(id_: bytes) -> tuple[int, int]:
    """Return an id as what the server orders it by."""
    millis, _, number = id_.partition(b"-")
    return int(millis), int(number or 0)


def _client(server: str) -> redis.Redis:
    """Return a client that does not retry: entries of a reply that was lost are in our pending list."""
    address = read_broker_address(server, "the address of a Redis stream", EXAMPLE)
    connecting = {} if address.path else {"socket_connect_timeout": 5.0}
    client = address.client(retry=Retry(NoBackoff(), 0), socket_timeout=_ANSWER_SECONDS, **connecting)
    for command in ("XREADGROUP", "XAUTOCLAIM"):
        client.set_response_callback(command, _as_sent)
    return client


_NOT_UTF8 = RowError("bad_encoding", "a field of the entry is not UTF-8: publish it again")
_DELETED = RowError(
    "deleted_entry",
    "the entry was deleted from the stream before it was acknowledged: publish it again, unless it was recorded before,"
    " and trim the stream less",
)
_DELETED_UNREAD = (
    "entries were deleted from the stream before they were read, as many as {}: find out from their publisher what they"
    " said, publish it again, and trim the stream less"
)
