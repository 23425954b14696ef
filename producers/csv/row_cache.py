"""Rows of a file are much alike: what was understood of one serves the next that differs only in who and when.

A row says nothing new but in a few columns: who it is about, since when, under which id. Where all its other cells
have been understood before, only those few are validated, each by the row model's own rule for its column. Whatever is
not as it was, or not valid, is understood from the beginning.
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
from producers.csv.header import Header
from producers.parsing.error_messages import RowError
from producers.parsing.row_parser import ParseContext, RawRecord, parse_record

_MOST = 1_000
"""Rows remembered; when there are more, all are forgotten."""

Check = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class _Known:
    """What a row said, and how the cells that may differ are read: by place among them."""

    changes: tuple[ConsentChange, ...]
    names: tuple[tuple[int, str, Check], ...]
    moment: tuple[int, Callable[[str], datetime]] | None
    change_id: tuple[int, Check] | None


class RowCache:
    """Understands the rows of one file, with a cache of limited size."""

    def __init__(self, context: ParseContext, header: Header) -> None:
        self._context, self._columns = context, header.ours
        self._places = header.columns
        varying = _varying(list(context.rows.values()))
        own = [(index, name) for index, name in header.columns if name in varying]
        self._own = tuple(index for index, _ in own)
        self._own_names = tuple(name for _, name in own)
        self._others = _getter([index for index, name in header.columns if name not in varying])
        self._useful = bool(set(self._own_names) - _VARYING)
        self._may_doubt = any(row.doubtful & header.ours.keys() for row in context.rows.values())
        self._known: dict[tuple[object, ...], _Known | None] = {}

    def parse(self, cells: Sequence[str], line: int) -> tuple[ConsentChange, ...] | RowError:
        """Make changes of a row, or say what is wrong with it: exactly as `parse_record` does."""
        if not self._useful:
            return self._from_the_beginning(cells, line)
        said = [cells[index].strip() for index in self._own]
        key = (self._others(cells), *map(bool, said))
        known = self._known.get(key)
        if known is None:
            return self._afresh(cells, line, key)
        try:
            return _again(known, said, line)
        except (ValidationError, ValueError, OverflowError):
            return self._from_the_beginning(cells, line)

    def doubt(self, change: ConsentChange) -> str | None:
        """Return what a person should look at before a change is delivered (`consent.row.DOUBTS`), None for nothing."""
        return self._context.rows[change.connection].doubt(change.address) if self._may_doubt else None

    def _afresh(self, cells: Sequence[str], line: int, key: tuple[object, ...]) -> tuple[ConsentChange, ...] | RowError:
        found = self._from_the_beginning(cells, line)
        if not isinstance(found, RowError) and found and key not in self._known:
            if len(self._known) >= _MOST:
                self._known.clear()
            said = {name: cells[index].strip() for index, name in zip(self._own, self._own_names, strict=True)}
            self._known[key] = self._remembered(found, said)
        return found

    def _from_the_beginning(self, cells: Sequence[str], line: int) -> tuple[ConsentChange, ...] | RowError:
        fields = {name: cell for index, name in self._places if (cell := cells[index].strip())}
        return parse_record(RawRecord(fields, line), self._context, self._columns)

    def _remembered(self, changes: tuple[ConsentChange, ...], said: Mapping[str, str]) -> _Known | None:
        model = self._context.rows[changes[0].connection]
        address = changes[0].address
        checks = {name: cell_rule(model, name) for name in _VARYING}
        checks |= {name: model.target_rule(name, address) for name in model.names_target if said.get(name)}
        filled = [(place, name, checks[name]) for place, name in enumerate(said) if said[name] and name in checks]
        names = tuple((place, name, check) for place, name, check in filled if name in model.names_target)
        if any(address.get(name, value) != value for (_, name, check) in names for value in [check(said[name])]):
            return None
        apart = {name: (place, check) for place, name, check in filled}
        moment = apart.get("effective_at")
        return _Known(changes, names, moment and (moment[0], _since(self._context)), apart.get("change_id"))


_VARYING = {"effective_at", "change_id"}


def _varying(rows: Sequence[type[ConsentRow]]) -> set[str]:
    """Return the columns that may differ for every row model that has them."""
    names = {name for row in rows for name in row.names_target}
    fixed = {name for row in rows for name in row.model_fields.keys() - row.names_target}
    return _VARYING | (names - fixed)


def _again(known: _Known, said: Sequence[str], line: int) -> tuple[ConsentChange, ...]:
    first, *others = known.changes
    address, since, change_id = first.address, first.effective_at, first.change_id
    for place, name, check in known.names:
        value = check(said[place])
        if name in address:
            address = {**address, name: value}
    if known.moment is not None:
        place, read = known.moment
        since = read(said[place])
    if known.change_id is not None:
        place, check = known.change_id
        change_id = check(said[place])
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


def _since(context: ParseContext) -> Callable[[str], datetime]:
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


def _getter(places: Sequence[int]) -> Callable[[Sequence[str]], object]:
    return itemgetter(*places) if places else lambda _: None
