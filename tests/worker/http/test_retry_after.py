"""How long a provider asks us to wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from worker.http.failures import LONGEST, retry_after_seconds
from worker.providers.classify import pause

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 1.5 ", 1.5),
        ("999999999", LONGEST),
        ("Sun, 22 Nov 2026 08:01:00 GMT", 60),
        ("Sun, 22 Nov 2026 08:01:00 -0000", 60),
        ("Sun, 22 Nov 2026 07:00:00 GMT", 0),
        ("Sun, 22 Nov 2099 07:00:00 GMT", LONGEST),
        (None, None),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("٣", None),
        ("Sun, 99 Nov 2026 07:00:00 GMT", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    """Both forms of the header mean seconds from now, a day at most, and anything else means nothing."""
    assert seconds == retry_after_seconds(header, NOW)


@pytest.mark.parametrize(("asked", "seconds"), [(None, 60), (0, 1), (0.2, 1), (1, 1), (7, 7), (LONGEST, LONGEST)])
def test_pause(asked: float | None, seconds: float) -> None:
    """Told to slow down without a time we wait as long as usual; "0" is a time, and means a second."""
    assert pause(asked, 60) == seconds


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_date_is_measured_by_the_clock_that_wrote_it(minutes: int) -> None:
    """With our clock ten minutes off, everybody waited for ten minutes, or called a provider that had said to wait."""
    ours = NOW + timedelta(minutes=minutes)

    seconds = retry_after_seconds("Sun, 22 Nov 2026 08:00:30 GMT", ours, "Sun, 22 Nov 2026 08:00:00 GMT")

    assert seconds == 30


def test_a_date_without_a_sound_date_of_the_reply_is_measured_by_ours() -> None:
    """A gateway that writes no readable Date is still understood."""
    assert retry_after_seconds("Sun, 22 Nov 2026 08:00:30 GMT", NOW, "today") == 30
