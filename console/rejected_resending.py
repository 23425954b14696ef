"""The use case behind `rejected-events resend`: read events again as they were, or fixed, and record them."""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from consent.errors import ConfigurationError
from consent.imports import RefusedEvent
from consent.ledger.ledger import Ledger
from consent.ledger.rejected_events import Closing, RejectedEvent, close, what_it_said
from console.endings import Code
from console.importing import Doorway, wake_workers
from console.listening import open_doors_for
from console.screen import Screen
from producers.events.event import Event
from producers.events.ingest import EventIntake
from producers.events.strict_json import named_twice, named_twice_anywhere, parse
from producers.parsing.error_messages import Fault

_AT_ONCE = 500  # events in one transaction
_BYTES_AT_ONCE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Resending:
    """What a person wants to be sent again: events, fixed by what a file says about their ids, and how to read them."""

    events: Sequence[RejectedEvent]
    fixed: Mapping[int, Mapping[str, Any]] = field(repr=False)
    connection: str | None
    timezone: str
    who: str
    only_say: bool


def fixed_lines(path: str) -> dict[int, Mapping[str, Any]]:
    """Read the lines of an export by the ids in them; raise ConfigurationError for a line that is none."""
    try:
        lines = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    fixed: dict[int, Mapping[str, Any]] = {}
    for number, line in enumerate(lines.splitlines(), 1):
        if line.strip():
            id_, said = _fixed_line(line, f"line {number}")
            if id_ in fixed:
                raise ConfigurationError(f"line {number}: _id {id_} stands in two lines: keep one")
            fixed[id_] = said
    return fixed


def send_again(door: Doorway, ledger: Ledger, asked: Resending) -> Code:
    """Record what is understood of the events now, and close it; say what is still rejected. Returns the exit code."""
    doors = open_doors_for(door.settings, asked.connection, asked.timezone)
    counts: Counter[str] = Counter()
    rejected: list[dict[str, Any]] = []
    for (kind, source), events in groupby(sorted(asked.events, key=_run), key=_run):
        intake = EventIntake(ledger, doors, kind, source, lambda _: None)
        try:
            for batch in _batches(_readable(ledger, intake, events, asked, rejected)):
                if not asked.only_say:
                    counts.update(_record(ledger, intake, batch, asked.who))
                else:
                    counts["would_be_recorded"] += len(batch)
        finally:
            intake.close()
    if counts["accepted"]:
        wake_workers(door, ledger)
    _tell(door.screen, counts, rejected)
    door.screen.give({"dry_run": asked.only_say, **_named(counts, asked), "still_rejected": rejected})
    return Code.IMPERFECT if rejected else Code.WELL


def _run(event: RejectedEvent) -> tuple[str, str]:
    return event.kind, event.source


def _readable(
    ledger: Ledger,
    intake: EventIntake,
    events: Iterable[RejectedEvent],
    asked: Resending,
    rejected: list[dict[str, Any]],
) -> Iterator[tuple[int, Event]]:
    """Give each event that is understood now; note the others in `rejected`."""
    for one in events:
        event = _event(one, what_it_said(ledger.database, one.id), asked.fixed.get(one.id))
        if faults := [event.fault] if event.fault is not None else intake.faults(event):
            fault = faults[0]
            rejected.append({"id": one.id, "code": fault.code, "message": fault.message, "field": fault.column})
        else:
            yield one.id, event


def _event(one: RejectedEvent, said: RefusedEvent, fixed: Mapping[str, Any] | None) -> Event:
    whose = (said.published_at, said.key, said.is_own_time, said.sender)
    event = Event(said.body, said.headers, one.place, *whose, first=said.position)
    if fixed is not None:
        return replace(event, body=fixed["body"], headers=fixed.get("headers", said.headers), fault=fixed.get("fault"))
    return replace(event, fault=_CUT) if one.is_cut else event


def _batches(events: Iterable[tuple[int, Event]]) -> Iterator[list[tuple[int, Event]]]:
    batch: list[tuple[int, Event]] = []
    size = 0
    for id_, event in events:
        batch.append((id_, event))
        size += len(event.text)
        if len(batch) >= _AT_ONCE or size >= _BYTES_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _record(ledger: Ledger, intake: EventIntake, batch: Sequence[tuple[int, Event]], who: str) -> Counter[str]:
    """Record events, then close those of which every change is in the ledger; in between, resending does no harm."""
    results = intake.take([event for _, event in batch])
    done = [
        id_ for (id_, _), found in zip(batch, results, strict=True) if all(one.status != "rejected" for one in found)
    ]
    close(ledger.database, done, Closing("resent", who), ledger.now())
    return Counter(one.status for found in results for one in found)


def _tell(screen: Screen, counts: Counter[str], rejected: Sequence[Mapping[str, Any]]) -> None:
    if counts["would_be_recorded"]:
        screen.show(f"{counts['would_be_recorded']:,} would be recorded")
    screen.show(
        f"{counts['accepted']:,} accepted, {counts['duplicate']:,} duplicates, {len(rejected):,} still rejected"
    )
    for one in rejected:
        named = f" ({one['field']})" if one["field"] else ""
        screen.show(f"  {one['id']}: {one['code']}{named}: {one['message']}")


def _named(counts: Counter[str], asked: Resending) -> dict[str, int]:
    more = {"would_be_recorded": counts["would_be_recorded"]} if asked.only_say else {}
    return {"accepted": counts["accepted"], "duplicates": counts["duplicate"], **more}


def _fixed_line(line: bytes, where: str) -> tuple[int, Mapping[str, Any]]:
    try:
        said = parse(line)
        exact = json.loads(line)  # whole numbers of any length
    except ValueError:
        raise ConfigurationError(f"{where} is not JSON") from None
    if not isinstance(said, dict) or named_twice(said) or not isinstance(said.get("_id"), int):
        raise ConfigurationError(f"{where} is no line of `rejected-events export`: it has an _id and an event")
    told: dict[str, Any] = {"body": _body(exact, where), "fault": named_twice_anywhere(said.get("event"))}
    if isinstance(headers := said.get("headers"), dict):
        told["headers"] = {str(name).lower(): str(value) for name, value in headers.items()}
    return said["_id"], told


def _body(said: Mapping[str, Any], where: str) -> bytes:
    match said:
        case {"event": event}:
            return json.dumps(event).encode()
        case {"text": str(text)}:
            return text.encode(errors="surrogatepass")
        case {"base64": str(text)}:
            try:
                return base64.b64decode(text, validate=True)
            except binascii.Error:
                raise ConfigurationError(f"{where}: base64 cannot be decoded") from None
        case _:
            raise ConfigurationError(f"{where} has neither event nor text nor base64")


_CUT = Fault("event_too_large", "only its beginning was kept: take it from its source, and send it in several events")
