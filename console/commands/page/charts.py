"""Pictures as SVG: what stands where, in hundredths of the width and of the height. The figures stand in tables beside.

Nothing here is text of others: only numbers and moments go into a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from consent.change import Lane
from consent.deadlines.forecast import QUARTER, Cell, Forecast
from consent.deadlines.rules import HISTORIC
from consent.ledger.telemetry.recent import QuarterHour

PARTS = {
    "applied": ("applied",),
    "no call": ("unchanged", "superseded"),
    "dead": ("dead",),
}
"""What the bars of deliveries are made of, from the bottom, and the outcomes of each part."""

_COLOURS = {"applied": "applied", "no call": "unchanged", "dead": "dead", "waiting": "pending"}
_GAP = 0.15
_MOST_STEPS = 60
_MOST_ROWS = 12


@dataclass(frozen=True, slots=True)
class Piece:
    """One rectangle: its colour is that of a class."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class BarChart:
    """Bars over time; `most` is the highest, `rows` the figures: a moment and a number (or None) for each name."""

    names: Sequence[str]
    pieces: Sequence[Piece]
    most: int
    rows: Sequence[tuple[int, Sequence[int | None]]]

    @property
    def begins(self) -> int:
        """When the first bar begins."""
        return self.rows[0][0]

    @property
    def ends(self) -> int:
        """When the last bar ends."""
        return self.rows[-1][0] + QUARTER

    @property
    def keys(self) -> list[tuple[str, str]]:
        """The names with their colours."""
        return [(name, _COLOURS[name]) for name in self.names]

    @property
    def figures(self) -> list[tuple[int, Sequence[int | None]]]:
        """The figures that are not nought, the latest first."""
        return [one for one in reversed(self.rows) if any(one[1])]


def settled_chart(quarters: Sequence[QuarterHour]) -> BarChart:
    """Return how many changes were settled in each quarter of an hour, by what became of them."""
    counts = [
        [sum(one.outcomes.get(outcome, 0) for outcome in outcomes) for outcomes in PARTS.values()] for one in quarters
    ]
    return _bars(tuple(PARTS), quarters, counts)


def waiting_chart(quarters: Sequence[QuarterHour]) -> BarChart:
    """Return how many customers waited at the end of each quarter of an hour."""
    return _bars(("waiting",), quarters, [[one.waiting] for one in quarters])


def _bars(names: Sequence[str], quarters: Sequence[QuarterHour], counts: Sequence[Sequence[int | None]]) -> BarChart:
    most = max((sum(number or 0 for number in one) for one in counts), default=0)
    width, pieces = 100 / len(quarters), []
    for place, numbers in enumerate(counts):
        top = 100.0
        for name, number in zip(names, numbers, strict=True):
            if number:
                height = max(0.6, 100 * number / most)
                top -= height
                left, wide = width * (place + _GAP / 2), width * (1 - _GAP)
                pieces.append(
                    Piece(_COLOURS[name], round(left, 2), round(max(0.0, top), 2), round(wide, 2), round(height, 2))
                )
    rows = [(one.at, numbers) for one, numbers in zip(quarters, counts, strict=True)]
    return BarChart(names, pieces, most, rows)


@dataclass(frozen=True, slots=True)
class DueStep:
    """By a moment (microseconds) so many customers are due in all, and so many of those are finished by then."""

    at: int
    due: int
    finished: int

    @property
    def late(self) -> int:
        """How many of them are late then."""
        return max(0, self.due - self.finished)


@dataclass(frozen=True, slots=True)
class ForecastChart:
    """Customers with an opt-out: due by when (`area`, an SVG path), and finished by when (`line`, an SVG polyline)."""

    begins: int
    ends: int
    most: int
    area: str
    line: str
    steps: Sequence[DueStep]


def forecast_chart(cells: Sequence[Cell], found: Forecast, now: int) -> ForecastChart | None:
    """Return the picture of a bucket's opt-outs against their deadlines; None if none of them has one."""
    optouts = [one for one in cells if one.lane <= Lane.BULK_OPTOUT]
    dated = sorted((max(now, one.quarter * QUARTER), one.targets) for one in optouts if one.rule != HISTORIC)
    if not dated:
        return None
    total = sum(one.targets for one in optouts)
    per_micro = found.per_second / 1e6

    def finished(at: int) -> int:
        return min(total, max(0, int((at - found.start) * per_micro)))

    sums = dict(zip((at for at, _ in dated), accumulate(count for _, count in dated), strict=True))  # the last of each
    steps = [DueStep(at, due, finished(at)) for at, due in sums.items()]
    done = found.start + int(total / per_micro)
    ends = max(done, steps[-1].at) + QUARTER

    def place(at: int, count: int) -> str:
        return f"{100 * (at - now) / (ends - now):.2f},{100 - 100 * count / total:.2f}"

    path, height = [f"M{place(now, 0)}"], 0
    for one in _thinned(steps, _MOST_STEPS):
        path += [f"L{place(one.at, height)}", f"L{place(one.at, one.due)}"]
        height = one.due
    path += [f"L{place(ends, height)}", f"L{place(ends, 0)}Z"]
    line = " ".join((place(now, 0), place(found.start, 0), place(done, total), place(ends, total)))
    return ForecastChart(now, ends, total, "".join(path), line, _thinned(steps, _MOST_ROWS))


def _thinned(steps: Sequence[DueStep], most: int) -> list[DueStep]:
    """Return at most so many of the steps, the last among them, and those with the most that are late."""
    if len(steps) <= most:
        return list(steps)
    size = -(-len(steps) // most)
    groups = [steps[place : place + size] for place in range(0, len(steps), size)]
    worst = [max(group, key=lambda one: one.late) if any(one.late for one in group) else group[-1] for group in groups]
    return [*worst[:-1], steps[-1]]
