"""The pictures of the page: bars of the last hours, and the forecast against the deadlines."""

from __future__ import annotations

import pytest

from consent.change import Lane
from consent.deadlines.forecast import QUARTER, Cell, forecast
from consent.ledger.telemetry.recent import QuarterHour
from console.commands.page.charts import forecast_chart, settled_chart, waiting_chart

NOW = 1_960_000 * QUARTER


def quarters() -> list[QuarterHour]:
    """Four, of which one had nothing."""
    return [
        QuarterHour(NOW, {"applied": 60, "unchanged": 20, "superseded": 10, "dead": 10, "sent_again": 99}, 7),
        QuarterHour(NOW + QUARTER),
        QuarterHour(NOW + 2 * QUARTER, {"applied": 1}, 0),
        QuarterHour(NOW + 3 * QUARTER, {}, 14),
    ]


def test_bars_are_as_high_as_their_numbers_and_stay_inside() -> None:
    """The highest bar fills the height, the least is still seen, and none is outside of the picture."""
    chart = settled_chart(quarters())
    first = [one for one in chart.pieces if one.x < 25]
    assert [(one.kind, one.y, one.height) for one in first] == [
        ("applied", 40.0, 60.0),
        ("unchanged", 10.0, 30.0),
        ("dead", 0.0, 10.0),
    ]
    assert (chart.most, chart.begins, chart.ends) == (100, NOW, NOW + 4 * QUARTER)
    assert all(one.x >= 0 and one.x + one.width <= 100 and one.y >= 0 and one.height >= 0.6 for one in chart.pieces)
    assert [numbers for _, numbers in chart.figures] == [[1, 0, 0], [60, 30, 10]]


def test_where_no_one_looked_there_is_no_number() -> None:
    """Nought and not known are told apart in the table."""
    chart = waiting_chart(quarters())
    assert [one.kind for one in chart.pieces] == ["pending", "pending"]
    assert [numbers for _, numbers in chart.rows] == [[7], [None], [0], [14]]
    assert settled_chart([QuarterHour(NOW)]).most == 0


@pytest.mark.parametrize(("per_second", "late"), [(10.0, 0), (0.1, 820)])
def test_the_forecast_shows_who_is_late(per_second: float, late: int) -> None:
    """A hundred are due in a quarter of an hour, 900 an hour later; opt-ins and historic ones have no deadline."""
    quarter = NOW // QUARTER
    cells = [
        Cell(Lane.BULK_OPTOUT, quarter + 1, "rule", 100),
        Cell(Lane.BULK_OPTOUT, quarter + 2, "rule", 900),
        Cell(Lane.BULK_OPTOUT, quarter, "historic", 5),
        Cell(Lane.BULK_OPTIN, quarter, "none", 5_000),
    ]
    found = forecast(cells, now=NOW, start=NOW, per_second=per_second)
    chart = forecast_chart(cells, found, NOW)
    assert chart is not None
    assert (chart.most, chart.begins) == (1_005, NOW)
    assert [(one.at, one.due) for one in chart.steps] == [(NOW + QUARTER, 100), (NOW + 2 * QUARTER, 1_000)]
    assert chart.steps[-1].late == late
    numbers = [float(part) for pair in chart.line.split() for part in pair.split(",")]
    assert all(0 <= one <= 100 for one in numbers)
    assert chart.area.startswith("M0.00,100.00L")
    assert chart.area.endswith("Z")


def test_many_deadlines_are_few_rows_and_the_worst_of_them_stays() -> None:
    """A month of deadlines is read as a dozen lines, and the moment with the most that are late is among them."""
    quarter = NOW // QUARTER
    cells = [Cell(Lane.BULK_OPTOUT, quarter + n, "rule", 50 if n == 777 else 1) for n in range(1, 2_900)]
    found = forecast(cells, now=NOW, start=NOW, per_second=0.0011)
    chart = forecast_chart(cells, found, NOW)
    assert chart is not None
    assert len(chart.steps) <= 12
    assert max(one.late for one in chart.steps) > 0
    assert chart.steps[-1].due == chart.most
    assert forecast_chart([Cell(Lane.BULK_OPTIN, quarter, "none", 1)], found, NOW) is None
