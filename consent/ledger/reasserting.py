"""Which opt-outs are delivered although the provider is confirmed to hold them: `consent.newest.is_fresh` in SQL.

A full dump that stamps the time of its export on every row would call for everybody each night. So a time is taken for
the export's if it stands on more than half of a file's rows and on more than a thousand; times within one minute count
as one. Rows with it are treated like rows that bring no time, and only those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import orjson
from sqlalchemy import ColumnElement, Row, and_, false, func, or_, select, true

from consent.change import Action, Origin
from consent.ledger.schema import changes, repeats, slots, targets
from consent.reassert import Reassert, ReassertRules

STAMPED_FROM = 1_000
"""An export's time stands on more rows than this."""

_SECOND = 1_000_000
_TOGETHER = 60
_KEPT = 1_000


class Stamp(NamedTuple):
    """The first and the last moment (microseconds) that count as the time of an export."""

    first: int
    last: int


def count_times(told: str | None, moments: Iterable[int]) -> str | None:
    """Add the own times of some rows (microseconds) to the count of a file's; None as long as no row brings one.

    They are counted second by second. A thousand seconds are kept, by the algorithm of Misra and Gries: where there are
    more, each count may be too small, by a thousandth of the rows at most. So a time may be missed that stands on
    hardly more than half of the rows, and its opt-outs are sent. https://doi.org/10.1016/0167-6423(82)90012-0
    """
    counts = Counter(_counts(told))
    counts.update([moment // _SECOND for moment in moments])
    if len(counts) > _KEPT:
        least = sorted(counts.values(), reverse=True)[_KEPT]
        counts = Counter({second: count - least for second, count in counts.items() if count > least})
    return orjson.dumps(dict(counts), option=orjson.OPT_NON_STR_KEYS).decode() if counts else told


def _counts(told: str | None) -> dict[int, int]:
    return {int(second): count for second, count in orjson.loads(told).items()} if told else {}


def find_stamp(told: str | None, rows: int) -> Stamp | None:
    """Return the export's time of a file with so many rows, whose own times are counted; None if it has none."""
    counts = _counts(told)
    seconds = sorted(counts)
    best, held, start, stamp = 0, 0, 0, None
    for second in seconds:
        held += counts[second]
        while second - seconds[start] >= _TOGETHER:
            held -= counts[seconds[start]]
            start += 1
        if held > best:
            best, stamp = held, Stamp(seconds[start] * _SECOND, (second + 1) * _SECOND - 1)
    return stamp if best > STAMPED_FROM and 2 * best > rows else None


@dataclass(frozen=True, slots=True)
class Reasserting:
    """The rules for one import: those of its command or of the settings, and its export's time if it has one."""

    rules: ReassertRules
    stamp: Stamp | None = None

    def of_changes(self) -> tuple[ColumnElement[bool], ColumnElement[bool], ColumnElement[bool]]:
        """Say of a change beside its slot whether it is fresh, sent always, and not fresh only for its stamp."""
        out = changes.c.action == Action.OPTOUT.value
        own = or_(changes.c.own_time == 1, changes.c.origin == Origin.EVENT.value)
        later = func.coalesce(changes.c.effective_at > slots.c.confirmed_at, true())
        fresh = and_(out, own, later, ~self._is(Reassert.NEVER, changes.c.target_id))
        stamped = self._stamped(changes.c.effective_at)
        return and_(fresh, ~stamped), and_(out, self._is(Reassert.ALWAYS, changes.c.target_id)), and_(fresh, stamped)

    def sends_repeat(self) -> ColumnElement[bool]:
        """Say of a repeat beside its slot that it must be delivered."""
        fresh = and_(self._fresh_repeat(), ~self._stamped(repeats.c.effective_at))
        always = and_(repeats.c.action == Action.OPTOUT.value, self._is(Reassert.ALWAYS, repeats.c.target_id))
        return or_(fresh, always)

    def stamped_repeat(self) -> ColumnElement[bool]:
        """Say of a repeat beside its slot that it would be delivered but for its stamp."""
        always = self._is(Reassert.ALWAYS, repeats.c.target_id)
        return and_(self._fresh_repeat(), self._stamped(repeats.c.effective_at), ~always)

    def _fresh_repeat(self) -> ColumnElement[bool]:
        later = func.coalesce(repeats.c.effective_at > slots.c.confirmed_at, true())
        never = self._is(Reassert.NEVER, repeats.c.target_id)
        return and_(repeats.c.action == Action.OPTOUT.value, repeats.c.own_time == 1, later, ~never)

    def _stamped(self, moment: ColumnElement[int]) -> ColumnElement[bool]:
        return false() if self.stamp is None else moment.between(self.stamp.first, self.stamp.last)

    def _is(self, way: Reassert, target_id: ColumnElement[int]) -> ColumnElement[bool]:
        """Say that a target's connection has this way; the target is only asked where connections differ."""
        others = {name: one for name, one in self.rules.by_connection.items() if one is not self.rules.default}
        by_default = self.rules.default is way
        if not others:
            return true() if by_default else false()
        connection = select(targets.c.connection).where(targets.c.id == target_id).scalar_subquery()
        apart = [name for name, one in others.items() if (one is way) is not by_default]
        return connection.not_in(apart) if by_default else connection.in_(apart)


def reasserting(row: Row[tuple[object, ...]], rules: ReassertRules) -> Reasserting:
    """Return the rules for an import, a row of `imports`, where the settings have these."""
    stamp = None if row.stamp_from is None else Stamp(row.stamp_from, row.stamp_to)
    return Reasserting(rules.overruled_by(row.reassert), stamp)
