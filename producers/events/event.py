"""An event as it leaves its source, before anybody has tried to understand it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from producers.parsing.error_messages import RowError

LONGEST_EVENT = 1024 * 1024
"""Bytes of the longest event that is read; a longer one is refused."""


@dataclass(frozen=True, slots=True)
class Event:
    """One message of a source: bytes that should be JSON, or fields under our column names.

    `headers` are its headers or properties with lower-case names (`content-type`, `ce-id`, …). `place` says where it
    stands in its source, for ever, so that a refused one is recorded once; `since` is when the source says that it was
    published, for events that name no time, and `since_is_own` whether that is its sender's word; `sender` says in
    whose name its ids are unique; `key` makes it known again if it names no id of its own, together with the place of
    the change in the event, where `first` is that of the first one. `fault` says why the source could not even read it;
    `receipt` is what the source needs to acknowledge it.
    `is_answered` says that its sender waits, and is told if nothing in it can be read.
    """

    body: bytes | Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    place: str | None = None
    since: datetime | None = None
    key: str | None = field(default=None, repr=False)
    since_is_own: bool = False
    sender: str = ""
    fault: RowError | None = None
    receipt: object = field(default=None, repr=False, compare=False)
    first: int = 0
    is_answered: bool = False

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


class EventChange(NamedTuple):
    """One change as an event puts it: fields under any spelling of our names, and what the envelope says.

    `change_id` makes it known again and overrules the fields; `since` holds if they name no time (ISO 8601).
    """

    fields: Mapping[str, Any]
    change_id: str | None = None
    since: str | None = None
