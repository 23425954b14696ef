"""When a run polls what takes a while to count."""

from __future__ import annotations

import time
from dataclasses import dataclass

POLL_SECONDS = 0.25
"""From one opportunity to poll to the next."""

_AT_FIRST = 0.5  # seconds
_SHARE = 100  # a poll may cost at most one part in so many of the time


@dataclass(slots=True)
class PollInterval:
    """When to poll something again that takes a while to count: rarely enough to cost little, `most` seconds apart.

    With `predicts` it polls half way to the predicted end at the latest, so that the end is noticed soon, and at every
    opportunity once at most `nearly_done` are left. A prediction needs two polls, so the second one comes soon.
    """

    most: float
    nearly_done: int = 0
    predicts: bool = True
    _next: float = 0.0
    _polled: float = 0.0
    _left: int = 0

    @property
    def is_nearly_done(self) -> bool:
        """Whether the last poll found few left."""
        return bool(self._polled) and self._left <= self.nearly_done

    def is_due(self, now: float) -> bool:
        """Whether it is time; moments are of the monotonic clock, in seconds."""
        return now >= self._next

    def note(self, began: float, left: int) -> None:
        """Note that a poll began at this moment and found so many left."""
        pause = min(_SHARE * (time.monotonic() - began), self.most)
        done = self._left - left
        if self.predicts and not self._polled:
            pause = min(pause, _AT_FIRST)
        elif self.predicts and done > 0:
            pause = min(pause, (began - self._polled) * left / done / 2)
        self._next = began + pause if left > self.nearly_done else began
        self._polled, self._left = began, left
