"""A forecast says of each customer what a clock would: held against a walk through the line, one by one."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from consent.deadlines.forecast import QUARTER, Cell, forecast
from consent.deadlines.rules import HISTORIC

NOW = 1_800_000_000_000_000 + 7 * 60_000_000
cells = st.lists(
    st.builds(
        Cell,
        st.sampled_from((0, 1, 1, 3)),
        st.integers(NOW // QUARTER - 4, NOW // QUARTER + 60),
        st.sampled_from(("a", "b", HISTORIC)),
        st.integers(1, 40),
    ),
    max_size=8,
)


def walk(found: list[Cell], start: int, per_second: float) -> tuple[int, int]:
    """Finish one after the other; return how many are late, and how many of these were late before."""
    late = breached = place = 0
    for cell in sorted(found):
        for _ in range(cell.targets):
            place += 1
            if cell.lane > 1 or cell.rule == HISTORIC:
                continue
            due = cell.quarter * QUARTER
            breached += due + QUARTER <= NOW
            due = due if due > NOW else due + QUARTER
            late += due > NOW and start + place / per_second * 1e6 > due
    return late, breached


@given(cells, st.integers(0, 3), st.sampled_from((0.01, 0.5, 3.0, 100.0)))
def test_each_late_customer_is_counted(found: list[Cell], delay: int, per_second: float) -> None:
    """At any rate, from any start; and no one else is."""
    start = NOW + delay * QUARTER
    predicted = forecast(found, now=NOW, start=start, per_second=per_second)

    assert (predicted.at_risk, predicted.breached) == walk(found, start, per_second)
    assert predicted.targets == sum(cell.targets for cell in found)


@given(cells, st.sampled_from((0.01, 0.5, 3.0)))
def test_the_smallest_rate_and_the_latest_start(found: list[Cell], per_second: float) -> None:
    """At that rate none is late, and at a little less one is; the same of the latest start."""
    predicted = forecast(found, now=NOW, start=NOW, per_second=per_second)
    if predicted.needs_per_second is None or predicted.latest_start is None:
        assert predicted.at_risk == 0
        return
    assert math.isfinite(predicted.needs_per_second)
    assert walk(found, NOW, predicted.needs_per_second * 1.000001)[0] == 0
    assert walk(found, NOW, predicted.needs_per_second * 0.99)[0] > 0
    assert walk(found, predicted.latest_start - 1_000, per_second)[0] == 0
    assert walk(found, predicted.latest_start + 1_000, per_second)[0] > 0


def test_nothing_is_pending() -> None:
    """Then nothing is late, and no rate is needed."""
    predicted = forecast([], now=NOW, start=NOW, per_second=1.0)
    assert (predicted.targets, predicted.finish_at, predicted.needs_per_second, predicted.latest_start) == (
        0,
        NOW,
        None,
        None,
    )
