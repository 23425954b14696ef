"""Deadlines by rule: against an oracle that walks day by day and hour by hour, and what a rules file may say."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consent.deadlines.rules import (
    CHANNELS,
    HISTORIC,
    HISTORY_DAYS,
    DeadlineRules,
    Rule,
    channel_of,
    choose_rules,
    read_rules,
    shipped_rules,
)
from consent.errors import ConfigurationError
from consent.settings import load_settings
from consent.times import from_micros, to_micros

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)  # a Friday
ZONES = ("UTC", "America/New_York", "America/St_Johns", "Australia/Sydney", "Asia/Singapore", "Europe/London")
moments = st.integers(1_704_067_200, 1_924_905_600).map(lambda second: datetime.fromtimestamp(second, UTC))


def rule(amount: int, unit: str, **facts: object) -> Rule:
    """A rule as a file would have it."""
    return Rule.model_validate({"amount": amount, "unit": unit, **facts})


def due(one: Rule, start: datetime) -> datetime:
    """When it is due, as a moment."""
    return from_micros(one.due(to_micros(start)))


def last_day(day: date, amount: int, *, first: bool) -> date:
    """The last of so many weekdays, counted one by one on a calendar of paper."""
    days = [day + timedelta(days=n) for n in range(0 if first else 1, 60)]
    return [one for one in days if one.strftime("%a") not in {"Sat", "Sun"}][amount - 1]


@given(moments, st.integers(1, 15), st.sampled_from(ZONES), st.sampled_from(("x1", "i1")))
@example(datetime(2026, 3, 7, 12, tzinfo=UTC), 1, "America/New_York", "x1")  # summer time begins on the next day
@example(datetime(2026, 10, 31, 4, 30, tzinfo=UTC), 1, "America/New_York", "i1")
def test_business_days_end_with_the_last_of_them(start: datetime, amount: int, zone: str, count: str) -> None:
    """The deadline is the first moment of the day behind it, whatever the clocks do in between."""
    found = due(rule(amount, "business_days", tz=zone, count=count), start)
    local = found.astimezone(ZoneInfo(zone))
    before = (found - timedelta(microseconds=1)).astimezone(ZoneInfo(zone))

    assert (local.hour, local.minute, local.second) == (0, 0, 0)
    assert before.date() == last_day(start.astimezone(ZoneInfo(zone)).date(), amount, first=count == "i1")
    assert found > start


@given(moments, st.integers(1, 2000))
def test_hours_are_hours(start: datetime, amount: int) -> None:
    """No zone and no summer time changes them."""
    assert due(rule(amount, "hours"), start) - start == timedelta(hours=amount)


@given(moments, st.integers(1, 40), st.sampled_from(ZONES))
def test_days_lead_to_the_same_time_of_day(start: datetime, amount: int, zone: str) -> None:
    """Which the clock of the zone shows, but for an hour that it skips."""
    found = due(rule(amount, "calendar_days", tz=zone), start).astimezone(ZoneInfo(zone))
    local = start.astimezone(ZoneInfo(zone))

    assert abs(found.replace(tzinfo=None) - local.replace(tzinfo=None) - timedelta(days=amount)) in {
        timedelta(0),
        timedelta(hours=1),
    }


@given(moments, st.integers(1, 24))
@example(datetime(2028, 1, 31, 8, tzinfo=UTC), 1)
def test_months_end_at_most_with_the_month(start: datetime, amount: int) -> None:
    """The month is that many further; the day is the same, or the last of a shorter month."""
    found = due(rule(amount, "months"), start)
    months = (found.year - start.year) * 12 + found.month - start.month

    assert months == amount
    assert found.timetz() == start.timetz()
    assert found.day == start.day or (found.day < start.day and (found + timedelta(days=1)).month != found.month)


@given(moments, moments, st.sampled_from(sorted(shipped_rules())), st.sampled_from(sorted(CHANNELS)))
def test_the_clock_starts_at_the_earlier_moment(
    effective: datetime, recorded: datetime, name: str, channel: str
) -> None:
    """Also of an opt-out that was received long after it was said, unless that is history."""
    chosen = DeadlineRules(by_connection={"crm": (name,)})
    since, received = to_micros(effective), to_micros(recorded)
    found = chosen.of("crm", f'["{channel}","01","BULK",-1]', since, received)
    applying = shipped_rules()[found.rule] if found.rule != HISTORIC else None
    start = min(effective, recorded)

    assert (found.rule == HISTORIC) == (start < recorded - timedelta(days=HISTORY_DAYS))
    if applying is not None:
        assert applying.applies(channel)
        assert found.due_at == applying.due(to_micros(start))
    else:
        assert found.due_at > received


def test_the_defaults_and_the_earliest_of_several() -> None:
    """E-mail has 48 hours, all else 72; of the chosen rules that are about a channel the earliest counts."""
    moment = to_micros(NOON)
    chosen = choose_rules({"crm": "us-can-spam, us-tcpa-revoke,eu-gdpr-21"})

    assert DeadlineRules().of("crm", '["EMAIL","01","BULK",-1]', moment, moment) == (
        moment + 48 * 3_600_000_000,
        "gmail-48h",
    )
    assert DeadlineRules().of("crm", '["MOBILE","01","BULK",-1]', moment, moment).rule == "internal-72h"
    assert DeadlineRules().of("crm", "events:DELIVERY", moment, moment).rule == "internal-72h"
    assert chosen.of("crm", 'blocked:["SMS","SHOP"]', moment, moment).rule == "us-tcpa-revoke"
    assert chosen.of("crm", "active", moment, moment).rule == "eu-gdpr-21"
    assert chosen.of("other", '["EMAIL"]', moment, moment).rule == "gmail-48h"
    assert choose_rules({"crm": "us-can-spam"}).of("crm", '["whatsapp"]', moment, moment).rule == "internal-72h"


def test_the_channel_of_a_slot() -> None:
    """The first word that names one; Capillary's names of channels are understood."""
    slots = ('["EMAIL","SMS","BULK",-1]', '["MOBILE","01","BULK",-1]', '["whatsapp","01"]', '["wechat"]', "modes:SENT")
    assert [channel_of(slot) for slot in slots] == ["EMAIL", "SMS", "WHATSAPP", "IM", ""]


def test_what_is_shipped_has_an_amount_a_source_and_is_sure() -> None:
    """What was only remembered, or has no number, is no rule that one could choose."""
    assert len(shipped_rules()) == 13
    assert all(one.makes_deadline and one.src and one.conf in {"H", "M", "-"} for one in shipped_rules().values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("house = { amount = 1, unit = 'fortnights' }", "house.unit: 'fortnights' is no known word: give hours"),
        ("house = { amount = 1, unit = 'hours', chanel = ['SMS'] }", "house.chanel: there is no such name"),
        ("house = { amount = 1, unit = 'hours', channel = ['FAX'] }", "the channel FAX is none of EMAIL"),
        ("house = { amount = 1, unit = 'hours', tz = 'Europe/Atlantis' }", "there is no time zone 'Europe/Atlantis'"),
        ("house = { amount = 1, unit = 'hours', count = 'i1' }", "goes with business_days alone"),
        ("house = {", "cannot be read"),
    ],
)
def test_a_rules_file_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    """It is named, with the rule and what is wrong; no start goes on with half of the rules."""
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"own\.toml") as error:
        read_rules(tmp_path / "own.toml")
    assert message in str(error.value)


def test_settings_refuse_what_makes_no_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not there, a name that is no rule, and a rule without an amount."""
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__CRM__DEADLINES", "us-can-spm")
    with pytest.raises(
        ConfigurationError, match=r"__CRM__DEADLINES: there is no rule 'us-can-spm'; did you mean us-can-"
    ):
        load_settings()
    (tmp_path / "own.toml").write_text("br-lgpd = { who = 'BR' }\ninternal-72h = { amount = 12, unit = 'hours' }\n")
    monkeypatch.setenv("OPTRELAY_DEADLINE_RULES", str(tmp_path / "own.toml"))
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__CRM__DEADLINES", "br-lgpd")
    with pytest.raises(ConfigurationError, match="'br-lgpd' has no amount"):
        load_settings()
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__CRM__DEADLINES", "")
    assert load_settings().chosen_deadlines.rules["internal-72h"].amount == 12
    monkeypatch.setenv("OPTRELAY_DEADLINE_RULES", str(tmp_path / "gone.toml"))
    with pytest.raises(ConfigurationError, match=r"gone\.toml cannot be read: FileNotFoundError"):
        load_settings()
    os.mkfifo(tmp_path / "gone.toml")  # every command waited for ever
    with pytest.raises(ConfigurationError, match=r"gone\.toml is no ordinary file"):
        load_settings()
