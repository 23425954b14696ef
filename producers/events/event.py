"""An event as it leaves its source, and one change in it as its form gives it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from consent.imports import MOST_KEPT, EventContent
from producers.parsing.error_messages import RowError

LONGEST_EVENT = 1024 * 1024
"""Bytes of the longest event that is read; a longer one is refused."""

MOST_CHANGES = 10_000
"""Changes that one event may hold: each member of a list that it names is one."""

NDJSON = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
CLOUDEVENT = "application/cloudevents+json"
CLOUDEVENT_BATCH = "application/cloudevents-batch+json"
"""Media types of events; any other is plain JSON."""

UNREADABLE = frozenset({"bad_json", "bad_cloudevent", "event_too_large"})
"""Codes of events in which no change can be seen."""


@dataclass(frozen=True, slots=True)
class Event:
    """One message of a source: bytes that should be JSON, or fields under our column names.

    * `headers`: its headers or properties with lower-case names (`content-type`, `ce-id`, …).
    * `place`: where it stands in its source, always the same, so that a rejected one is recorded once.
    * `since`: when it was published, for changes that name no time; `since_is_own` says that its sender wrote that.
    * `sender`: the scope in which its ids are unique.
    * `key`: the id of an event whose changes have none, together with the place of the change, counted from `first`.
    * `error`: why the source could not even read it.
    * `receipt`: what the source needs to acknowledge it.
    * `is_answered`: its sender waits for an answer, which says if nothing in it can be read.
    * `sent_by`: the name of the API key that it came by ("": its source has one sender alone).
    * `optouts_only`: its sender may opt out and nothing else.
    """

    body: bytes | Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    place: str | None = None
    since: datetime | None = None
    key: str | None = field(default=None, repr=False)
    since_is_own: bool = False
    sender: str = ""
    error: RowError | None = None
    receipt: object = field(default=None, repr=False, compare=False)
    first: int = 0
    is_answered: bool = False
    optouts_only: bool = False
    sent_by: str = ""

    @property
    def size(self) -> int:
        """How many bytes it is, roughly."""
        if isinstance(self.body, bytes):
            return len(self.body)
        return sum(len(name) + len(value) for name, value in self.body.items())

    @property
    def text(self) -> bytes:
        """The event as bytes; flat fields as a JSON object, in which bytes that are no UTF-8 stay what they are."""
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(dict(self.body), ensure_ascii=False).encode(errors="surrogateescape")

    def where(self, place: int) -> str | None:
        """Say where one of its changes stands in its source."""
        position = self.first + place
        return f"{self.place}, change {position + 1}" if self.place is not None and position else self.place

    def content(self, text: bytes, place: int) -> EventContent:
        """Return what is kept of one of its changes that was rejected: this text, and what its sender said with it."""
        source = (self.since, self.key, self.first + place, self.since_is_own, self.sender)
        return EventContent(text[:MOST_KEPT], len(text), self.headers, *source)


class EventChange(NamedTuple):
    """One change in an event: fields under any spelling of our names, and the id and time of its envelope.

    `change_id` makes it known again and overrules the fields; `since` holds if they name no time (ISO 8601).
    """

    fields: Mapping[str, Any]
    change_id: str | None = None
    since: str | None = None
