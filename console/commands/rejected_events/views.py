"""Rejected events as people and programs see them: facts always, what was said only on request."""

from __future__ import annotations

import base64
import io
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from rich.text import Text

from consent.errors import ConfigurationError
from consent.imports import EventContent
from consent.ledger.ledger import Ledger
from consent.ledger.rejected_events import RejectedEvent
from consent.times import from_micros
from console.ui.screen import Screen, table, visible_json

_DAY = 86_400_000_000  # microseconds


def as_json(event: RejectedEvent) -> dict[str, Any]:
    """Return the facts about an event, and nothing of what it said."""
    return {
        "id": event.id,
        "kind": event.kind,
        "source": event.source,
        "place": event.place,
        "code": event.code,
        "message": event.message,
        "field": event.column,
        "bytes": event.size,
        "cut": event.is_cut,
        "import": event.import_id,
        "number": event.line,
        "rejected_at": _iso(event.rejected_at),
        "closed_at": None if event.closed_at is None else _iso(event.closed_at),
        "closed_as": event.closed_as,
        "closed_by": event.closed_by,
        "closed_why": event.closed_why,
    }


def content_as_json(content: EventContent) -> dict[str, Any]:
    """Return what an event said: `event` if it is JSON, else `text`, else `base64`; and the headers beside it."""
    name, value = _content(content)
    body = orjson.loads(content.body) if name == "event" else value
    return {name: body, "headers": dict(content.headers)}


def show_groups(screen: Screen, groups: Counter[tuple[str, str, str, str]]) -> None:
    """Print how many events there are for each source and reason, most first."""
    listed = table("events", "source", "code", "reason", right=("events",))
    for (kind, source, code, message), count in groups.most_common():
        listed.add_row(f"{count:,}", f"{kind} {source}", code, message)
    screen.show(listed)


def show_events(screen: Screen, events: Iterable[RejectedEvent]) -> None:
    """Print events one by one."""
    listed = table("id", "code", "field", "bytes", "place", "rejected (UTC)", right=("id", "bytes"))
    for one in events:
        code = f"{one.code} ({one.closed_as})" if one.closed_as else one.code
        rejected = f"{from_micros(one.rejected_at):%Y-%m-%d %H:%M}"
        listed.add_row(str(one.id), code, one.column or "", f"{one.size:,}", one.place or "", rejected)
    screen.show()
    screen.show(listed)


def show_event(screen: Screen, event: RejectedEvent, content: EventContent | None, days: float) -> None:
    """Print the facts of one event; what it `said` on request. It is kept for so many days."""
    screen.show(Text.assemble((f"rejected event {event.id}", "bold"), f"  {event.code}"))
    size = f"{event.size:,} bytes" + (", of which only the beginning is kept" if event.is_cut else "")
    lines = {
        "reason": event.message,
        "field": event.column or "-",
        "from": f"{event.kind} {event.source} (import {event.import_id}, number {event.line:,})",
        "place": event.place or "-",
        "rejected": f"{_iso(event.rejected_at)}, kept until {_iso(int(event.rejected_at + days * _DAY))}",
        "size": size + ("" if content is not None else "  (--reveal shows them)"),
    }
    if event.closed_at is not None:
        why = f": {event.closed_why}" if event.closed_why else ""
        lines["closed"] = f"{event.closed_as} at {_iso(event.closed_at)} by {event.closed_by}{why}"
    if content is not None:
        lines["headers"] = " ".join(f"{name}={value}" for name, value in content.headers.items()) or "-"
        lines["said"] = content.body.decode(errors="backslashreplace")
    for name, text in lines.items():
        screen.show(f"  {name + ':':9} {_printable(text)}")


def write_lines(ledger: Ledger, events: Iterable[RejectedEvent], path: Path | None) -> None:
    """Write events as JSON lines to a new file for its owner alone, or to standard output; raise ConfigurationError."""
    with _opened(path) as file:
        for event in events:
            file.write(_line(event, ledger.rejected_events.content_of(event.id)) + b"\n")


def _line(event: RejectedEvent, content: EventContent) -> bytes:
    name, value = _content(content)
    facts = {
        "_id": event.id,
        "_code": event.code,
        "_message": event.message,
        "_field": event.column,
        "_source": f"{event.kind} {event.source}",
        "_place": event.place,
        "_published_at": None if content.published_at is None else content.published_at.isoformat(),
    }
    headers = {"headers": dict(content.headers)} if content.headers else {}
    return orjson.dumps(facts | headers | {name: value})


def _content(content: EventContent) -> tuple[str, Any]:
    """Return what an event said, and what to call it: JSON stays as its sender wrote it, in one line."""
    try:
        orjson.loads(content.body)
    except orjson.JSONDecodeError:
        pass
    else:
        return "event", orjson.Fragment(content.body.replace(b"\n", b" ").replace(b"\r", b" "))
    try:
        return "text", content.body.decode()
    except UnicodeDecodeError:
        return "base64", base64.b64encode(content.body).decode()


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    if path is None and sys.stdout.isatty():
        shown = io.BytesIO()
        yield shown
        sys.stdout.write(visible_json(shown.getvalue().decode()))
        return
    if path is None:
        yield sys.stdout.buffer
        return
    try:
        # O_EXCL: a file with other rights, or a link to elsewhere, must not receive people's data.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield file
    except FileExistsError:
        raise ConfigurationError(f"{path} is there already: name a new file, or remove it first") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None


def _printable(text: str) -> str:
    """Return words with control characters written out: a terminal would obey them."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _iso(micros: int) -> str:
    return from_micros(micros).isoformat(timespec="seconds").replace("+00:00", "Z")
