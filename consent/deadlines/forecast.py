"""Which customers of a backlog will be late: from counts by deadline, the rate, and the order of delivery.

Moments are microseconds since 1970-01-01 UTC. A cell holds the customers whose deadlines lie in the same quarter of an
hour; they count as due at its beginning, so a forecast errs to the early side by at most that, and calls nothing
breached before it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from consent.change import Lane
from consent.deadlines.rules import HISTORIC

QUARTER = 900_000_000
_SECOND, _DAY = 1_000_000, 86_400_000_000


class Cell(NamedTuple):
    """So many customers of a lane, with deadlines in one quarter of an hour, by this rule."""

    lane: int
    quarter: int
    rule: str
    targets: int


@dataclass(slots=True)
class RuleForecast:
    """The open customers by one rule: all, due within 24 hours, late at this rate, and late already.

    Those that are historic are never late; `rule` says so.
    """

    rule: str
    open: int = 0
    due_24h: int = 0
    at_risk: int = 0
    breached: int = 0


@dataclass(slots=True)
class Forecast:
    """What will become of one bucket's backlog if customers are finished `per_second`, from `start` on.

    `finish_at` is when the last one is. `needs_per_second` is the smallest rate at which no further deadline is missed,
    None if there is none to be kept, and infinite if no rate is enough. `latest_start` is until when deliveries may
    stand still with no further deadline missed; None if there is none to be kept.
    """

    start: int
    per_second: float
    targets: int = 0
    rules: dict[str, RuleForecast] = field(default_factory=dict)
    needs_per_second: float | None = None
    latest_start: int | None = None

    @property
    def finish_at(self) -> int:
        """When the last customer is finished."""
        return self.start + math.ceil(self.targets / self.per_second * _SECOND)

    @property
    def at_risk(self) -> int:
        """How many will be late that are not yet."""
        return sum(one.at_risk for one in self.rules.values())

    @property
    def breached(self) -> int:
        """How many are late already."""
        return sum(one.breached for one in self.rules.values())


def forecast(cells: Iterable[Cell], *, now: int, start: int, per_second: float) -> Forecast:
    """Return what becomes of a bucket's customers, each finished in the order of lanes and deadlines.

    `start` is when the next one can be, `now` or later; `per_second` is above nought.
    """
    found = Forecast(start, per_second)
    for cell in sorted(cells):
        before = found.targets
        found.targets += cell.targets
        if cell.lane > Lane.BULK_OPTOUT:
            continue
        by_rule = found.rules.setdefault(cell.rule, RuleForecast(cell.rule))
        by_rule.open += cell.targets
        due = cell.quarter * QUARTER
        if cell.rule == HISTORIC:
            continue
        if due + QUARTER <= now:
            by_rule.breached += cell.targets
            continue
        due = due if due > now else due + QUARTER
        by_rule.due_24h += cell.targets if due - now <= _DAY else 0
        in_time = math.floor((due - start) / _SECOND * per_second) - before
        by_rule.at_risk += cell.targets - max(0, min(cell.targets, in_time))
        _limit(found, due)
    return found


def _limit(found: Forecast, due: int) -> None:
    """Take into account that all customers up to here are to be finished by then."""
    seconds = (due - found.start) / _SECOND
    needs = found.targets / seconds if seconds > 0 else math.inf
    found.needs_per_second = max(found.needs_per_second or 0.0, needs)
    latest = due - math.ceil(found.targets / found.per_second * _SECOND)
    found.latest_start = latest if found.latest_start is None else min(found.latest_start, latest)


def added(*groups: Sequence[Cell]) -> list[Cell]:
    """Return the cells of several backlogs as one."""
    return sorted(cell for group in groups for cell in group)
