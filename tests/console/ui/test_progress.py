"""What a person sees while files are read and changes delivered."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

import console.ui.progress
from consent.change import Bucket
from consent.connection import ConnectionSettings
from consent.ledger.queries.imports import ImportReport
from consent.ledger.queue.breakers import Breaker, BucketHealth
from consent.settings import Settings
from console.local.monitor import Snapshot
from console.ui.progress import DeliveryView, delivery_display, reading_display, shortened
from console.ui.screen import Screen


@pytest.fixture
def settings() -> Settings:
    """One connection."""
    return Settings(connections={"capillary": ConnectionSettings(provider="capillary")})


def _tick(left: int, elapsed: float, *health: BucketHealth) -> Snapshot:
    counts = {"applied": 100 - left, "unchanged": 0, "superseded": 7, "dead": 1, "pending": left}
    found = ImportReport("i", "f.csv", "released", 110, 108, 2, 0, **counts, calls=100 - left, started_at=0, ended_at=0)
    return Snapshot((found,), {Bucket("capillary"): left} if left else {}, health, elapsed)


def _terminal(screen: Screen, width: int) -> io.StringIO:
    text = io.StringIO()
    screen.err = Console(file=text, force_terminal=True, width=width, highlight=False, color_system=None)
    return text


def test_delivery_names_counts_pace_and_time(settings: Settings) -> None:
    """How many are done, what became of them, and how long the rest takes."""
    view = DeliveryView(settings)
    for second in range(6):
        view.note(_tick(100 - second, second))
    now = _tick(95, 5)
    assert view.headline(now).startswith("5 of 100 customers, ")
    assert "applied 5 · unchanged 0 · superseded 7 · dead 1 · rejected 2 · pending 95" in view.counts(now)
    assert view.buckets(now)[0].message.startswith("capillary: 95 left; at ")


@pytest.mark.parametrize("width", [40, 80, 160])
def test_it_fits_any_terminal(settings: Settings, width: int) -> None:
    """Nothing is cut off in a narrow terminal, and a stopped connection is named there too."""
    screen = Screen()
    text = _terminal(screen, width)
    stopped = BucketHealth("capillary", Breaker.REFUSED, "no such till")
    with delivery_display(screen, settings) as on_tick:
        on_tick(_tick(95, 1, stopped))
    shown = text.getvalue()
    assert "no such till" in " ".join(shown.split())
    assert "\x1b[3" not in shown  # no colour where none is wanted


def test_a_pipe_gets_plain_lines_and_a_stop_at_once(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """In a log file there is no animation, and a connection that stops is written down without delay."""
    with delivery_display(Screen(), settings) as on_tick:
        on_tick(_tick(95, 1))
        on_tick(_tick(95, 1.2, BucketHealth("capillary", Breaker.DOWN, "no answer")))
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert "down, everything is kept: no answer" in printed.err


def test_reading_in_a_pipe_is_told_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A long file says how far it is."""
    monkeypatch.setattr(console.ui.progress, "PLAIN_EVERY_SECONDS", 0.0)
    with reading_display(Screen(), "f.csv") as display:
        display.reading(5_000, 5_001, 10_002, 3)
        display.releasing(4_000)
    printed = capsys.readouterr().err
    assert "reading f.csv: 50 %, 5,000 rows" in printed
    assert "3 rejected" in printed
    assert "4,000 so far" in printed


def test_reading_on_a_terminal_leaves_nothing_behind() -> None:
    """The bar shows rows and rejects, and vanishes."""
    screen = Screen()
    text = _terminal(screen, 100)
    with reading_display(screen, "f.csv") as display:
        display.reading(5_000, 5_001, 10_002, 3)
        display.releasing(4_000)
    assert "reading f.csv" in text.getvalue()


def test_each_bucket_has_a_line_of_its_own() -> None:
    """Apps go side by side, each at its own limit; the blocklist is told at its own rate, in calls of a thousand."""
    view = DeliveryView(
        Settings(
            connections={
                "gupshup": ConnectionSettings(provider="gupshup"),
                "infobip": ConnectionSettings(provider="infobip"),
            }
        )
    )
    left = {Bucket("gupshup", "42"): 10, Bucket("gupshup", "43"): 5, Bucket("infobip", "blocklist"): 20_000}
    stopped = BucketHealth("gupshup/42", Breaker.REFUSED, "no such token")
    shown = [one.message for one in view.buckets(Snapshot((), left, (stopped,), 1.0))]
    assert shown == [
        "gupshup (app 42): 10 left; stopped, everything is kept: no such token",
        "gupshup (app 43): 5 left; at 5/minute: about 1 min",
        "infobip (blocklist): 20,000 left; at 1/second: about 20 s",
    ]


def test_a_hundred_buckets_are_told_in_short() -> None:
    """The stopped ones and the longest are named, the others are summed up: no one reads a hundred lines."""
    view = DeliveryView(Settings(connections={"gupshup": ConnectionSettings(provider="gupshup")}))
    left = {Bucket("gupshup", f"{n}"): n for n in range(1, 101)}
    stopped = BucketHealth("gupshup/1", Breaker.REFUSED, "no such token")
    shown = [one.message for one in shortened(view.buckets(Snapshot((), left, (stopped,), 1.0)))]
    assert shown[0].startswith("gupshup (app 1): 1 left; stopped")
    assert shown[1].startswith("gupshup (app 100): 100 left")
    assert shown[-1] == f"and {sum(range(2, 94)):,} left within 92 other limits"
