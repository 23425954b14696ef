"""New changes are held against their slots while others deliver, settle and bring more of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from consent.change import ConsentChange
from consent.imports import ImportSource
from consent.ledger import merge_sql
from consent.ledger.intake import accept as events
from consent.ledger.ledger import Ledger
from consent.outcome import Applied
from tests.support.ledgers import BUCKET, change_of, counts, deliver, folded, imported, recorded, settlement


@contextmanager
def uncommitted(monkeypatch: pytest.MonkeyPatch, ledger: Ledger, change: ConsentChange) -> Iterator[None]:
    """An event that has been merged and is about to be committed: so until the end of the block."""
    merged, go_on, publish = threading.Event(), threading.Event(), events.publish_now

    def wait(*arguments: Any, **more: Any) -> None:
        publish(*arguments, **more)
        merged.set()
        assert go_on.wait(20)

    monkeypatch.setattr(events, "publish_now", wait)
    run = ledger.intake.open_import(ImportSource("redis", "stream", "run", 0, None, stream=True)).import_id
    listener = threading.Thread(target=lambda: ledger.intake.accept_events(run, [change], []))
    listener.start()
    assert merged.wait(20)
    yield
    go_on.set()
    listener.join(20)


def test_what_became_due_late_does_not_undo_what_was_found_to_be_so(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opted out, confirmed. A file's opt-in waits; a newer opt-out is found to be so: the opt-in is never told."""
    imported(ledger, change_of("1", "OPTOUT"))
    deliver(ledger)
    file = folded(ledger, change_of("1", "OPTIN", 10))
    importer = threading.Thread(target=lambda: ledger.intake.publish(file))

    with uncommitted(monkeypatch, ledger, change_of("1", "OPTOUT", 20)):
        importer.start()
        importer.join(0.5)
        delivered = [] if importer.is_alive() else deliver(ledger)
    importer.join(20)

    assert delivered + deliver(ledger) == []
    assert counts(ledger, file) == {"superseded": 1}


def lost_delivery(ledger: Ledger) -> threading.Thread:
    """A delivery that told what is due, lost its lease to another that told it too, and will settle late."""
    late = ledger.queue.claim(BUCKET, 100, "slow", 0.0)
    assert deliver(ledger)
    settlements = [settlement(task, Applied(), ledger.now()) for task in late]
    return threading.Thread(target=lambda: ledger.queue.settle("slow", settlements))


def test_a_lost_delivery_brings_no_older_change_back(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's opt-in waits, a newer opt-out is found to be so, and a delivery that lost its lease settles: no opt-in.

    What that delivery told is another channel of the same customer: only that is told again.
    """
    imported(ledger, change_of("1", "OPTOUT", slot="EMAIL"))
    deliver(ledger)
    imported(ledger, change_of("1", "OPTIN", slot="MOBILE"))
    delivery = lost_delivery(ledger)
    file = folded(ledger, change_of("1", "OPTIN", 10, slot="EMAIL"))
    delivered: list[tuple[str, str]] = []
    other = threading.Thread(target=lambda: delivered.extend(deliver(ledger, token="other")))

    with uncommitted(monkeypatch, ledger, change_of("1", "OPTOUT", 20, slot="EMAIL")):
        delivery.start()
        delivery.join(0.5)
        other.start()
        other.join(0.5)
    delivery.join(20)
    other.join(20)
    ledger.intake.publish(file)

    assert delivered + deliver(ledger) == [("1", "MOBILE OPTIN")]
    assert counts(ledger, file) == {"superseded": 1}


def test_what_a_lost_delivery_revives_is_accounted_for(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change was sent twice, a newer one is being merged as the slower delivery settles: no change stays pending."""
    older = imported(ledger, change_of("1", "OPTIN"))
    delivery, renew = lost_delivery(ledger), merge_sql._renew_registers

    def late(*arguments: object) -> None:
        delivery.start()
        delivery.join(0.5)
        renew(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(merge_sql, "_renew_registers", late)
    newer = imported(ledger, change_of("1", "OPTOUT", 10))
    delivery.join(20)
    while deliver(ledger):
        pass

    assert counts(ledger, older) == {"applied": 1}
    assert counts(ledger, newer) == {"applied": 1}


@pytest.mark.parametrize("ledger_url", [pytest.param("sqlite", marks=pytest.mark.proof), "postgresql"], indirect=True)
def test_more_changes_of_one_slot_than_a_small_number_holds(ledger: Ledger) -> None:
    """33,000 words about one slot in one transaction: the newest is told, the others are accounted for."""
    changes = [change_of("1", "OPTOUT" if n % 2 else "OPTIN", n) for n in range(33_000)]

    file = recorded(ledger, *changes, stream=True)

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]
    ledger.intake.finish_reading(file)
    ledger.intake.publish(file)  # the opt-ins, which waited for the end of the file
    assert deliver(ledger) == []
    assert counts(ledger, file) == {"applied": 1, "superseded": 32_999}
