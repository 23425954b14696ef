"""Time and rates: one clock, rates as they are written, a sliding log that enforces them, and the worst window."""

import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

_EPOCH = time.time() - time.perf_counter()


def now() -> float:
    """Return seconds since 1970, advancing with the monotonic clock so that differences are exact."""
    return _EPOCH + time.perf_counter()


_UNITS = {"second": 1.0, "minute": 60.0, "hour": 3600.0}
_WRITTEN = re.compile(r"(?P<calls>[1-9]\d*)/(?:(?P<unit>second|minute|hour)|(?P<seconds>\d+(?:\.\d+)?)s)")


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `calls` in any window of `seconds`."""

    calls: int
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read `100/minute`, `50/second`, `10/hour` or `5/0.5s`; `off` gives None; anything else is a ValueError."""
        if text == "off":
            return None
        if (found := _WRITTEN.fullmatch(text)) is None:
            raise ValueError(f"{text!r} is not a rate such as 100/minute, 50/second, 5/0.5s or off")
        return cls(int(found["calls"]), _UNITS.get(found["unit"]) or float(found["seconds"]))


class SlidingLog:
    """The times of the accepted calls of the last window; a call is accepted while fewer than the limit are in it.

    `burst` extra calls are tolerated in every window, because a client that keeps the rate exactly by its own clock
    may reach us a little bunched by the network; `slack` is how many seconds too early a call may come instead.
    """

    def __init__(self, rate: Rate | None, burst: int = 0, slack: float = 0.0) -> None:
        self._rate = Rate(rate.calls, max(0.0, rate.seconds - slack)) if rate else None
        self._limit = rate.calls + burst if rate else 0
        self._accepted: deque[float] = deque()

    def wait(self, at: float) -> float:
        """Accept a call at this time and return 0, or refuse it and return the seconds until there is room."""
        if self._rate is None:
            return 0.0
        self._forget(at - self._rate.seconds)
        if len(self._accepted) >= self._limit:
            return self._accepted[0] + self._rate.seconds - at
        self._accepted.append(at)
        return 0.0

    def clear(self) -> None:
        """Forget every accepted call."""
        self._accepted.clear()

    def _forget(self, until: float) -> None:
        while self._accepted and self._accepted[0] <= until:
            self._accepted.popleft()


def worst_window(times: Sequence[float], seconds: float) -> int:
    """Return the greatest number of these ascending times that lie in one half-open window of this length."""
    worst = first = 0
    for last, moment in enumerate(times):
        while times[first] <= moment - seconds:
            first += 1
        worst = max(worst, last - first + 1)
    return worst
