"""Times in a declared format are read exactly, or refused in words that name the format they have."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.time_formats import AUTO, FormatFinder, check_format, format_of, names_zone, time_reader
from consent.times import UnusableTime

DAYS = st.dates(date(2001, 1, 1), date(2099, 12, 31))


@pytest.mark.parametrize(
    ("form", "text", "read"),
    [
        ("%m/%d/%Y %I:%M %p", "11/20/2026 8:30 AM", "2026-11-20T08:30:00"),
        ("%d.%m.%Y", "20.11.2026", "2026-11-20T00:00:00"),
        ("%d.%m.%y %H:%M", "20.11.26 08:30", "2026-11-20T08:30:00"),
        ("%Y-%m-%d %H:%M:%S %z", "2026-11-20 08:30:00 +0100", "2026-11-20T08:30:00+01:00"),
        ("%Y-%m-%d %H:%M:%S UTC", "2026-11-20 08:30:00 UTC", "2026-11-20T08:30:00+00:00"),
        ("%d/%m/%Y %H:%MZ", "20/11/2026 08:30Z", "2026-11-20T08:30:00+00:00"),
        ("epoch", "1795163400", "2026-11-20T08:30:00+00:00"),
        ("epoch", "1795163400.5", "2026-11-20T08:30:00.500000+00:00"),
        ("epoch_ms", "1795163400123", "2026-11-20T08:30:00.123000+00:00"),
        ("excel", "46346.3541666667", "2026-11-20T08:30:00"),
        ("excel", "46346,5", "2026-11-20T12:00:00"),
        ("%Y%m%d%H%M%S", "20261120083000", "2026-11-20T08:30:00"),
    ],
)
def test_a_time_is_read_as_its_format_says(form: str, text: str, read: str) -> None:
    """Without a zone unless the format has one: epochs are exact."""
    check_format(form)
    assert time_reader(form)(text).isoformat() == read
    assert names_zone(form) == (datetime.fromisoformat(read).tzinfo is not None)


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("epoch", "1795163400123", "it looks like epoch_ms"),
        ("epoch_ms", "1795163400", "it looks like epoch"),
        ("excel", "1795163400", "it looks like epoch"),
        ("epoch", "46346", "it looks like excel"),
        ("%d.%m.%Y", "11/20/2026", "it looks like %m/%d/%Y"),
        ("%d.%m.%Y", "2026-11-20", "it is ISO 8601"),
        ("%d.%m.%Y", "31.02.2026", "no time like"),
        ("%d.%m.%Y", "20.11.2026 later", "no time like"),
        ("excel", "yesterday", "no number of days"),
    ],
)
def test_another_format_is_refused_and_named(form: str, text: str, message: str) -> None:
    """A person learns which format would do."""
    with pytest.raises(UnusableTime) as caught:
        time_reader(form)(text)
    assert caught.value.code == "unreadable_time"
    assert message in caught.value.message


def test_the_zero_dates_of_systems_are_no_times() -> None:
    """1899-12-30 and 1900 in a declared format are as empty as in ISO 8601."""
    for form, text in (("%d.%m.%Y", "01.01.1970"), ("epoch", "946684800"), ("excel", "36000")):
        with pytest.raises(UnusableTime) as caught:
            time_reader(form)(text)
        assert caught.value.code == "time_too_old", text


@pytest.mark.parametrize(
    "form", ["%d.%m", "%Y", "%d.%m.%Y %I:%M", "%d.%m.%Y %H:%M %p", "%Q", "%d.%m.%Y %Z", "dd.mm.yyyy", "%H:%M"]
)
def test_a_format_must_tell_one_day_from_every_other(form: str) -> None:
    """A pattern that loses the month, or the half of the day, is refused before any row is read."""
    with pytest.raises(ValueError, match=r"%"):
        check_format(form)


@given(DAYS, st.sampled_from(["%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y %H:%M", "%m-%d-%y"]))
def test_a_date_has_its_format_or_two(day: date, form: str) -> None:
    """A cell names the format that it was written in; only a day up to the 12th may have two."""
    found = format_of(day.strftime(form))
    assert found == form or (found == AUTO and day.day <= 12)


@given(st.lists(DAYS, min_size=1), st.sampled_from(["%d.%m.%Y", "%m/%d/%Y"]))
def test_a_column_settles_the_order_by_one_day_after_the_12th(days: list[date], form: str) -> None:
    """The whole column tells; a column that cannot tell is not guessed."""
    finder = FormatFinder()
    finder.add(day.strftime(form) for day in days)
    assert finder.settle() == (form if any(day.day > 12 for day in days) else AUTO)


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (["13/01/2026", "01/13/2026"], None),
        (["20.11.2026", "2026-11-20"], None),
        (["20.11.2026", "20/11/2026"], None),
        (["2026-11-20", " ", "2026-11-21"], ""),
        (["1795163400", "1795163401"], "epoch"),
        (["yesterday"], None),
        ([], ""),
    ],
)
def test_a_column_of_several_forms_settles_nothing(cells: list[str], found: str | None) -> None:
    """Contradictions are refused; one known form is named; ISO 8601 needs none."""
    finder = FormatFinder()
    finder.add(cells)
    assert finder.settle() == found


@given(st.integers(1_000_000_000_000, 4_000_000_000_000))
def test_an_epoch_comes_back_to_the_millisecond(millis: int) -> None:
    """What a system counted is what is read."""
    found = time_reader("epoch_ms")(str(millis))
    assert (found - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) == millis


@pytest.mark.parametrize(
    ("text", "form"),
    [("20261120083000", "%Y%m%d%H%M%S"), ("20261320083000", None), ("49302312500112", None), ("10261120083000", None)],
)
def test_fourteen_digits_are_a_time_only_if_they_can_be_one(text: str, form: str | None) -> None:
    """Telephone numbers with an extension have as many."""
    assert format_of(text) == form
