"""Whether an opt-out is delivered though the provider is confirmed to hold it.

A full dump that stamps the time of its export on every row would call for everybody each night. So a time is taken for
the export's if it stands on more than half of a file's rows and on more than a thousand; times within one minute count
as one. Rows with it are treated like rows that bring no time, and only those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import orjson


class Reassert(StrEnum):
    """Which opt-outs are delivered again to a slot that is confirmed to hold them.

    FRESH: those with a time of their own that is later than the confirmation, for what was confirmed may have been
    changed by others since. ALWAYS: all, also those of a file that says the same as the one before. NEVER: none.
    """

    FRESH = "fresh"
    ALWAYS = "always"
    NEVER = "never"


BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on", "t", "y"), Reassert.ALWAYS),
    **dict.fromkeys(("false", "0", "no", "off", "f", "n"), Reassert.NEVER),
}
"""The setting's former values, in every spelling that was valid."""


def parse_reassert(value: object) -> object:
    """Return the way that a setting names, also in its former form; anything else as it is."""
    if not isinstance(value, str | bool):
        return value
    text = str(value).strip().lower()
    return BOOLEANS.get(text, text)


@dataclass(frozen=True, slots=True)
class ReassertRules:
    """The way of each connection: `by_connection` holds those that differ from `default`."""

    default: Reassert = Reassert.FRESH
    by_connection: Mapping[str, Reassert] = field(default_factory=dict)

    def of(self, connection: str) -> Reassert:
        """Return the way of a connection."""
        return self.by_connection.get(connection, self.default)

    def overruled_by(self, option: str | None) -> ReassertRules:
        """Return the rules under the option of a command, which holds for all connections; None changes nothing."""
        return self if option is None else ReassertRules(Reassert(option))


STAMPED_FROM = 1_000
"""An export's time stands on more rows than this."""
_SECOND = 1_000_000
_TOGETHER = 60
_KEPT = 1_000


class ExportTime(NamedTuple):
    """The first and the last moment (microseconds) that count as the time of an export."""

    first: int
    last: int


def count_times(counted: str | None, moments: Iterable[int]) -> str | None:
    """Add the own times of some rows (microseconds) to the count of a file's; None as long as no row brings one.

    They are counted second by second. A thousand seconds are kept, by the algorithm of Misra and Gries: where there are
    more, each count may be too small, by a thousandth of the rows at most. So a time may be missed that stands on
    hardly more than half of the rows, and its opt-outs are sent. https://doi.org/10.1016/0167-6423(82)90012-0
    """
    counts = Counter(_counts(counted))
    counts.update([moment // _SECOND for moment in moments])
    if len(counts) > _KEPT:
        least = sorted(counts.values(), reverse=True)[_KEPT]
        counts = Counter({second: count - least for second, count in counts.items() if count > least})
    return orjson.dumps(dict(counts), option=orjson.OPT_NON_STR_KEYS).decode() if counts else counted


def _counts(counted: str | None) -> dict[int, int]:
    return {int(second): count for second, count in orjson.loads(counted).items()} if counted else {}


def find_export_time(counted: str | None, rows: int) -> ExportTime | None:
    """Return the export's time of a file with so many rows, whose own times are counted; None if it has none."""
    counts = _counts(counted)
    seconds = sorted(counts)
    best, held, start, stamp = 0, 0, 0, None
    for second in seconds:
        held += counts[second]
        while second - seconds[start] >= _TOGETHER:
            held -= counts[seconds[start]]
            start += 1
        if held > best:
            best, stamp = held, ExportTime(seconds[start] * _SECOND, (second + 1) * _SECOND - 1)
    return stamp if best > STAMPED_FROM and 2 * best > rows else None
