"""How far sources of events have been read, on both databases: the lag also grows while no listener runs."""

from __future__ import annotations

from consent.ledger.ledger import Ledger
from consent.ledger.telemetry.recent import FORGOTTEN_MICROS
from tests.support.clock import Clock
from tests.support.examples import POSTGRESQL_IN_PROOFS

SECOND = 1_000_000
STREAM, QUEUE = "redis://events/0 stream consent", "amqp://events queue consent"


@POSTGRESQL_IN_PROOFS
def test_the_lag_is_the_time_since_the_source_was_read_to_its_end(ledger: Ledger, clock: Clock) -> None:
    """Two listeners of one source: who is behind does not set it back. A publisher's clock ahead hides no lag."""
    assert ledger.event_sources.lag_seconds() == {}
    ledger.event_sources.note_read(STREAM, ledger.now() - 5 * SECOND)
    ledger.event_sources.note_read(STREAM, ledger.now() - 60 * SECOND)
    ledger.event_sources.note_read(QUEUE, ledger.now() + 3_600 * SECOND)
    assert ledger.event_sources.lag_seconds() == {STREAM: 5, QUEUE: 0}
    clock.forward(900)
    assert ledger.event_sources.lag_seconds() == {STREAM: 905, QUEUE: 900}
    assert "source_read_to" not in ledger.counters.tallies()


def test_a_source_that_no_one_reads_any_more_is_forgotten(ledger: Ledger, clock: Clock) -> None:
    """It was given up a week ago: no alarm stands for ever, and no row stays."""
    ledger.event_sources.note_read(STREAM, ledger.now())
    clock.forward(FORGOTTEN_MICROS / SECOND + 1)
    assert ledger.event_sources.lag_seconds() == {}
    ledger.event_sources.note_read(QUEUE, ledger.now())
    clock.forward(-FORGOTTEN_MICROS / SECOND - 1)
    assert ledger.event_sources.lag_seconds().keys() == {QUEUE}
