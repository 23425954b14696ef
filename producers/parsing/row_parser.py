"""From a raw record to consent changes, or to the one error to fix first; rows that are alike are parsed once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import tzinfo
from operator import itemgetter
from typing import Any, NamedTuple

from pydantic import ValidationError

from consent.change import ConsentChange
from consent.errors import ConfigurationError, UnusableHeader
from consent.ledger.merge import FUTURE_TOLERANCE_SECONDS
from consent.row import ConsentRow, cell_rule
from consent.times import UnusableTime, read_time, to_micros
from producers.parsing.columns import FALLBACK_TIME, OWN_TIME, RECORDED_AS, Header, defaults_by_column
from producers.parsing.error_messages import FUTURE, NO_TIME, RowError, no_connection, or_format, renamed, row_error


class RawRecord(NamedTuple):
    """A row or an event under our own column names, without the empty ones.

    `line` is the physical line of a file where it starts, None for an event. `sender` says in whose name its change_id
    is unique; "" stands for all files.
    """

    fields: Mapping[str, Any]
    line: int | None = None
    sender: str = ""


@dataclass(frozen=True, slots=True)
class ParseContext:
    """What is needed to parse records: the row model of each connection, and the values that a record leaves out.

    `connection` and `effective_at` are used for records that name none; `defaults` fills empty columns, by connection;
    a time without a zone is read in `zone`. A change from after `latest` is rejected, None being soon after it is read.
    `given` is the effective time that a person gave, not a file's clock; `or_give` ends a message with the option that
    gives one. Moments are in microseconds.
    """

    rows: Mapping[str, type[ConsentRow]]
    defaults: Mapping[str, Mapping[str, str]]
    connection: str | None
    effective_at: int | None
    zone: tzinfo
    latest: int | None
    given: int | None = None
    or_give: str = ""

    @property
    def last_moment(self) -> int:
        """The latest moment (microseconds) since when a change may hold: clocks differ a little."""
        return _soon() if self.latest is None else self.latest

    def lacking(self, columns: AbstractSet[str]) -> dict[str, list[str]]:
        """Return, for each connection that records with these columns can belong to, which others it needs.

        Raises UnusableHeader if there is no such connection.
        """
        named = "connection" in columns
        if self.rows and named:
            return {name: self._lacks(name, columns) for name in self.rows}
        if self.connection is not None and not named:
            return {self.connection: self._lacks(self.connection, columns)}
        known = ", ".join(sorted(self.rows)) or "none is configured"
        raise UnusableHeader(
            f"no row names its connection (known: {known}): give --connection NAME, or add a column connection"
            "; a watched place takes ?connection=NAME"
        )

    def _lacks(self, connection: str, columns: AbstractSet[str]) -> list[str]:
        fields = self.rows[connection].model_fields
        have = columns | self.defaults.get(connection, {}).keys()
        lack = [name for name, field in fields.items() if field.is_required() and name not in have]
        own = fields.keys() - ConsentRow.model_fields.keys()
        return [f"any of {', '.join(sorted(own))}"] if not lack and have.isdisjoint(own) else lack


def parse_context(
    rows: Mapping[str, type[ConsentRow]],
    defaults: Mapping[str, Mapping[str, str]],
    connection: str | None,
    effective_at: int | None,
    zone: tzinfo,
) -> ParseContext:
    """Return the context for records that come from now on; without `connection` the only configured one is meant.

    Raises ConfigurationError if the connection is not known, or a default is for a column that cannot have one.
    """
    if connection is not None and connection.lower() not in rows:
        known = ", ".join(sorted(rows)) or "none is configured"
        raise ConfigurationError(
            f"there is no connection {connection!r} (known: {known}): give one of these, or configure it"
        )
    only = next(iter(rows)) if len(rows) == 1 else None
    filled = {name: defaults_by_column(name, values, rows.values()) for name, values in defaults.items() if values}
    return ParseContext(rows, filled, connection.lower() if connection else only, effective_at, zone, _soon())


def _soon() -> int:
    return time.time_ns() // 1_000 + FUTURE_TOLERANCE_SECONDS * 1_000_000


def parse_record(
    record: RawRecord, context: ParseContext, columns: Mapping[str, str] | None = None
) -> tuple[ConsentChange, ...] | RowError:
    """Make changes of a record, one for each slot that it names, or return what is wrong with it.

    `columns` gives, in the source's order, the source's own name for each of our columns; errors name columns by it.
    """
    fields, columns = record.fields, columns or {}
    connection = _connection(fields["connection"], context) if "connection" in fields else context.connection
    if connection is None:
        return no_connection(context.rows, columns)
    if context.defaults and (defaults := context.defaults.get(connection)):
        fields = {**defaults, **fields}
    model = context.rows[connection]
    try:
        row = model.model_validate(fields)
    except ValidationError as error:
        return row_error(error, model, columns, or_format(fields.get("effective_at")) if context.or_give else "")
    since = _effective_at(row, fields, context)
    if isinstance(since, RowError):
        return renamed(since, columns)
    own = row.effective_at is not None or OWN_TIME in fields
    recorded_as = None if RECORDED_AS not in fields else str(fields[RECORDED_AS])
    action, id_, line, sender = row.action, row.change_id, record.line, record.sender
    address, slots, bucket = row.changes()
    more = (own, sender, recorded_as, overlaps(model))
    return tuple(
        ConsentChange(connection, address, slot, action, since, details, id_, line, bucket, value, *more)
        for slot, details, value in slots
    )


def overlaps(model: type[ConsentRow]) -> bool:
    """Whether an opt-in of a wide slot of these rows lifts the opt-outs of narrower ones."""
    return model.suppression is not None and model.suppression.overlaps


def _connection(named: object, context: ParseContext) -> str | None:
    name = str(named)
    return name if name in context.rows else name.lower() if name.lower() in context.rows else None


def _effective_at(row: ConsentRow, fields: Mapping[str, object], context: ParseContext) -> int | RowError:
    try:
        fallback = fields.get(OWN_TIME, fields.get(FALLBACK_TIME))
        if row.effective_at is None and fallback is not None:
            return _earlier_time(str(fallback), context)
        since = context.effective_at if row.effective_at is None else to_micros(row.effective_at, context.zone)
    except UnusableTime as error:
        return RowError(error.code, error.message, "effective_at")
    if since is None:
        return RowError("missing_field", NO_TIME + context.or_give, "effective_at")
    return since if since <= context.last_moment else RowError("from_the_future", FUTURE, "effective_at")


def _earlier_time(written: str, context: ParseContext) -> int | RowError:
    """Return since when a row held that was rejected before; a useless clock of then gives way to --effective-at."""
    try:
        since = to_micros(read_time(written), context.zone)
        if since <= context.last_moment:
            return since
        error = RowError("from_the_future", FUTURE + context.or_give, FALLBACK_TIME)
    except UnusableTime as unusable:
        error = RowError(unusable.code, unusable.message + context.or_give, FALLBACK_TIME)
    is_clock = error.code in {"from_the_future", "time_too_old"}
    return context.given if is_clock and context.given is not None else error


_MOST = 1_000  # rows remembered; when there are more, all are forgotten

Check = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class _Known:
    """The changes of a row, and how the cells that may differ are read: by place among them."""

    changes: tuple[ConsentChange, ...]
    names: tuple[tuple[int, str, Check], ...]
    moment: tuple[int, Callable[[str], int]] | None
    change_id: tuple[int, Check] | None


class RowCache:
    """Parses the rows of one file, which are much alike; it remembers at most `_MOST` of them.

    A row says nothing new but in a few columns: its target, its effective time, its change id. Where all its other
    cells have been parsed before, only those few are validated, each by the row model's own rule for its column. A row
    that differs in anything else, or is not valid, is parsed whole.
    """

    def __init__(self, context: ParseContext, header: Header) -> None:
        self._context, self._places, self._columns = context, header.columns, header.ours
        varying = _varying(list(context.rows.values()))
        own = {name: index for index, name in header.columns if name in varying}
        self._own, self._own_names = _cells_at([*own.values()]), tuple(own)
        self._others = _cells_at([index for index, name in header.columns if name not in varying])
        self._useful = bool(set(self._own_names) - _VARYING)
        self.may_warn = any(row.contextual & header.ours.keys() for row in context.rows.values())
        self._known: dict[tuple[object, ...], _Known | None] = {}

    def parse(self, cells: Sequence[str], line: int) -> tuple[ConsentChange, ...] | RowError:
        """Make changes of a row, or return what is wrong with it: exactly as `parse_record` does."""
        key: tuple[object, ...] | None = None
        if self._useful:
            varying = list(map(str.strip, self._own(cells)))
            key = self._others(cells) if all(varying) else (self._others(cells), *map(bool, varying))
            if (known := self._known.get(key)) is not None:
                try:
                    return _again(known, varying, line)
                except (ValidationError, ValueError, OverflowError):
                    key = None  # not like the known one after all
        fields = {name: cell for index, name in self._places if (cell := cells[index].strip())}
        found = parse_record(RawRecord(fields, line), self._context, self._columns)
        if key is not None and key not in self._known and found and not isinstance(found, RowError):
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = self._remembered(found, dict(zip(self._own_names, varying, strict=True)))
        return found

    def warning(self, change: ConsentChange) -> str | None:
        """Return what a person should check before a change is delivered (`consent.row.WARNINGS`), None for nothing."""
        return self._context.rows[change.connection].warning(change.address)

    def _remembered(self, changes: tuple[ConsentChange, ...], cells: Mapping[str, str]) -> _Known | None:
        model = self._context.rows[changes[0].connection]
        address = changes[0].address
        checks = {name: cell_rule(model, name) for name in _VARYING | model.names_target}
        checks |= {name: model.target_rule(name, address) for name in model.contextual if cells.get(name)}
        filled = [(place, name, checks[name]) for place, name in enumerate(cells) if cells[name] and name in checks]
        names = tuple((place, name, check) for place, name, check in filled if name in model.names_target)
        if any(address.get(name, value) != value for (_, name, check) in names for value in [check(cells[name])]):
            return None
        apart = {name: (place, check) for place, name, check in filled}
        moment = apart.get("effective_at")
        return _Known(changes, names, moment and (moment[0], _time_reader(self._context)), apart.get("change_id"))


_VARYING = {"effective_at", "change_id"}


def _cells_at(places: Sequence[int]) -> Callable[[Sequence[str]], tuple[str, ...]]:
    return itemgetter(*places) if len(places) > 1 else lambda cells: tuple(cells[place] for place in places)


def _varying(rows: Sequence[type[ConsentRow]]) -> set[str]:
    """Return the columns that may differ for every row model that has them."""
    names = {name for row in rows for name in row.names_target}
    fixed = {name for row in rows for name in row.model_fields.keys() - row.names_target}
    return _VARYING | (names - fixed)


def _again(known: _Known, cells: Sequence[str], line: int) -> tuple[ConsentChange, ...]:
    first = known.changes[0]
    address, since, change_id = first.address, first.effective_at, first.change_id
    for place, name, check in known.names:
        value = check(cells[place])
        if name in address:
            address = {**address, name: value}
    if known.moment is not None:
        place, read = known.moment
        since = read(cells[place])
    if known.change_id is not None:
        place, check = known.change_id
        change_id = check(cells[place])
    if len(known.changes) == 1:
        return (_with(first, address, since, change_id, line),)
    return tuple([_with(one, address, since, change_id, line) for one in known.changes])


def _with(
    one: ConsentChange, address: Mapping[str, str], since: int, change_id: str | None, line: int
) -> ConsentChange:
    rest = (one.bucket, one.value, one.own_time, one.sender, one.recorded_as, one.overlaps, one.sent_by)
    return ConsentChange(one.connection, address, one.slot, one.action, since, one.details, change_id, line, *rest)


def _time_reader(context: ParseContext) -> Callable[[str], int]:
    """Return what reads a time, and remembers the last one: rows that follow each other often share theirs."""
    last: str | None = None
    moment = latest = context.last_moment

    def read(cell: str) -> int:
        nonlocal last, moment
        if cell != last:
            since = to_micros(read_time(cell), context.zone)
            if since > latest:
                raise ValueError
            last, moment = cell, since
        return moment

    return read
