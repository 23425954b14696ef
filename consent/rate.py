"""A provider's limit: so many calls in so many seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNITS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "day": 86_400,
}
_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+)?\s*([a-z]+?)s?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `calls` calls in any window of `seconds` seconds."""

    calls: float
    seconds: float

    @property
    def interval(self) -> float:
        """Seconds from one call to the next when they are spread evenly."""
        return self.seconds / self.calls

    @property
    def per_second(self) -> float:
        """Calls per second, averaged over the window."""
        return self.calls / self.seconds

    def __str__(self) -> str:
        """Write the rate as it is written in the settings."""
        names = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}
        return f"{self.calls:g}/{names.get(int(self.seconds), f'{self.seconds:g}s')}"


def parse_rate(text: str) -> Rate:
    """Read "100/minute", "50/s" or "5/60s"; raise ValueError with the remedy for anything else."""
    match = _FORM.fullmatch(text)
    unit = _UNITS.get(match[3].lower()) if match else None
    if match is None or unit is None or float(match[1]) <= 0 or match[2] == "0" * len(match[2] or "-"):
        message = f"a rate is written like 100/minute or 50/second, not {text!r}"
        raise ValueError(message)
    return Rate(float(match[1]), float(unit * int(match[2] or 1)))
