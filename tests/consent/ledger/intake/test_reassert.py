"""Which opt-outs are delivered although the provider is confirmed to hold them, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from consent.change import Bucket, ConsentChange
from consent.imports import Checkpoint, ImportSource
from consent.ledger.ledger import Ledger
from consent.outcome import Applied
from consent.reassert import Reassert, ReassertRules
from consent.times import to_micros
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import (
    BUCKET,
    MORNING,
    change_of,
    counts,
    deliver,
    dump,
    imported,
    night,
    record_event,
    settlement,
)

pytestmark = pytest.mark.usefixtures("half_past_eight")
CALLED = [("1", "EMAIL|BULK OPTOUT")]


def undated(one: ConsentChange) -> ConsentChange:
    """A row without a time of its own."""
    return replace(one, own_time=False)


@POSTGRESQL_IN_PROOFS
def test_a_fresh_opt_out_is_sent_though_the_provider_is_believed_to_hold_it(ledger: Ledger) -> None:
    """A person who was opted in again at the provider's own page, and unsubscribes at 9:00, stays subscribed."""
    imported(ledger, change_of("1"))
    deliver(ledger)

    record_event(ledger, change_of("1", minute=60))

    assert deliver(ledger) == CALLED


@POSTGRESQL_IN_PROOFS
def test_a_row_with_a_time_of_its_own_is_sent_like_an_event(ledger: Ledger) -> None:
    """A person whose unsubscribe comes by a file, with the minute when it was said, is no worse off."""
    imported(ledger, change_of("1"), change_of("2"))
    deliver(ledger)

    file = imported(ledger, change_of("1", minute=60), undated(change_of("2", minute=60)))

    assert deliver(ledger) == CALLED
    assert counts(ledger, file) == {"applied": 1, "unchanged": 1}


@POSTGRESQL_IN_PROOFS
def test_what_was_said_before_the_confirmation_is_not_sent_again(ledger: Ledger) -> None:
    """What the provider was told at 8:30 covers all that was said until then."""
    imported(ledger, change_of("1"))
    deliver(ledger)

    record_event(ledger, change_of("1", minute=29))

    assert deliver(ledger) == []


@POSTGRESQL_IN_PROOFS
def test_what_is_confirmed_is_as_old_as_the_call_that_confirmed_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person unsubscribes while a call that was slow is under way: what it confirms cannot cover that."""
    imported(ledger, change_of("1"))
    [task] = ledger.queue.claim(BUCKET, 1, "delivery", 60)
    called = settlement(task, Applied(), ledger.now())
    monkeypatch.setattr(ledger, "now", lambda: to_micros(MORNING + timedelta(minutes=40)))
    ledger.queue.settle("delivery", [called])

    record_event(ledger, change_of("1", minute=35))

    assert deliver(ledger) == CALLED


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize("first", ["event", "file"])
def test_a_file_without_times_does_not_keep_a_fresh_opt_out_from_being_sent(ledger: Ledger, first: str) -> None:
    """A click at 9:00 and a list of 9:30 that names no times: whichever is read first, the person is opted out."""
    imported(ledger, change_of("1"))
    deliver(ledger)
    ways = [
        partial(record_event, ledger, change_of("1", minute=60)),
        partial(imported, ledger, undated(change_of("1", minute=90))),
    ]

    for way in ways if first == "event" else reversed(ways):
        way()

    assert deliver(ledger) == CALLED


@POSTGRESQL_IN_PROOFS
def test_no_one_is_called_twice_for_a_fresh_opt_out(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has been confirmed again, it is covered."""
    imported(ledger, change_of("1"))
    deliver(ledger)
    record_event(ledger, change_of("1", minute=60))
    monkeypatch.setattr(ledger, "now", lambda: to_micros(MORNING + timedelta(minutes=61)))
    assert deliver(ledger) == CALLED

    imported(ledger, change_of("1", minute=60, note="the same, from a file"))

    assert deliver(ledger) == []


@POSTGRESQL_IN_PROOFS
def test_always_sends_a_dump_again_that_repeats_the_same_times(ledger: Ledger) -> None:
    """The provider has lost Monday's opt-outs: Tuesday's dump, which says the same, was a duplicate and told no one."""
    imported(ledger, change_of("1"), change_of("2", "OPTIN"))
    deliver(ledger)
    ledger.reassert = ReassertRules(Reassert.ALWAYS)

    for _ in range(2):
        tuesday = imported(ledger, change_of("1"), change_of("2", "OPTIN"), change_of("1"))
        assert deliver(ledger) == CALLED
        assert counts(ledger, tuesday) == {"applied": 1, "duplicates": 2}


@POSTGRESQL_IN_PROOFS
def test_always_sends_what_a_stream_repeats(ledger: Ledger) -> None:
    """The same where the file is told as it is read."""
    imported(ledger, change_of("1"))
    deliver(ledger)

    again = dump(ledger, [change_of("1"), change_of("1")], at_once=1, stream=True, reassert=Reassert.ALWAYS)

    assert deliver(ledger) == CALLED
    assert counts(ledger, again) == {"applied": 1, "duplicates": 1}


@POSTGRESQL_IN_PROOFS
def test_an_event_that_comes_again_is_a_duplicate_even_so(ledger: Ledger) -> None:
    """A broker that delivers twice does not make us call twice."""
    ledger.reassert = ReassertRules(Reassert.ALWAYS)
    record_event(ledger, change_of("1"))
    deliver(ledger)

    record_event(ledger, change_of("1"))

    assert deliver(ledger) == []


@POSTGRESQL_IN_PROOFS
def test_the_same_bytes_are_sent_again_when_the_command_asks_for_it(ledger: Ledger) -> None:
    """A person who reads that 1,500 opt-outs were not sent can send them with the same file."""
    dump(ledger, night(0))
    deliver(ledger, limit=2_000)
    first = dump(ledger, night(60), bytes="tuesday")

    second = dump(ledger, night(60), bytes="tuesday", reassert=Reassert.ALWAYS)

    assert second != first
    assert len(deliver(ledger, limit=2_000)) == 1_500
    assert counts(ledger, second) == {"applied": 1_500}


def test_a_command_that_was_cut_goes_on_with_what_it_began(ledger: Ledger) -> None:
    """Run again before it is over, it is the same import; run again afterwards, it is another one."""
    source = ImportSource("csv", "dump.csv", "the bytes", 1, None, reassert=Reassert.ALWAYS)
    first = ledger.intake.open_import(source).import_id
    assert ledger.intake.open_import(source).import_id == first
    ledger.intake.accept(first, [change_of("1")], [], Checkpoint(1, 2, 0, 1))
    ledger.intake.finish_reading(first)
    ledger.intake.publish(first)
    assert ledger.intake.open_import(source).import_id == first
    deliver(ledger)

    assert ledger.intake.open_import(source).import_id != first


@POSTGRESQL_IN_PROOFS
def test_never_believes_what_is_confirmed(ledger: Ledger) -> None:
    """A company that alone writes to a provider saves the calls."""
    ledger.reassert = ReassertRules(Reassert.NEVER)
    imported(ledger, change_of("1"))
    deliver(ledger)

    record_event(ledger, change_of("1", minute=60))

    assert deliver(ledger) == []


@pytest.mark.parametrize(("default", "own"), [(Reassert.NEVER, Reassert.FRESH), (Reassert.FRESH, Reassert.FRESH)])
def test_each_connection_has_its_own_way(ledger: Ledger, default: Reassert, own: Reassert) -> None:
    """Others write to one provider and not to another."""
    ledger.reassert = ReassertRules(default, {"capillary": own, "gupshup": Reassert.NEVER})
    imported(ledger, change_of("1"), replace(change_of("1"), connection="gupshup"))
    deliver(ledger)
    other = ledger.queue.claim(Bucket("gupshup"), 1, "other", 60)
    ledger.queue.settle("other", [settlement(task, Applied(), ledger.now()) for task in other])

    later = imported(ledger, change_of("1", minute=60), replace(change_of("1", minute=60), connection="gupshup"))

    assert deliver(ledger) == CALLED
    assert counts(ledger, later) == {"applied": 1, "unchanged": 1}


def test_history_tells_when_the_provider_confirmed(ledger: Ledger) -> None:
    """`the provider holds OPTOUT` was said of a provider that had been changed since."""
    imported(ledger, change_of("1"))
    deliver(ledger)

    [found] = ledger.queries.histories([{"user_id": "1"}], None, 1)

    assert [slot.confirmed_at for slot in found.slots] == [ledger.now()]
