"""Events into the ledger: parse a batch, record it, wake the workers; only then may its source be acknowledged."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from operator import itemgetter
from typing import Literal, NamedTuple, Protocol

from consent.change import Bucket, ConsentChange
from consent.errors import LedgerRefused
from consent.imports import REFUSED, EventsAccepted, ImportProgress, ImportSource, RejectedRow, RunEvents
from producers.events.event import UNREADABLE, Event
from producers.events.event_parser import EventParser, Parsed, texts_of
from producers.parsing.error_messages import RowError
from producers.parsing.row_parser import ParseContext

_LONGEST_NAME = 200
_log = logging.getLogger("optrelay.events")


class EventIntake(Protocol):
    """What recording events needs of the ledger."""

    def open_import(self, source: ImportSource) -> ImportProgress:
        """Start a run."""
        ...

    def accept_events(
        self, run_id: str, changes: Sequence[ConsentChange], rejects: Sequence[RejectedRow]
    ) -> EventsAccepted:
        """Record changes and rejected events in one transaction."""
        ...

    def accept_runs(self, runs: Sequence[RunEvents]) -> list[EventsAccepted]:
        """Record what several runs bring in one transaction."""
        ...

    def check_writable(self) -> None:
        """Raise LedgerUnavailable if nothing can be recorded now."""
        ...

    def finish_run(self, run_id: str) -> None:
        """Note that a run has ended."""
        ...

    def finish_abandoned_runs(self, kind: str, name: str) -> None:
        """Note that the runs of a source whose process was killed have ended, those of API keys too."""
        ...


class Result(NamedTuple):
    """What became of one change in an event: `ids` names it in the ledger (one for each slot).

    A rejected one has a code, a message with a remedy, and the field that is wrong, never its value.
    """

    status: Literal["accepted", "duplicate", "rejected"]
    ids: tuple[str, ...] = ()
    code: str | None = None
    message: str | None = None
    field: str | None = None


MOST_AT_ONCE = 10_000
"""Changes and rejects after which a transaction takes no further event; one event may hold as many."""


@dataclass(slots=True)
class _Batch:
    """Events that share a transaction, with the number of the first change of each."""

    changes: list[ConsentChange] = field(default_factory=list)
    rejects: list[RejectedRow] = field(default_factory=list)
    parsed: list[list[Parsed]] = field(default_factory=list)
    origins: list[tuple[Event, int]] = field(default_factory=list)

    def add(self, event: Event, first: int, found: list[Parsed]) -> None:
        """Add an event with its changes and errors."""
        self.parsed.append(found)
        self.origins.append((event, first))
        for one in found:
            if not isinstance(one, RowError):
                for change in one if event.sent_by else ():
                    change.sent_by = event.sent_by
                self.changes.extend(one)
        self.rejects.extend(_rejects(event, found, first))

    def reject(self, members: AbstractSet[int]) -> None:
        """Make errors of the changes at these places: the ledger cannot keep them."""
        code, message = REFUSED
        place, before = 0, list(zip(self.origins, self.parsed, strict=True))
        self.changes, self.rejects, self.parsed, self.origins = [], [], [], []
        for (event, first), found in before:
            kept: list[Parsed] = []
            for one in found:
                count = 0 if isinstance(one, RowError) else len(one)
                kept.append(one if members.isdisjoint(range(place, place + count)) else RowError(code, message))
                place += count
            self.add(event, first, kept)


class EventIngest:
    """The runs of an event source: a new import each day (UTC), so that each can be counted and sealed.

    Each API key has runs of its own: what one brings can be held, counted and undone without the others'. `kind` and
    `name` name the source, without any credential. `wake` is called after the commit, with the buckets that have
    something to deliver. One thread at a time may use it.
    """

    def __init__(
        self, intake: EventIntake, context: ParseContext, kind: str, name: str, wake: Callable[[Iterable[Bucket]], None]
    ) -> None:
        self._intake = intake
        self._parser = EventParser(context)
        self._kind = kind
        self._name = name
        self._wake = wake
        self._day, self._runs = "", dict[str, str]()

    def take(self, events: Sequence[Event]) -> list[list[Result]]:
        """Record the changes of events; return what became of each change of each event, after the commit.

        An event that cannot be parsed is recorded as rejected. Raises LedgerUnavailable, after which the same events
        may be handed over again. Events of very many changes are recorded in several transactions.
        """
        places: dict[str, list[int]] = {}
        for place, event in enumerate(events):
            places.setdefault(event.sent_by, []).append(place)
        results: list[list[Result]] = []
        for group in self._groups((sent_by, [events[place] for place in its]) for sent_by, its in places.items()):
            for (_, batch), accepted in zip(group, self._recorded(group), strict=True):
                fresh = {
                    Bucket(change.connection, change.bucket)
                    for change, is_fresh in zip(batch.changes, accepted.fresh, strict=True)
                    if is_fresh
                }
                if fresh:
                    self._wake(sorted(fresh))
                results.extend(_results(batch, accepted))
        in_order = sorted(
            zip((place for its in places.values() for place in its), results, strict=True), key=itemgetter(0)
        )
        return [found for _, found in in_order]

    def _recorded(self, group: Sequence[tuple[str, _Batch]]) -> list[EventsAccepted]:
        """Record batches together; changes that the ledger refuses are recorded as rejected, and the others go on."""
        while True:
            self._begin_day()
            runs = [RunEvents(self._run_of(sent_by), one.changes, one.rejects) for sent_by, one in group]
            try:
                if len(runs) > 1:
                    return self._intake.accept_runs(runs)
                return [self._intake.accept_events(*runs[0])]
            except LedgerRefused as error:
                if not error.members:
                    raise
                first = 0
                for _, batch in group:
                    count = len(batch.changes)
                    batch.reject({member - first for member in error.members if first <= member < first + count})
                    first += count

    def check(self) -> None:
        """Raise LedgerUnavailable if nothing could be recorded now."""
        self._intake.check_writable()

    def end_abandoned(self) -> None:
        """End the runs of this kind and name that a killed process has left; for names that one process uses."""
        self._intake.finish_abandoned_runs(self._kind, self._name)

    def close(self) -> None:
        """End the runs: each is sealed once nothing of it is pending."""
        for sent_by in [*self._runs]:
            self._intake.finish_run(self._runs[sent_by])
            del self._runs[sent_by]

    def _begin_day(self) -> None:
        """End the runs of the day before: none that a transaction has been given already."""
        day = f"{datetime.now(UTC):%Y-%m-%d}"
        if self._day != day:
            self.close()
            self._day = day

    def _run_of(self, sent_by: str) -> str:
        if sent_by not in self._runs:
            name = f"{sent_by}, as {self._name}" if sent_by else self._name
            mark = f"{self._kind} {name} {self._day} {secrets.token_hex(8)}"
            source = ImportSource(self._kind, name, sha256(mark.encode()).hexdigest(), 0, None, stream=True)
            self._runs[sent_by] = self._intake.open_import(source).import_id
        return self._runs[sent_by]

    def _groups(self, by_key: Iterable[tuple[str, Sequence[Event]]]) -> Iterator[list[tuple[str, _Batch]]]:
        """Parse events one after the other, and give them, a batch for each key, once they hold enough changes."""
        group: list[tuple[str, _Batch]] = []
        size = 0
        for sent_by, events in by_key:
            batch = _Batch()
            for event, first, found in self._parser.parse(events):
                size -= len(batch.changes) + len(batch.rejects)
                batch.add(event, first, found)
                size += len(batch.changes) + len(batch.rejects)
                if size >= MOST_AT_ONCE:
                    yield [*group, (sent_by, batch)]
                    group, batch, size = [], _Batch(), 0
            if batch.parsed:
                group.append((sent_by, batch))
        if group:
            yield group


def _rejects(event: Event, found: Sequence[Parsed], first: int) -> Iterator[RejectedRow]:
    """Give the rejected changes of an event, with their content unless its sender learns that none could be read."""
    errors = [(place, one) for place, one in enumerate(found) if isinstance(one, RowError)]
    if not errors:
        return
    unreadable = all(isinstance(one, RowError) and one.code in UNREADABLE for one in found)
    texts = texts_of(event, len(found))
    for place, error in errors:
        content = None if event.is_answered and unreadable else event.content(texts[place], place)
        shown = error.column and _printable(error.column)
        yield RejectedRow(first + place, shown, error.code, error.message, event.where(place), content)


def _printable(name: str) -> str:
    """Return the name of a field as it may be shown and written down: senders may call one anything."""
    return "".join(one if one.isprintable() else "?" for one in name[:_LONGEST_NAME])


def _results(batch: _Batch, accepted: EventsAccepted) -> list[list[Result]]:
    recorded = iter(zip(accepted.ids, accepted.fresh, strict=True))
    return [[_result(one, recorded) for one in found] for found in batch.parsed]


def _result(one: Parsed, recorded: Iterator[tuple[str, bool]]) -> Result:
    if isinstance(one, RowError):
        return Result("rejected", (), one.code, one.message, one.column)
    mine = [next(recorded) for _ in one]
    status: Literal["accepted", "duplicate"] = "accepted" if any(fresh for _, fresh in mine) else "duplicate"
    return Result(status, tuple(id_ for id_, _ in mine))
