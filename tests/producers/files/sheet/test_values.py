"""A number in a sheet keeps its digits, is the date that it shows, or is refused."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.files.sheet.values import Style, cell_format, number_text, shown_text, style_of


@given(st.integers(-(2**53) + 1, 2**53 - 1))
def test_a_whole_number_keeps_its_digits_however_it_is_written(number: int) -> None:
    """As digits, with a decimal point, and with an exponent after all of its digits, as some programs write it."""
    exponent = max(len(str(abs(number))) - 1, 0)
    mantissa = f"{Decimal(number).scaleb(-exponent):f}"
    for written in (str(number), f"{number}.0", f"{mantissa}E{exponent}"):
        if written.startswith("-0"):
            continue
        assert number_text(written, Style.PLAIN, since_1904=False) == (str(number), None), written


@pytest.mark.parametrize(
    "written",
    ["9.19E+11", "9.19E11", "1e3", "1.5", "9007199254740992", "4.47700900123E30", "1E400", "NaN", "x", "", "0.1"],
)
def test_any_other_number_is_refused(written: str) -> None:
    """It may have been rounded, and whose number it is cannot be known."""
    assert number_text(written, Style.PLAIN, since_1904=False) == (written, "damaged_number")


def test_a_number_that_is_shown_in_scientific_notation_is_refused() -> None:
    """A program that read 9.19E+11 from a CSV file holds 919000000000 and shows what it read."""
    assert number_text("919000000000", Style.SCIENTIFIC, since_1904=False)[1] == "damaged_number"


@pytest.mark.parametrize(
    ("number", "code", "style"),
    [
        (0, None, Style.PLAIN),
        (1, None, Style.PLAIN),
        (14, None, Style.DATE),
        (22, None, Style.DATE),
        (11, None, Style.SCIENTIFIC),
        (48, None, Style.SCIENTIFIC),
        (164, "General", Style.PLAIN),
        (164, "0", Style.PLAIN),
        (164, "@", Style.PLAIN),
        (164, '"shoes" 0', Style.PLAIN),
        (164, "[Red]0;[Blue]-0", Style.PLAIN),
        (164, "\\d0", Style.PLAIN),
        (164, "dd.mm.yyyy", Style.DATE),
        (164, "[$-407]d. mmmm yyyy;@", Style.DATE),
        (164, "[h]:mm", Style.DATE),
        (164, "0.00E+00", Style.SCIENTIFIC),
        (164, "##0.0E-0", Style.SCIENTIFIC),
    ],
)
def test_a_format_says_what_a_number_is(number: int, code: str | None, style: Style) -> None:
    """Words in quotes, colours and languages say nothing."""
    assert style_of(number, code) is style


@given(st.datetimes(datetime(1900, 3, 1), datetime(9999, 12, 30)))  # noqa: DTZ001 - as in a sheet
def test_a_date_is_what_the_sheet_shows(moment: datetime) -> None:
    """To the millisecond, though the sheet holds a float of days."""
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    days = (moment - datetime(1899, 12, 30)) / timedelta(days=1)  # noqa: DTZ001

    text, error = number_text(repr(days), Style.DATE, since_1904=False)

    assert error is None
    assert datetime.fromisoformat(text) == moment


def test_whole_days_are_dates_and_1904_is_another_count() -> None:
    """Programs on old Macs count from 1904."""
    assert number_text("46346", Style.DATE, since_1904=False) == ("2026-11-20", None)
    assert number_text("44884.5", Style.DATE, since_1904=True) == ("2026-11-20T12:00:00", None)


@pytest.mark.parametrize("written", ["60", "0.5", "-1", "2958466", "x", "NaN"])
def test_what_is_no_date_is_refused(written: str) -> None:
    """A time of day, and the first days of 1900, which programs count differently."""
    assert number_text(written, Style.DATE, since_1904=False) == (written, "unreadable_time")


@pytest.mark.parametrize(
    ("number", "code", "shown"),
    [
        (7700900123, "00000000000", "07700900123"),
        (12345678, "0000000000", "0012345678"),
        (7, "[$-407]000;-000", "007"),
        (447700900123, "+0", "+447700900123"),
        (7700900123, '"+44 "0', "+44 7700900123"),
        (7700900123, "+\\4\\40", "+447700900123"),
        (612345678, '0#" "##" "##" "##" "##', "06 12 34 56 78"),
        (2025550104, "(000) 000-0000", "(202) 555-0104"),
        (2025550104, "[<=9999999]###\\-####;\\(###\\)\\ ###\\-####", "(202) 555-0104"),
        (5550104, "[<=9999999]###\\-####;\\(###\\)\\ ###\\-####", "5550104"),
        (12345678, "0000-0000", "12345678"),
        (1234567, "#,##0_);(#,##0)", "1234567"),
        (12, '"ID "0', "12"),
        (50, "0%", "50"),
        (12, "# ?/?", "12"),
        (12, "General", "12"),
        (-12, "0000", "-12"),
    ],
)
def test_a_number_is_what_its_format_shows_where_that_has_other_digits(number: int, code: str, shown: str) -> None:
    """A card 0012345678 is shown and another one, 12345678, opted out; a US number goes to a person in Egypt."""
    found = cell_format(164, code)
    assert (shown_text(str(number), found.code) if found.code else str(number)) == shown
