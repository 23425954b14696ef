"""Business days without public holidays, by the real package; without it the setting is refused."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.deadlines import rules as deadline_rules
from consent.deadlines.rules import choose_rules, shipped_rules
from consent.errors import ConfigurationError
from consent.settings import load_settings
from consent.times import from_micros, to_micros

WITH_CALENDAR = sorted(name for name, one in shipped_rules().items() if one.calendar)


def ends(name: str, start: datetime, *, holidays: bool) -> datetime:
    """The last moment of a rule's last day, in its zone."""
    one = shipped_rules()[name]
    found = from_micros(one.due(to_micros(start), holidays=holidays)) - timedelta(microseconds=1)
    return found.astimezone(ZoneInfo(one.tz))


def the_package() -> None:
    """Skip, and say so, where the extra is not installed."""
    pytest.importorskip("holidays", reason="NOT SHOWN: public holidays need optrelay[holidays]")


@pytest.mark.parametrize(
    ("name", "start", "without", "with_holidays"),
    [
        ("us-can-spam", datetime(2026, 11, 25, 17, tzinfo=UTC), "2026-12-09", "2026-12-10"),  # Thanksgiving
        ("ca-casl", datetime(2026, 6, 30, 17, tzinfo=UTC), "2026-07-14", "2026-07-15"),  # Canada Day
        ("au-spam", datetime(2027, 1, 24, 22, tzinfo=UTC), "2027-01-29", "2027-02-01"),  # Australia Day, a Tuesday
        ("sg-spam", datetime(2026, 8, 3, 4, tzinfo=UTC), "2026-08-17", "2026-08-18"),  # National Day, made up on Monday
    ],
)
def test_a_public_holiday_is_no_business_day(name: str, start: datetime, without: str, with_holidays: str) -> None:
    """Each rule has the calendar of its country, and counts one day more over a holiday."""
    the_package()
    assert f"{ends(name, start, holidays=False):%Y-%m-%d}" == without
    assert f"{ends(name, start, holidays=True):%Y-%m-%d}" == with_holidays


@given(st.sampled_from(WITH_CALENDAR), st.integers(1_704_067_200, 1_924_905_600))
def test_without_holidays_a_deadline_is_early_and_never_late(name: str, second: int) -> None:
    """What optrelay reckons without the package is never after the exact deadline."""
    the_package()
    start = datetime.fromtimestamp(second, UTC)
    assert ends(name, start, holidays=False) <= ends(name, start, holidays=True)


def test_the_setting_reaches_the_rules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An opt-out of the day before Thanksgiving has until the tenth of December."""
    the_package()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTRELAY_DEADLINE_HOLIDAYS", "true")
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__CAPILLARY__DEADLINES", "us-can-spam")
    moment = to_micros(datetime(2026, 11, 25, 17, tzinfo=UTC))

    due = load_settings().chosen_deadlines.of("capillary", "EMAIL|BULK", moment, moment)

    assert from_micros(due.due_at) == datetime(2026, 12, 11, 5, tzinfo=UTC)  # midnight in New York


def test_an_unknown_calendar_is_refused(tmp_path: Path) -> None:
    """A rule of one's own names a country that the package does not know, or a part of one."""
    the_package()
    own = tmp_path / "rules.toml"
    for calendar in ("XX", "US-XX"):
        own.write_text(
            f'house = {{ channel = ["*"], amount = 3, unit = "business_days", calendar = "{calendar}", src = "ours" }}'
        )
        with pytest.raises(ConfigurationError, match=f"no calendar '{calendar}'"):
            choose_rules({"capillary": "house"}, str(own), holidays=True)


def test_without_the_package_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not count weekends alone in silence where exact deadlines were asked for."""
    monkeypatch.setitem(sys.modules, "holidays", None)
    deadline_rules._holidays_of.cache_clear()
    with pytest.raises(ConfigurationError, match=r"pip install 'optrelay\[holidays\]'"):
        choose_rules({"capillary": "us-can-spam"}, holidays=True)
    assert choose_rules({"capillary": "us-can-spam"}, holidays=False).by_connection == {"capillary": ("us-can-spam",)}
