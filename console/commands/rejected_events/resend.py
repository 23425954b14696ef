"""Send rejected events again: read them as they were, or fixed in a file, and record them."""

from __future__ import annotations

import base64
import binascii
import json
import shutil
import sys
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from consent.errors import ConfigurationError
from consent.imports import EventContent
from consent.ledger.ledger import Ledger
from consent.ledger.rejected_events import Closing, FoundEvents, RejectedEvent
from console.commands.events.listen import parse_context_for
from console.commands.run.import_files import CommandContext, wake_workers
from console.exit_codes import ExitCode
from console.ui.screen import Screen
from producers.events.event import Event
from producers.events.event_parser import EventParser
from producers.events.ingest import EventIngest
from producers.parsing.error_messages import RowError
from producers.parsing.strict_json import NamedTwice, named_twice_anywhere, parse

_AT_ONCE = 500  # events in one transaction
_BYTES_AT_ONCE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ResendRequest:
    """What a person wants to be sent again: events, fixed by what a file says about their ids, and how to read them.

    `events` are grouped by their sources; `fixed` is None if they are sent as they were.
    """

    events: FoundEvents
    fixed: FixedLines | None
    connection: str | None
    timezone: str
    who: str
    only_say: bool


class FixedLines(Collection[int]):
    """The ids in a file of fixed lines, and what each line says: it is read again when it is asked for."""

    def __init__(self, file: BinaryIO) -> None:
        """Look over every line; raises ConfigurationError for one that is no line of an export."""
        self._file = file
        self._starts: dict[int, int] = {}
        start = file.tell()
        for number, line in enumerate(file, 1):
            if line.strip():
                id_, _ = _fixed_line(line, f"line {number}")
                if id_ in self._starts:
                    raise ConfigurationError(f"line {number}: _id {id_} stands in two lines: keep one")
                self._starts[id_] = start
            start += len(line)

    def __contains__(self, id_: object) -> bool:
        """Whether a line has this id."""
        return id_ in self._starts

    def __iter__(self) -> Iterator[int]:
        """Give the ids."""
        return iter(self._starts)

    def __len__(self) -> int:
        """How many lines there are."""
        return len(self._starts)

    def line(self, id_: int) -> Mapping[str, Any]:
        """Return what the line with this id says; raise ConfigurationError if the file was changed."""
        self._file.seek(self._starts[id_])
        found, entry = _fixed_line(self._file.readline(), f"the line of _id {id_}")
        if found != id_:
            raise ConfigurationError(f"the line of _id {id_} was changed while the file was read: run again")
        return entry


@contextmanager
def fixed_lines(path: str | None) -> Iterator[FixedLines | None]:
    """Give the lines of an export, `-` for standard input, None for no path; raise ConfigurationError.

    What can be read only once is copied to a private file without a name.
    """
    if path is None:
        yield None
        return
    with ExitStack() as stack:
        try:
            file: BinaryIO = sys.stdin.buffer if path == "-" else stack.enter_context(Path(path).open("rb"))
            if not file.seekable():
                once, file = file, stack.enter_context(TemporaryFile())
                shutil.copyfileobj(once, file)
                file.seek(0)
            lines = FixedLines(file)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
        yield lines


class _StillRejected:
    """The events that are still rejected, and why; a reason that many have is kept once."""

    def __init__(self) -> None:
        self._ids, self._reasons = array("q"), array("q")
        self._numbers: dict[RowError, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, id_: int, why: RowError) -> None:
        self._ids.append(id_)
        self._reasons.append(self._numbers.setdefault(why, len(self._numbers)))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        reasons = list(self._numbers)
        for id_, number in zip(self._ids, self._reasons, strict=True):
            why = reasons[number]
            yield {"id": id_, "code": why.code, "message": why.message, "field": why.column}


def send_again(context: CommandContext, ledger: Ledger, asked: ResendRequest) -> ExitCode:
    """Record what is understood of the events now, and close it; say what is still rejected. Returns the exit code."""
    parse_context = parse_context_for(context.settings, asked.connection, asked.timezone)
    parser = EventParser(parse_context)
    counts: Counter[str] = Counter()
    rejected = _StillRejected()
    for (kind, source), events in groupby(asked.events, key=_run):
        intake = EventIngest(ledger.intake, parse_context, kind, source, lambda _: None)
        try:
            for batch in _batches(_readable(ledger, parser, events, asked, rejected)):
                if not asked.only_say:
                    counts.update(_record(ledger, intake, batch, asked.who))
                else:
                    counts["would_be_recorded"] += len(batch)
        finally:
            intake.close()
    if counts["accepted"]:
        wake_workers(context, ledger)
    _tell(context.screen, counts, rejected)
    context.screen.print_json_list(
        rejected, within=({"dry_run": asked.only_say, **_named(counts, asked)}, "still_rejected")
    )
    return ExitCode.IMPERFECT if rejected else ExitCode.WELL


def _run(event: RejectedEvent) -> tuple[str, str]:
    return event.kind, event.source


def _readable(
    ledger: Ledger,
    parser: EventParser,
    events: Iterable[RejectedEvent],
    asked: ResendRequest,
    rejected: _StillRejected,
) -> Iterator[tuple[int, Event]]:
    """Give each event that is understood now; note the others in `rejected`."""
    for one in events:
        fixed = None if asked.fixed is None else asked.fixed.line(one.id)
        event = _event(one, ledger.rejected_events.content_of(one.id), fixed)
        if faults := [event.error] if event.error is not None else parser.errors(event):
            rejected.add(one.id, faults[0])
        else:
            yield one.id, event


def _event(one: RejectedEvent, content: EventContent, fixed: Mapping[str, Any] | None) -> Event:
    whose = (content.published_at, content.key, content.is_own_time, content.sender)
    event = Event(content.body, content.headers, one.place, *whose, first=content.position)
    if fixed is not None:
        return replace(
            event, body=fixed["body"], headers=fixed.get("headers", content.headers), error=fixed.get("fault")
        )
    return replace(event, error=_CUT) if one.is_cut else event


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


def _record(ledger: Ledger, intake: EventIngest, batch: Sequence[tuple[int, Event]], who: str) -> Counter[str]:
    """Record events, then close those of which every change is in the ledger; in between, resending does no harm."""
    results = intake.take([event for _, event in batch])
    done = [
        id_ for (id_, _), found in zip(batch, results, strict=True) if all(one.status != "rejected" for one in found)
    ]
    ledger.rejected_events.close(done, Closing("resent", who))
    return Counter(one.status for found in results for one in found)


def _tell(screen: Screen, counts: Counter[str], rejected: _StillRejected) -> None:
    if counts["would_be_recorded"]:
        screen.show(f"{counts['would_be_recorded']:,} would be recorded")
    screen.show(
        f"{counts['accepted']:,} accepted, {counts['duplicate']:,} duplicates, {len(rejected):,} still rejected"
    )
    for one in () if screen.as_json else rejected:
        named = f" ({one['field']})" if one["field"] else ""
        screen.show(f"  {one['id']}: {one['code']}{named}: {one['message']}")


def _named(counts: Counter[str], asked: ResendRequest) -> dict[str, int]:
    more = {"would_be_recorded": counts["would_be_recorded"]} if asked.only_say else {}
    return {"accepted": counts["accepted"], "duplicates": counts["duplicate"], **more}


def _fixed_line(line: bytes, where: str) -> tuple[int, Mapping[str, Any]]:
    try:
        parsed = parse(line)
        exact = json.loads(line)  # whole numbers of any length
    except ValueError:
        raise ConfigurationError(f"{where} is not JSON") from None
    if not isinstance(parsed, dict) or isinstance(parsed, NamedTwice) or not isinstance(parsed.get("_id"), int):
        raise ConfigurationError(f"{where} is no line of `rejected-events export`: it has an _id and an event")
    entry: dict[str, Any] = {"body": _body(exact, where), "fault": named_twice_anywhere(parsed.get("event"))}
    if isinstance(headers := parsed.get("headers"), dict):
        entry["headers"] = {str(name).lower(): str(value) for name, value in headers.items()}
    return parsed["_id"], entry


def _body(parsed: Mapping[str, Any], where: str) -> bytes:
    match parsed:
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


_CUT = RowError(
    "event_too_large", "only its beginning was kept: take it from its source, and send it in several events"
)
