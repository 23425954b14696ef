"""Durations, numbers, masks and forecasts, in words."""

from __future__ import annotations

import pytest

from consent.connection import Rate
from consent.errors import ConfigurationError
from consent.identifiers.masking import masked, revealed
from consent.ledger.queue.breakers import Breaker, BucketHealth
from console.ui.limits import Throughput, time_needed
from console.ui.progress import why_stopped
from console.ui.text import counted, duration_text, parse_duration, spoken

HUNDRED_A_MINUTE = Rate(100, 60)


@pytest.mark.parametrize(
    ("seconds", "message"),
    [(0.2, "0 s"), (59.4, "59 s"), (90, "1 min 30 s"), (3599, "60 min"), (7800, "2 h 10 min"), (90_000, "1 d 1 h")],
)
def test_times_are_told_with_two_units(seconds: float, message: str) -> None:
    """No one has to convert seconds."""
    assert duration_text(seconds) == message


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172_800)])
def test_times_are_read_as_people_write_them(text: str, seconds: float) -> None:
    """2d means two days."""
    assert parse_duration(text, "--patience") == seconds


@pytest.mark.parametrize("text", ["", "soon", "15", "5 apples", "-3m"])
def test_other_times_are_refused(text: str) -> None:
    """A number without a unit is not guessed."""
    with pytest.raises(ConfigurationError, match="--patience"):
        parse_duration(text, "--patience")


def test_one_call_is_not_1_calls() -> None:
    """Numbers agree with their nouns."""
    assert (counted(1, "call"), counted(2000, "call")) == ("1 call", "2,000 calls")


def test_the_limit_sets_the_time() -> None:
    """13,000 customers at a hundred a minute take two hours and ten minutes."""
    assert time_needed(13_000, HUNDRED_A_MINUTE) == "at 100/minute: about 2 h 10 min"


def test_a_slower_pace_is_admitted() -> None:
    """If it goes slower than the limit allows, the time left is told from what was measured."""
    pace = Throughput()
    for second in range(30):
        pace.note(second, {"capillary": 1000 - second // 2})
    shown = pace.time_left("capillary", 986, HUNDRED_A_MINUTE)
    assert shown.startswith("at 29/minute lately, the limit is 100/minute: about 3")


def test_a_faster_pace_is_not_promised() -> None:
    """A lucky moment is not projected: the limit holds for the rest."""
    pace = Throughput()
    for second in range(10):
        pace.note(second, {"capillary": 1000 - 50 * second})
    assert pace.time_left("capillary", 500, HUNDRED_A_MINUTE) == "at 100/minute: about 5 min"


def test_standstill_is_said() -> None:
    """Where nothing moves, no time is promised."""
    pace = Throughput()
    for second in range(20):
        pace.note(second, {"capillary": 10})
    assert "nothing was finished in the last" in pace.time_left("capillary", 10, HUNDRED_A_MINUTE)


def test_masks_keep_the_last_characters_only() -> None:
    """Enough to recognise someone one knows already, not enough to find anybody."""
    address = {"identifier_name": "mobile", "identifier_value": "15550100417", "source": "INSTORE"}
    assert masked(address) == "identifier_name=mobile identifier_value=…417 source=INSTORE"
    assert masked({"user_id": "12345"}) == "user_id=…45"
    assert masked({"user_id": "123"}) == "user_id=…"
    assert "15550100417" in revealed(address)


def test_why_a_bucket_makes_no_calls() -> None:
    """Refused, down and told to wait are different things; a healthy one is none of them."""
    now = 1_800_000_000.0
    soon = int((now + 30) * 1e6)
    assert why_stopped(None, now) is None
    assert why_stopped(BucketHealth("c"), now) is None
    refused = why_stopped(BucketHealth("c", Breaker.REFUSED, "no such till"), now)
    assert refused == "stopped, everything is kept: no such till"
    down = why_stopped(BucketHealth("c", Breaker.DOWN, "no answer", probe_at=soon), now)
    assert down == "down, everything is kept: no answer; tried again in 30 s"
    due = why_stopped(BucketHealth("c", Breaker.DOWN, "no answer", probe_at=int(now * 1e6)), now)
    assert due == "down, everything is kept: no answer; tried again now"
    assert "asked us to wait" in str(why_stopped(BucketHealth("c", throttled_until=soon), now))


@pytest.mark.parametrize(
    ("slot", "message"),
    [
        (
            'line 3: user_id=…417 ["EMAIL","","BULK",-1] would be OPTOUT',
            "line 3: user_id=…417 (channel EMAIL, priority BULK) would be OPTOUT",
        ),
        (
            'x ["MOBILE","Größe \\"1\\"","TRANS",7] y',
            'x (channel MOBILE, priority TRANS, account_id Größe "1", org_unit_id 7) y',
        ),
        ('x blocked:["SMS","SHOP"] y', "x (channel SMS, sender SHOP) y"),
        ('x criteria:["production","","c1"] y', "x (application_id production, calls_configuration_id c1) y"),
        ("x blocked y", "x blocked y"),
        ('x ["what",1] y', 'x ["what",1] y'),
    ],
)
def test_a_slot_is_said_in_words(slot: str, message: str) -> None:
    """No person has to know in which order the ledger writes the parts of a slot; what is no slot stays."""
    assert spoken(slot) == message
