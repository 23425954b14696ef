"""The rate limit, and how a rate is judged."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import ValidationError

from sandbox.capillary.settings import CapillarySettings
from sandbox.rate import Rate, SlidingLog, worst_window
from tests.sandbox.calling import Starting


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/minute", Rate(100, 60)),
        ("50/second", Rate(50, 1)),
        ("9/hour", Rate(9, 3600)),
        ("5/0.5s", Rate(5, 0.5)),
        ("off", None),
    ],
)
def test_a_rate_is_written_as_calls_per_time(text: str, rate: Rate | None) -> None:
    """A rate is calls, a slash, and a unit or a number of seconds."""
    assert Rate.parse(text) == rate


@pytest.mark.parametrize("text", ["100", "0/minute", "5/fortnight", "", "5/s"])
def test_another_text_is_no_rate(text: str) -> None:
    """The settings refuse what cannot be read as a rate."""
    with pytest.raises(ValidationError, match="is not a rate"):
        CapillarySettings(rate=text)


def test_a_window_slides() -> None:
    """Room comes when the oldest accepted call is a window old; refused calls do not count."""
    log = SlidingLog(Rate(2, 1.0), burst=0)

    waits = [log.wait(at) for at in (0.0, 0.5, 0.75, 1.0, 1.25, 1.5)]

    assert waits == [0, 0, 0.25, 0, 0.25, 0]


@pytest.mark.parametrize(
    ("times", "seconds", "worst"),
    [([], 1, 0), ([0, 0.5, 0.9], 1, 3), ([0, 1, 2], 1, 1), ([0, 0.9, 1.1, 1.2, 3], 1, 3)],
)
def test_the_worst_window_is_half_open(times: list[float], seconds: float, worst: int) -> None:
    """Two calls exactly one window apart are not in one window."""
    assert worst_window(times, seconds) == worst


def test_no_window_holds_more_than_the_rate_and_its_tolerance(start: Starting) -> None:
    """Under forty calls at once exactly rate plus burst pass, the others get 429, and the stats tell both."""
    capillary = start(rate="5/30s", burst=1)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: capillary.write(str(n)).status_code, range(40)))

    stats = capillary.stats(window=30)

    assert (replies.count(200), replies.count(429)) == (6, 34)
    assert stats["worst_window"] == {"seconds": 30, "calls": 40, "accepted": 6}
    assert (stats["throttled"], stats["customers"]) == (34, 6)


def test_a_429_is_as_configured(start: Starting) -> None:
    """Body and Retry-After of a 429 are knobs, and the wait is in whole seconds."""
    capillary = start(rate="1/30s", burst=0, retry_after=True, throttled_body={"busy": True})
    capillary.write("1001")

    reply = capillary.read("1001")

    assert (reply.status_code, reply.json(), reply.headers["Retry-After"]) == (429, {"busy": True}, "30")
