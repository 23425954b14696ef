"""Times are read as they are written, or refused in words that say what they are."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.times import EARLIEST, PATTERN, UnusableTime, from_micros, read_time, to_micros

BERLIN = ZoneInfo("Europe/Berlin")


def refusal(text: str) -> tuple[str, str]:
    """The code and the words with which a time is refused."""
    with pytest.raises(UnusableTime) as caught:
        to_micros(read_time(text), BERLIN)
    return caught.value.code, caught.value.message


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-11-20", "2026-11-20T00:00:00"),
        ("2026-11-20T08:30", "2026-11-20T08:30:00"),
        ("2026-11-20 08:30:15", "2026-11-20T08:30:15"),
        ("2026-11-20T08:30:15Z", "2026-11-20T08:30:15+00:00"),
        ("2026-11-20t08:30:15z", "2026-11-20T08:30:15+00:00"),
        ("2026-11-20T08:30:15.123456789Z", "2026-11-20T08:30:15.123456+00:00"),
        ("2026-11-20 08:30:15,5+00", "2026-11-20T08:30:15.500000+00:00"),
        ("2026-11-20T08:30:15+0130", "2026-11-20T08:30:15+01:30"),
        ("2026-11-20T08:30:15-05:00", "2026-11-20T08:30:15-05:00"),
        ("2000-01-02T00:00:00Z", "2000-01-02T00:00:00+00:00"),
    ],
)
def test_what_is_written_is_read(text: str, read: str) -> None:
    """Every form that the common databases and languages write by themselves."""
    assert read_time(text).isoformat() == read


@pytest.mark.parametrize(
    ("text", "wording"),
    [
        ("1795112000830", "milliseconds since 1970"),
        ("1770010200000", "milliseconds since 1970"),
        ("1795163400", "seconds since 1970"),
        ("1795163400.25", "seconds since 1970"),
        ("1795163400123456", "microseconds since 1970"),
        ("1795163400123456789", "nanoseconds since 1970"),
        ("134398188000000000", "as Windows counts"),
        ("46346.354", "a spreadsheet's number of days"),
        ("46346", "a spreadsheet's number of days"),
        ("20261120", "without hyphens"),
        ("20261120112233Z", "without separators"),
        ("20261120123000Z", "without separators"),
        ("20261120112233.5Z", "without separators"),
        ("20261120123000+0100", "without separators"),
        ("20261120T083000Z", "without separators"),
        ("202611200830", "without separators"),
        ("2026-11-20+05:30", "a zone and no time of day"),
        ("2026-11-20Z", "a zone and no time of day"),
        ("2026-11-20 08.30", "write colons"),
        ("2026-W47", "a week"),
        ("2026-324", "a day in it"),
        ("20.11.2026 08:30", "the day first:"),
        ("11/20/2026 8:30 AM", "the month first:"),
        ("4/12/2026 8:30 AM", "the day and the month first (which is which cannot be known)"),
        ("2026/11/20", "without hyphens"),
        ("2026-11-20T08", "without minutes"),
        ("2026-11-20 08:30:00 UTC", "right behind it"),
        ("2026-02-30", "no such day"),
        ("2026-11-20T08:30:00+25:00", "no such day"),
        ("2026-11-20x08:30", ""),
        ("2026-11-20508:30", ""),
        ("2026-11-20  08:30", ""),
        ("2026-11-20T08:30:00.1234567890Z", "more than nine decimals"),
        ("\u0662\u0660\u0662\u0666-11-20", ""),
        ("9999-12-31T23:59:59-01:00", ""),
        ("soon", ""),
        ("", ""),
    ],
)
def test_any_other_form_is_refused_by_its_name(text: str, wording: str) -> None:
    """A person who opted out at 11:22Z stays opted in, because the time was read as 12:23Z, or as the year 1795."""
    code, message = refusal(text)
    assert (code, wording in message) == ("unreadable_time", True)
    assert "2026-11-22T08:30:00Z" in message
    assert bool(wording) == (message != refusal("soon")[1])


@pytest.mark.parametrize(
    "text",
    [
        "0000-00-00 00:00:00",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "1601-01-01T00:00:00Z",
        "1753-01-01",
        "1899-12-30",
        "1900-01-01",
        "1970-01-01T00:00:00Z",
        "1980-01-01",
        "2000-01-01T00:00:00Z",
    ],
)
def test_the_zero_dates_of_systems_are_refused(text: str) -> None:
    """An opt-out whose time field was empty in the database would be older than any opt-in, and be dropped."""
    assert refusal(text)[0] == "time_too_old"


def test_a_local_time_that_came_twice_or_never_is_refused() -> None:
    """An opt-out 40 minutes after the opt-in loses, because 02:10 was taken for the earlier of the two."""
    assert refusal("2026-10-25T02:10:00")[0] == "ambiguous_time"
    assert refusal("2026-03-29T02:30:00")[0] == "no_such_time"

    for written, hour in (("2026-10-25T01:59:59", 23), ("2026-10-25T03:00:00", 2), ("2026-10-25T02:10+02:00", 0)):
        assert from_micros(to_micros(read_time(written), BERLIN)).hour == hour
    assert from_micros(to_micros(read_time("2026-03-29T03:00:00"), BERLIN)) == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert from_micros(to_micros(read_time("2026-10-25T02:10:00"), ZoneInfo("UTC"))) == datetime(
        2026, 10, 25, 2, 10, tzinfo=UTC
    )


def test_a_clock_that_was_never_set_is_known() -> None:
    """A file on a device that thinks it is 1970 or 2000 says nothing about when people spoke."""
    assert datetime.fromtimestamp(946_684_800, UTC) < EARLIEST
    assert datetime(2000, 1, 2, tzinfo=UTC) >= EARLIEST


FIRST, LAST = (datetime(year, 1, 2, tzinfo=UTC).replace(tzinfo=None) for year in (2000, 2099))
zones = st.integers(-839, 839).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(FIRST, LAST, timezones=zones))
def test_python_writes_what_is_read_and_what_the_schema_allows(moment: datetime) -> None:
    """Whatever `isoformat` writes, with microseconds or without, comes back as it was."""
    assert read_time(moment.isoformat()) == moment
    assert re.search(PATTERN, moment.isoformat(timespec="microseconds"))


@given(st.from_regex(PATTERN, fullmatch=True))
def test_whatever_the_schema_allows_is_read(text: str) -> None:
    """All but a day that its month does not have."""
    try:
        datetime.strptime(text[:10], "%Y-%m-%d")  # noqa: DTZ007 - only whether there is such a day
    except ValueError:
        assert refusal(text)[0] == "unreadable_time"
    else:
        assert f"{read_time(text):%Y-%m-%dT%H:%M:%S}" == text[:19]


@given(st.text(alphabet="0123456789-:+.,TtZz W/", max_size=30))
def test_nothing_is_read_that_is_not_written(text: str) -> None:
    """What is read begins with its own date and holds its own time of day: no digit is taken for another."""
    try:
        found = read_time(text)
    except UnusableTime:
        return
    assert text.startswith(f"{found:%Y-%m-%d}")
    assert text[11:16] in ("", f"{found:%H:%M}")


@pytest.mark.parametrize("zone", ["Z", "+14:00", ""])
def test_more_decimals_than_any_clock_writes_are_named(zone: str) -> None:
    """Nanoseconds are read; what has more is refused, and not for a zone that is in its place."""
    assert read_time(f"2026-11-20T08:00:00.123456789{zone}").microsecond == 123_456
    with pytest.raises(UnusableTime, match="this looks like a time with more than nine decimals of a second"):
        read_time(f"2026-11-20T08:00:00.1234567890123456{zone}")
