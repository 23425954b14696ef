"""Times in a declared format: of a spreadsheet, a clock that counts seconds, or a pattern of strptime.

A format is declared by a person or settled by a whole column. It is never guessed from one cell, because `11/12/2026`
is two days.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from consent.times import UnusableTime, read_time

AUTO = "auto"
"""The order of day and month is settled by the whole column, or the file is refused."""

_EPOCHS = {"epoch": 1, "epoch_ms": 1_000}
_DAYS_OF_EXCEL = datetime(1899, 12, 30)  # noqa: DTZ001 - a spreadsheet knows no zone
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?", re.ASCII)

_PROBE = datetime(2027, 11, 22, 20, 30)  # noqa: DTZ001 - it is written and read back to try a format
_EXAMPLE = "like %d.%m.%Y %H:%M, or epoch, epoch_ms, excel or auto"


def check_format(form: str) -> None:
    """Raise ValueError, with the remedy, if a time format cannot tell one day from every other."""
    if form in {*_EPOCHS, "excel", AUTO}:
        return
    if "%p" in form and "%I" not in form:
        raise ValueError("%p tells morning from afternoon only beside %I: write %I for the hour, or leave %p out")
    if "%Z" in form:
        raise ValueError("%Z names no one zone: leave it out and give the time zone, or use %z for an offset")
    try:
        written = _PROBE.replace(tzinfo=UTC).strftime(form)
        read = datetime.strptime(written, form)  # noqa: DTZ007
    except ValueError:
        raise ValueError(f"{form!r} is no time format: write it {_EXAMPLE}") from None
    if read.date() != _PROBE.date() or read.hour not in {0, _PROBE.hour}:
        raise ValueError(f"{form!r} does not tell year, month, day and hour of a time: write it {_EXAMPLE}")


_IN_UTC = re.compile(r" (?:UTC|GMT|Z)$|(?<=%[SMf])(?:UTC|GMT|Z)$")
"""What stands at the end of a format whose times are all written as times of UTC."""


def names_zone(form: str) -> bool:
    """Whether times of a format are exact moments without a zone from elsewhere."""
    return form in _EPOCHS or "%z" in form or _IN_UTC.search(form) is not None


def time_reader(form: str) -> Callable[[str], datetime]:
    """Return what reads a cell of a format, with a zone only if it names one; it raises UnusableTime."""
    if form in _EPOCHS:
        return lambda text: _since_1970(text, form)
    return _of_a_spreadsheet if form == "excel" else lambda text: _by_pattern(text, form)


def _since_1970(text: str, form: str) -> datetime:
    whole, _, part = text.replace(",", ".").partition(".")
    scale = _EPOCHS[form]
    if _NUMBER.fullmatch(text) is None or len(whole) not in _LENGTHS[form]:
        raise UnusableTime("unreadable_time", f"this is no number of {_UNITS[form]} since 1970{_instead(text)}")
    micros = int(whole) * (1_000_000 // scale) + int(f"{part:0<6}"[:6]) // scale
    return _not_too_old(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros))


_LENGTHS = {"epoch": (9, 10), "epoch_ms": (12, 13)}
_UNITS = {"epoch": "seconds", "epoch_ms": "milliseconds"}


def _of_a_spreadsheet(text: str) -> datetime:
    if _NUMBER.fullmatch(text) is None or len(re.split("[.,]", text)[0]) != len("46000"):
        raise UnusableTime("unreadable_time", f"this is no number of days as a spreadsheet counts{_instead(text)}")
    days = float(text.replace(",", "."))
    return _not_too_old(_DAYS_OF_EXCEL + timedelta(milliseconds=round(days * 86_400_000)))


def _by_pattern(text: str, form: str) -> datetime:
    try:
        moment = datetime.strptime(text, form)  # noqa: DTZ007 - its zone is the file's, unless the format tells it
        return _not_too_old(moment.replace(tzinfo=UTC) if _IN_UTC.search(form) else moment)
    except ValueError as error:
        if isinstance(error, UnusableTime):
            raise
        raise UnusableTime("unreadable_time", f"this is no time like {form}{_instead(text)}") from None


def _not_too_old(moment: datetime) -> datetime:
    read_time(moment.isoformat())  # which refuses the zero dates of systems
    return moment


def _instead(text: str) -> str:
    """Return the format that a cell of another format seems to have, or nothing."""
    try:
        read_time(text)
    except UnusableTime:
        found = format_of(text)
        return f": it looks like {found}" if found else ""
    return ": it is ISO 8601, which needs no time format"


_SEPARATED = re.compile(
    r"(\d{1,2})([./-])(\d{1,2})\2(\d{4}|\d{2})(?:(,? )(\d{1,2}):(\d\d)(:\d\d)?( ?[AaPp][Mm])?)?", re.ASCII
)
_UNAMBIGUOUS = (
    *("%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%Y.%m.%d"),
    *("%b %d, %Y", "%b %d, %Y %I:%M %p", "%b %d, %Y, %I:%M %p", "%b %d %Y", "%b %d %Y %I:%M%p"),
    *("%d %b %Y", "%d %b %Y %H:%M", "%d %b %Y %H:%M:%S", "%d-%b-%Y", "%d-%b-%Y %H:%M:%S"),
    *(
        "%B %d, %Y",
        "%B %d, %Y %I:%M %p",
        "%d %B %Y",
        "%a, %d %b %Y %H:%M:%S %z",
        "%Y-%m-%d %H:%M:%S %z",
        "%Y-%m-%d %H:%M:%S UTC",
    ),
)


_PACKED = "%Y%m%d%H%M%S"
_WHOLE = len("20261120083000")


def format_of(text: str) -> str | None:
    """Return the format that a cell has, None if it is ISO 8601 or of no known form.

    It is `auto` where the day and the month cannot be told apart by this cell.
    """
    digits = text.replace(",", ".").partition(".")[0]
    if _NUMBER.fullmatch(text) is not None:
        if len(digits) == _WHOLE:
            return _PACKED if digits.startswith("20") and _has(text, _PACKED) else None
        return {5: "excel", 9: "epoch", 10: "epoch", 13: "epoch_ms"}.get(len(digits))
    if (found := _SEPARATED.fullmatch(text)) is not None:
        orders = _orders(found)
        return _pattern(found, orders.pop()) if len(orders) == 1 else AUTO if orders else None
    return next((form for form in _UNAMBIGUOUS if _has(text, form)), None)


def _has(text: str, form: str) -> bool:
    try:
        datetime.strptime(text, form)  # noqa: DTZ007
    except ValueError:
        return False
    return True


def _orders(found: re.Match[str]) -> set[str]:
    """Return the orders of day and month that a date can be written in: `dm`, `md`, both or none."""
    first, second = int(found[1]), int(found[3])
    months = range(1, 13)
    return {order for order, month, day in (("dm", second, first), ("md", first, second)) if month in months and day}


def _pattern(found: re.Match[str], order: str) -> str:
    mark = found[2]
    day_month = f"%d{mark}%m" if order == "dm" else f"%m{mark}%d"
    date = f"{day_month}{mark}{'%Y' if len(found[4]) == len('2026') else '%y'}"
    if not found[5]:
        return date
    seconds, half = ":%S" if found[8] else "", found[9]
    clock = f"%I:%M{seconds}{' ' if half.startswith(' ') else ''}%p" if half else f"%H:%M{seconds}"
    return f"{date}{found[5]}{clock}"


def both_orders(text: str) -> tuple[str, ...]:
    """Return the formats that a cell may have whose day and month cannot be told apart."""
    found = _SEPARATED.fullmatch(text)
    return () if found is None else (_pattern(found, "dm"), _pattern(found, "md"))


class FormatFinder:
    """Settles the format of a column by all of its cells: one day after the 12th tells the order for the others."""

    def __init__(self) -> None:
        self._orders = {"dm", "md"}
        self._samples: dict[str, re.Match[str]] = {}
        self._others: set[str] = set()
        self.cells = 0

    def add(self, cells: Iterable[str]) -> None:
        """Look at some cells; empty ones say nothing."""
        for cell in cells:
            text = cell.strip()
            if not text:
                continue
            self.cells += 1
            if (found := _SEPARATED.fullmatch(text)) is not None:
                if len(orders := _orders(found)) == 1:
                    self._orders &= orders
                self._samples.setdefault(_pattern(found, "dm"), found)
            else:
                self._others.add(_kind(text))

    def settle(self) -> str | None:
        """Return the one format of the column, "" for ISO 8601, `auto` for two possible orders, None for no one."""
        if not self.cells:
            return ""
        if not self._samples:
            return next(iter(self._others)) if len(self._others) == 1 and "?" not in self._others else None
        if self._others or len(self._samples) > 1 or not self._orders:
            return None
        if len(self._orders) == 2:  # noqa: PLR2004 - day first, and month first
            return AUTO
        return _pattern(next(iter(self._samples.values())), next(iter(self._orders)))


def _kind(text: str) -> str:
    try:
        read_time(text)
    except UnusableTime:
        return format_of(text) or "?"
    return ""
