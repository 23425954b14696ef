"""The places of strokes: a killed one blocks its bucket for seconds, not for as long as a call may take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.bucket import Bucket
from consent.rate import parse_rate
from consent.wakeups import redis_client
from console.embedded import EmbeddedBroker
from worker import pacing
from worker.pacing import Pacer


@pytest.fixture
def pacer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pacer]:
    """A bucket with room for one stroke, whose place lasts for half a second."""
    monkeypatch.setattr(pacing, "PLACE_SECONDS", 0.5)
    broker = EmbeddedBroker(tmp_path / "broker")
    broker.ensure()
    store = redis_client(broker.url)
    made = Pacer(store, Bucket("capillary"), parse_rate("1000/second"), "here", 2.0, max_strokes=1)
    made.prime()
    yield made
    store.close()
    broker.stop()


def test_a_killed_strokes_place_is_free_soon(pacer: Pacer) -> None:
    """Nobody says that it is still there, so another stroke may begin."""
    assert pacer.reserve(1, "killed", 0.5).moments
    assert pacer.reserve(1, "next", 0.5).crowded

    time.sleep(0.6)

    assert pacer.reserve(1, "next", 0.5).moments


def test_a_stroke_that_says_so_keeps_its_place(pacer: Pacer) -> None:
    """However long its calls take; once it has lost its place it does not take it back from another."""
    assert pacer.reserve(1, "long", 0.5).moments
    for _ in range(3):
        time.sleep(0.3)
        pacer.keep_stroke("long")
    assert pacer.reserve(1, "next", 0.5).crowded

    time.sleep(0.6)
    assert pacer.reserve(1, "next", 0.5).moments
    pacer.keep_stroke("long")

    assert pacer.strokes() == 1
