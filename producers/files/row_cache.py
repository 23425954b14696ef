"""Rows of a file are much alike: what was parsed of one serves the next that differs only in its target and its time.

A row says nothing new but in a few columns: its target, its effective time, its change id. Where all its other cells
have been parsed before, only those few are validated, each by the row model's own rule for its column. A row that
differs in anything else, or is not valid, is parsed whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any

from pydantic import ValidationError

from consent.change import ConsentChange
from consent.row import ConsentRow, cell_rule
from consent.times import in_utc, read_time
from producers.files.header import Header
from producers.parsing.error_messages import RowError
from producers.parsing.row_parser import ParseContext, RawRecord, parse_record

_MOST = 1_000
"""Rows remembered; when there are more, all are forgotten."""

Check = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class _Known:
    """The changes of a row, and how the cells that may differ are read: by place among them."""

    changes: tuple[ConsentChange, ...]
    names: tuple[tuple[int, str, Check], ...]
    moment: tuple[int, Callable[[str], datetime]] | None
    change_id: tuple[int, Check] | None


class RowCache:
    """Parses the rows of one file; it remembers at most `_MOST` of them."""

    def __init__(self, context: ParseContext, header: Header) -> None:
        self._context, self._columns = context, header.ours
        self._places = header.columns
        varying = _varying(list(context.rows.values()))
        own = [(index, name) for index, name in header.columns if name in varying]
        self._own = tuple(index for index, _ in own)
        self._own_names = tuple(name for _, name in own)
        others = [index for index, name in header.columns if name not in varying]
        self._others: Callable[[Sequence[str]], object] = itemgetter(*others) if others else lambda _: None
        self._useful = bool(set(self._own_names) - _VARYING)
        self._may_warn = any(row.contextual & header.ours.keys() for row in context.rows.values())
        self._known: dict[tuple[object, ...], _Known | None] = {}

    def parse(self, cells: Sequence[str], line: int) -> tuple[ConsentChange, ...] | RowError:
        """Make changes of a row, or return what is wrong with it: exactly as `parse_record` does."""
        key: tuple[object, ...] | None = None
        if self._useful:
            varying = [cells[index].strip() for index in self._own]
            key = (self._others(cells), *map(bool, varying))
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
        return self._context.rows[change.connection].warning(change.address) if self._may_warn else None

    def _remembered(self, changes: tuple[ConsentChange, ...], cells: Mapping[str, str]) -> _Known | None:
        model = self._context.rows[changes[0].connection]
        address = changes[0].address
        checks = {name: cell_rule(model, name) for name in _VARYING}
        checks |= {name: model.target_rule(name, address) for name in model.names_target if cells.get(name)}
        filled = [(place, name, checks[name]) for place, name in enumerate(cells) if cells[name] and name in checks]
        names = tuple((place, name, check) for place, name, check in filled if name in model.names_target)
        if any(address.get(name, value) != value for (_, name, check) in names for value in [check(cells[name])]):
            return None
        apart = {name: (place, check) for place, name, check in filled}
        moment = apart.get("effective_at")
        return _Known(changes, names, moment and (moment[0], _time_reader(self._context)), apart.get("change_id"))


_VARYING = {"effective_at", "change_id"}


def _varying(rows: Sequence[type[ConsentRow]]) -> set[str]:
    """Return the columns that may differ for every row model that has them."""
    names = {name for row in rows for name in row.names_target}
    fixed = {name for row in rows for name in row.model_fields.keys() - row.names_target}
    return _VARYING | (names - fixed)


def _again(known: _Known, cells: Sequence[str], line: int) -> tuple[ConsentChange, ...]:
    first, *others = known.changes
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
    own = _with(first, address, since, change_id, line)
    return (own, *[_with(one, address, since, change_id, line) for one in others]) if others else (own,)


def _with(
    one: ConsentChange, address: Mapping[str, str], since: datetime, change_id: str | None, line: int
) -> ConsentChange:
    return ConsentChange(
        one.connection,
        address,
        one.slot,
        one.action,
        since,
        one.details,
        change_id,
        line,
        one.bucket,
        one.value,
        one.own_time,
        one.sender,
        one.recorded_as,
    )


def _time_reader(context: ParseContext) -> Callable[[str], datetime]:
    """Return what reads a time, and remembers the last one: rows that follow each other often share theirs."""
    last: str | None = None
    moment = context.latest

    def read(cell: str) -> datetime:
        nonlocal last, moment
        if cell != last:
            since = in_utc(read_time(cell), context.zone)
            if since > context.latest:
                raise ValueError
            last, moment = cell, since
        return moment

    return read
