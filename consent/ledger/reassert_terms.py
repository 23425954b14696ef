"""Which opt-outs are sent although the provider is confirmed to hold them, as terms of SQL.

They are said of `changes` or of `noop_changes`, each beside its slot. `consent.ledger.merge` says the same for one.

A full dump that stamps the time of its export on every row would call for everybody each night. So a time is taken for
the export's if it stands on more than half of a file's rows and on more than a thousand; times within one minute count
as one. Rows with it are treated like rows that bring no time, and only those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from sqlalchemy import BigInteger, ColumnElement, Row, Table, and_, bindparam, false, func, or_, select, true

from consent.change import Action, Origin
from consent.ledger.schema import slots, targets
from consent.reassert import Reassert, ReassertRules

STAMPED_FROM = 1_000
"""An export's time stands on more rows than this."""
_SECOND = 1_000_000
_TOGETHER = 60
_KEPT = 1_000


class ExportTime(NamedTuple):
    """The first and the last moment (microseconds) that count as the time of an export."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class ReassertTerms:
    """Which opt-outs of one import are delivered although the provider is confirmed to hold them.

    `rules` are those of its command or of the settings; `export_time` is the time of its export, if it has one.
    """

    rules: ReassertRules
    export_time: ExportTime | None = None

    @property
    def columns(self) -> dict[str, int | None]:
        """The columns of an import that keep its export's time, for `reassert_terms`."""
        first, last = (None, None) if self.export_time is None else self.export_time
        return {"export_time_from": first, "export_time_to": last}

    def is_fresh(self, table: Table) -> ColumnElement[bool]:
        """Say that it is fresh (`merge.is_fresh`), by a time that is not the export's."""
        return and_(self._has_fresh_time(table), ~self._is_exports(table.c.effective_at))

    def is_always_sent(self, table: Table) -> ColumnElement[bool]:
        """Say that it is an opt-out of a connection whose opt-outs are all sent."""
        return and_(table.c.action == Action.OPTOUT.value, self._is(Reassert.ALWAYS, table.c.target_id))

    def is_stamped(self, table: Table) -> ColumnElement[bool]:
        """Say that it would be fresh but for its time, which is the export's."""
        return and_(self._has_fresh_time(table), self._is_exports(table.c.effective_at))

    def _has_fresh_time(self, table: Table) -> ColumnElement[bool]:
        own = table.c.own_time == 1
        if "origin" in table.c:
            own = or_(own, table.c.origin == Origin.EVENT.value)
        later = func.coalesce(table.c.effective_at > slots.c.confirmed_at, true())
        out = table.c.action == Action.OPTOUT.value
        return and_(out, own, later, ~self._is(Reassert.NEVER, table.c.target_id))

    @property
    def given(self) -> dict[str, int]:
        """The time of the export, for statements that were built for another one or none."""
        first, last = self.export_time or (1, 0)  # no moment lies between these
        return {"export_from": first, "export_to": last}

    def _is_exports(self, moment: ColumnElement[int]) -> ColumnElement[bool]:
        first, last = (bindparam(name, at, BigInteger()) for name, at in self.given.items())
        return moment.between(first, last)

    def _is(self, way: Reassert, target_id: ColumnElement[int]) -> ColumnElement[bool]:
        """Say that a target's connection has this way; the target is only asked where connections differ."""
        others = {name: one for name, one in self.rules.by_connection.items() if one is not self.rules.default}
        by_default = self.rules.default is way
        if not others:
            return true() if by_default else false()
        connection = select(targets.c.connection).where(targets.c.id == target_id).scalar_subquery()
        apart = [name for name, one in others.items() if (one is way) is not by_default]
        return connection.not_in(apart) if by_default else connection.in_(apart)


def reassert_terms(row: Row[Any], rules: ReassertRules) -> ReassertTerms:
    """Return the terms for an import, a row of `imports`, where the settings have these rules.

    The option of its command holds for all connections.
    """
    found = None if row.export_time_from is None else ExportTime(row.export_time_from, row.export_time_to)
    return ReassertTerms(rules if row.reassert is None else ReassertRules(Reassert(row.reassert)), found)


def count_times(counted: str | None, moments: Iterable[int]) -> str | None:
    """Add the own times of some rows (microseconds) to the count of a file's; None as long as no row brings one.

    They are counted second by second. A thousand seconds are kept, by the algorithm of Misra and Gries: where there are
    more, each count may be too small, by a thousandth of the rows at most. So a time may be missed that stands on
    hardly more than half of the rows, and its opt-outs are sent. https://doi.org/10.1016/0167-6423(82)90012-0
    """
    counts = Counter(_counts(counted))
    counts.update([moment // _SECOND for moment in moments])
    if len(counts) > _KEPT:
        least = sorted(counts.values(), reverse=True)[_KEPT]
        counts = Counter({second: count - least for second, count in counts.items() if count > least})
    return orjson.dumps(dict(counts), option=orjson.OPT_NON_STR_KEYS).decode() if counts else counted


def _counts(counted: str | None) -> dict[int, int]:
    return {int(second): count for second, count in orjson.loads(counted).items()} if counted else {}


def find_export_time(counted: str | None, rows: int) -> ExportTime | None:
    """Return the export's time of a file with so many rows, whose own times are counted; None if it has none."""
    counts = _counts(counted)
    seconds = sorted(counts)
    best, held, start, stamp = 0, 0, 0, None
    for second in seconds:
        held += counts[second]
        while second - seconds[start] >= _TOGETHER:
            held -= counts[seconds[start]]
            start += 1
        if held > best:
            best, stamp = held, ExportTime(seconds[start] * _SECOND, (second + 1) * _SECOND - 1)
    return stamp if best > STAMPED_FROM and 2 * best > rows else None
