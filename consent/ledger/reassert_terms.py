"""Which opt-outs are sent although the provider is confirmed to hold them, as terms of SQL.

They are said of `changes` or of `noop_changes`, each beside its slot. `consent.ledger.merge` says the same for one.

A full dump that stamps the time of its export on every row would call for everybody each night. So rows with this time
are treated like rows that bring no time, and only those; `consent/ledger/intake/imports.py` finds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Row, Table, and_, bindparam, false, func, or_, select, true

from consent.change import Action, Origin
from consent.ledger.schema import slots, targets
from consent.reassert import Reassert, ReassertRules


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
