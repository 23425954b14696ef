"""Times: as they are written, as the ledger keeps them, and as people read them.

What is written is read here alone: exactly, or refused with a code and a message that says what it is.

A time is a date alone or a date and a time of day, as RFC 3339 writes them: `2026-11-22`, `2026-11-22T08:30:00Z`,
`2026-11-22 08:30:00.123+01:00`. `datetime.fromisoformat` reads much more: it takes the first digits of milliseconds
since 1970 for a year, and 23 of `112233Z` for hours. So it only sees what has this form.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

EARLIEST = datetime(2000, 1, 2, tzinfo=UTC)
"""A time before this is no consent but an empty field of some system: 0001 (Go, .NET), 1601 (Windows), 1753 and 1900
(SQL Server), 1899 (spreadsheets), 1970 (Unix), 1980 (zip), 2000-01-01 (devices without a clock)."""

_FIRST_DAY = f"{EARLIEST:%Y-%m-%d}"
EXAMPLE = "2026-11-22T08:30:00Z"
PATTERN = (
    r"^(?!2000-01-01)20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$"
)
"""The times that a producer should write, as a regular expression of JSON Schema; all of them can be read."""

_DATE = r"\d{4}-\d\d-\d\d"
_AFTER_12TH = r"(1[3-9]|2\d|3[01])"
_FORM = re.compile(rf"({_DATE})(?:[Tt ](\d\d:\d\d(?::\d\d(?:[.,]\d{{1,9}})?)?)([Zz]|[+-]\d\d(?::?\d\d)?)?)?", re.ASCII)

_DIGITS = {
    8: "the year, month and day without hyphens",
    **dict.fromkeys((9, 10), "seconds since 1970"),
    13: "milliseconds since 1970",
    14: "a date and a time without separators",
    **dict.fromkeys((15, 16), "microseconds since 1970"),
    18: "100-nanosecond steps since 1601, as Windows counts",
    19: "nanoseconds since 1970",
}
_OTHERS = [
    (re.compile(form, re.ASCII), message)
    for form, message in (
        (r"\d{5}([.,]\d+)?", "a spreadsheet's number of days (format the column as a date)"),
        (r"[+-]?(\d{9,10})[.,]\d+", "seconds since 1970"),
        (r"\d{8}[Tt ]?\d{4}(\d\d)?([.,]\d+)?([Zz]|[+-]\d{2}:?\d{2})?", "a date and a time without separators"),
        (rf"{_DATE}([Zz]|[+-]\d\d:?\d\d)", "a date with a zone and no time of day"),
        (r"\d{4}-?[Ww]\d\d(-?\d)?", "a week (name the day)"),
        (r"\d{4}-?\d{3}", "a year and the number of a day in it"),
        (rf"{_DATE}[Tt ]\d\d\.\d\d([.:]\d\d)?", "a time of day with dots (write colons)"),
        (rf"{_DATE}[Tt ]\d\d([Zz].*)?", "a time of day without minutes"),
        (rf"{_DATE}[Tt ][\d:]+[.,]\d{{10,}}.*", "a time with more than nine decimals of a second"),
        (
            rf"{_DATE}[Tt ][\d:.,]+ ?([A-Za-z]{{3,}}|[+-]\d\d:?\d\d)",
            "a zone apart from its time (write Z or +01:00 right behind it)",
        ),
        (rf"{_AFTER_12TH}[./-]\d{{1,2}}[./-]\d{{2,4}}.*", "the day first"),
        (rf"\d{{1,2}}[./-]{_AFTER_12TH}[./-]\d{{2,4}}.*", "the month first"),
        (r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}.*", "the day and the month first (which is which cannot be known)"),
        (r"\d{4}[./]\d{1,2}[./]\d{1,2}.*", "a date without hyphens"),
    )
]


class UnusableTime(ValueError):
    """A time that cannot be used: `code` for programs, the message for people, without what was written."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def read_time(written: object) -> datetime:
    """Return a time as it is written, with a zone only if it names one; microseconds are kept and no less.

    One that has been read already stays as it is. Raises UnusableTime: `unreadable_time` for any other form,
    `time_too_old` before `EARLIEST`.
    """
    if isinstance(written, datetime):
        return written
    text = str(written)
    if _FORM.fullmatch(text) is None:
        raise _unreadable(text)
    if text < _FIRST_DAY:
        raise _too_old()
    try:
        return datetime.fromisoformat(text if text[-1] != "z" else text.upper())
    except ValueError:
        raise UnusableTime("unreadable_time", f"there is no such day or time of day: {_REMEDY}") from None


def read_zone(name: str) -> ZoneInfo:
    """Return the time zone of a name like Europe/Berlin; raise ValueError, with an example, if there is none."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # it raises each of them, by what the name looks like
        raise ValueError(f"{name!r} is no time zone: give one like Europe/Berlin") from None


def _too_old() -> UnusableTime:
    message = f"a time before {_FIRST_DAY} is how systems write that they know none: write when the person said it"
    return UnusableTime("time_too_old", message)


def _placed(moment: datetime, zone: tzinfo) -> datetime:
    """Return a local time in its zone; raise UnusableTime if the clocks are put back or forward around it."""
    first, second = moment.replace(tzinfo=zone), moment.replace(tzinfo=zone, fold=1)
    before, after = first.utcoffset(), second.utcoffset()
    if before != after and before is not None and after is not None:
        raise UnusableTime(*(_TWICE if before > after else _NEVER))
    return first


def _unreadable(text: str) -> UnusableTime:
    message = _DIGITS.get(len(text)) if text.isdigit() else None
    message = message or next((message for form, message in _OTHERS if form.fullmatch(text)), None)
    return UnusableTime("unreadable_time", f"this looks like {message}: {_REMEDY}" if message else _REMEDY)


_REMEDY = f"write the time as ISO 8601, for example {EXAMPLE}"
_TWICE = (
    "ambiguous_time",
    "the clocks were put back, so this hour came twice: write the time with its offset from UTC, like +02:00 or +01:00",
)
_NEVER = (
    "no_such_time",
    "the clocks were put forward, so there was no such time: write the time with its offset from UTC, like +01:00",
)


def to_micros(moment: datetime, zone: tzinfo = UTC) -> int:
    """Return a moment as whole microseconds since 1970-01-01 UTC, the form in which changes and the ledger keep it.

    One without a zone is read in `zone`. Raises UnusableTime for a local time that the clocks of the zone showed twice
    (`ambiguous_time`) or never (`no_such_time`), because they were put back or forward.
    """
    delta = (moment if moment.tzinfo is not None else _placed(moment, zone)) - _EPOCH
    micros = (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
    if micros >= _YEAR_10000:
        raise UnusableTime("unreadable_time", _REMEDY)
    return micros


def from_micros(micros: int) -> datetime:
    """Return the moment, in UTC, that `to_micros` turned into a number."""
    seconds, rest = divmod(micros, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_10000 = 253_402_300_800_000_000  # from here on no moment can be written in UTC


_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def duration_text(seconds: float) -> str:
    """Return a length of time with its two greatest units, like "2 h 10 min"."""
    whole = max(0, round(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return _two(whole, _MINUTE, "min", 1, "s") if whole < 10 * _MINUTE else f"{round(whole / _MINUTE)} min"
    if whole < _DAY:
        return _two(whole, _HOUR, "h", _MINUTE, "min")
    return _two(whole, _DAY, "d", _HOUR, "h")


def _two(whole: int, great: int, its_name: str, small: int, name: str) -> str:
    count = round(whole / small)
    first, rest = divmod(count, great // small)
    return f"{first} {its_name} {rest} {name}" if rest else f"{first} {its_name}"
