"""What a number in a sheet is, by its digits and its style: a number whose digits all stand there, or a date.

A sheet holds numbers as text in its XML, dates as days since the end of 1899 (or since 1904), and only the number
format of a cell tells one from the other (ECMA-376 part 1, 18.8.30).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple


class Style(Enum):
    """How a cell shows its number."""

    PLAIN = auto()
    DATE = auto()
    SCIENTIFIC = auto()


class CellFormat(NamedTuple):
    """What a cell shows of its number; `code` is the format where it may show other digits than the cell holds."""

    style: Style = Style.PLAIN
    code: str = ""


_DATES = {*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)}
_SCIENTIFIC = {11, 48}
_LITERAL = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!h+\]|m+\]|s+\])[^\]]*\]')
_EXACT = 2**53
"""Whole numbers below this are kept exactly by every program that writes sheets."""

_WHOLE = re.compile(r"-?\d{1,16}")
_FIRST_DAY = datetime(1899, 12, 30)  # noqa: DTZ001 - a sheet knows no zones
_FIRST_DAY_1904 = datetime(1904, 1, 1)  # noqa: DTZ001
_LEAP_OF_1900 = 61
"""The first day after 1900-02-29, which there never was; what a number below it means differs by program."""

_LAST_DAY = 2_958_465
_MILLISECOND = timedelta(milliseconds=1)


def style_of(number: int, code: str | None) -> Style:
    """Return what a number format shows: a built-in one by its number, any other by its code."""
    if code is None:
        return Style.DATE if number in _DATES else Style.SCIENTIFIC if number in _SCIENTIFIC else Style.PLAIN
    bare = _LITERAL.sub("", code.partition(";")[0]).lower()
    if bare == "general":
        return Style.PLAIN
    if "e+" in bare or "e-" in bare:
        return Style.SCIENTIFIC
    return Style.DATE if any(letter in bare for letter in "ymdhs") else Style.PLAIN


def cell_format(number: int, code: str | None) -> CellFormat:
    """Return what `style_of` does, and the format itself where it matters."""
    style = style_of(number, code)
    matters = code is not None and style is Style.PLAIN and any(_alters(one) for one in _sections(code))
    return CellFormat(style, code if matters and code else "")


def shown_text(digits: str, code: str) -> str:
    """Return a whole number as a format shows it, where it shows other digits, a + or brackets; else as it is.

    7700900123 may be shown as 07700900123 or +44 7700900123, and 2025550104 as (202) 555-0104, which is a number
    without its country code: what is shown is what the author of a sheet has seen and meant.
    """
    section = next((one for one in _sections(code) if _holds(one, int(digits))), "")
    if digits.startswith("-") or not _alters(section):
        return digits
    parts = _parts(section)
    left, shown = list(digits), ""
    first = next(place for place, (kind, _) in enumerate(parts) if kind == "digit")
    for place in range(len(parts) - 1, -1, -1):
        kind, text = parts[place]
        if kind != "digit":
            shown = text + shown
            continue
        shown = (left.pop() if left else "0" if text == "0" else "") + shown
        if place == first:
            shown = "".join(left) + shown
            left = []
    return shown.strip() if _digits(shown) != digits or "(" in shown or "+" in shown else digits


_SECTION = re.compile(r'(?:"[^"]*"|\\.|[^;"\\])+')
_CONDITION = re.compile(r"\[(<=|>=|<>|<|>|=)(\d+)\]")
_PART = re.compile(r'"([^"]*)"|\\(.)|_.|\*.|\[[^\]]*\]|([0#?])|(.)', re.DOTALL)
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<>": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_NOT_AS_WRITTEN = re.compile(r"[.,%@/?]|general", re.IGNORECASE)
"""What makes a format one of amounts, not of numbers that name something: points, thousands, per cent, fractions."""


@lru_cache(maxsize=64)  # a sheet has few formats, and a column's cells share theirs
def _sections(code: str) -> list[str]:
    return _SECTION.findall(code)


def _holds(section: str, number: int) -> bool:
    found = _CONDITION.search(section)
    return found is None or _COMPARE[found[1]](number, int(found[2]))


@lru_cache(maxsize=64)
def _parts(section: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for quoted, escaped, digit, other in _PART.findall(section):
        if text := digit or quoted or escaped or other:
            found.append(("digit" if digit else "text", text))
    return found


@lru_cache(maxsize=64)
def _alters(section: str) -> bool:
    """Whether a section of a format may show digits that a number does not have, a + or brackets."""
    parts = _parts(section)
    digits = "".join(text for kind, text in parts if kind == "digit")
    if not digits or _NOT_AS_WRITTEN.search(_LITERAL.sub("", section)):
        return False
    letters = "".join(text for kind, text in parts if kind == "text")
    return digits.count("0") > 1 or "0" in digits[:-1] or any(one.isdigit() or one in "+(" for one in letters)


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def number_text(written: str, style: Style, *, since_1904: bool) -> tuple[str, str | None]:
    """Return the text of a number, and why it cannot be used: `damaged_number` or `unreadable_time`.

    A whole number below 2^53 is its digits if all of them are written: 4.47700900123E11 is 447700900123, as some
    programs write it; 9.19E11, and any number that the sheet shows in scientific notation, may have been rounded.
    """
    if style is Style.DATE:
        return _date(written, since_1904=since_1904)
    if style is Style.PLAIN and _WHOLE.fullmatch(written) and abs(int(written)) < _EXACT:
        return written, None
    try:
        number = Decimal(written)
    except InvalidOperation:
        return written, "damaged_number"
    exponent = number.as_tuple().exponent
    is_whole = isinstance(exponent, int) and exponent <= 0 and number == number.to_integral_value()
    if style is Style.SCIENTIFIC or not is_whole or abs(number) >= _EXACT:
        return written, "damaged_number"
    return str(int(number)), None


def _date(written: str, *, since_1904: bool) -> tuple[str, str | None]:
    """Return the date that a number of days means, to the millisecond, as sheets keep it, and without a zone."""
    try:
        days = Decimal(written)
    except InvalidOperation:
        return written, "unreadable_time"
    if not days.is_finite() or not (0 if since_1904 else _LEAP_OF_1900) <= days <= _LAST_DAY:
        return written, "unreadable_time"
    milliseconds = round(days * 86_400_000)
    moment = (_FIRST_DAY_1904 if since_1904 else _FIRST_DAY) + milliseconds * _MILLISECOND
    if milliseconds % 86_400_000 == 0:
        return moment.date().isoformat(), None
    return moment.isoformat(timespec="milliseconds" if milliseconds % 1000 else "seconds"), None
