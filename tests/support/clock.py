"""A clock in the test's hand."""

from __future__ import annotations


class Clock:
    """A clock that moves when the test says so, in seconds."""

    def __init__(self) -> None:
        self.micros = 1_800_000_000_000_000

    def __call__(self) -> int:
        """Return the time in microseconds."""
        return self.micros

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.micros += int(seconds * 1_000_000)
