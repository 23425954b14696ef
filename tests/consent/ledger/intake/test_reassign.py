"""Files that break off and say the same: whichever source is read whole in the end tells it, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import count, pairwise, permutations

import pytest
from sqlalchemy import Connection, func, select, update

from consent.change import ConsentChange
from consent.imports import Checkpoint, ImportSource
from consent.ledger.intake import reassign
from consent.ledger.ledger import Ledger
from consent.ledger.schema import imports, pending_duplicates
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import Cut, change_of, counts, deliver, imported, recorded

OUT = {"1": "EMAIL|BULK OPTOUT", "2": "EMAIL|BULK OPTOUT", "3": "EMAIL|BULK OPTOUT"}
KINDS = [{}, {"value": "weekly"}, {"change_id": "A"}]


def gone_on_with(ledger: Ledger, file: str, *more: ConsentChange, after: int) -> None:
    """The importer of a file that broke off after so many rows goes on, reads the rest, and publishes it."""
    rows = after + len(more)
    ledger.intake.accept(file, more, [], Checkpoint(rows, rows + 1, 0, rows))
    ledger.intake.finish_reading(file)
    ledger.intake.publish(file)


def noted(ledger: Ledger) -> int:
    """How many changes are noted as said again."""
    query = select(func.count()).select_from(pending_duplicates)
    return ledger.database.read(lambda tx: tx.execute(query).scalar_one())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_file_that_breaks_off_takes_nothing_from_one_that_is_read_whole(ledger: Ledger, kind: dict[str, str]) -> None:
    """The nightly file stops half way, a copy of it is cut short, the nightly file goes on: its opt-outs are told."""
    opt_outs = [replace(change_of("1"), **kind), replace(change_of("2"), **kind)]
    nightly = recorded(ledger, *opt_outs)
    copy = recorded(ledger, *opt_outs)

    gone_on_with(ledger, nightly, change_of("3"), after=2)

    assert dict(deliver(ledger)) == OUT
    assert counts(ledger, nightly) == {"applied": 3}
    assert counts(ledger, copy) == {"duplicates": 2}

    gone_on_with(ledger, copy, change_of("4"), after=2)

    assert deliver(ledger) == [("4", "EMAIL|BULK OPTOUT")]
    assert counts(ledger, copy) == {"applied": 1, "duplicates": 2}
    assert noted(ledger) == 0


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_of_several_files_that_broke_off_the_first_to_be_read_whole_tells_it(
    ledger: Ledger, order: Sequence[int]
) -> None:
    """Three copies of a file broke off; whichever is gone on with first, everybody is told, and told once."""
    files = [recorded(ledger, change_of("1"), change_of("2")) for _ in range(3)]
    first, second, third = (files[n] for n in order)

    gone_on_with(ledger, first, change_of("3"), after=2)
    assert dict(deliver(ledger)) == OUT
    gone_on_with(ledger, second, after=2)
    gone_on_with(ledger, third, after=2)

    assert deliver(ledger) == []
    assert counts(ledger, first) == {"applied": 3}
    assert counts(ledger, second) == counts(ledger, third) == {"duplicates": 2}
    assert noted(ledger) == 0


@POSTGRESQL_IN_PROOFS
def test_what_an_event_took_over_stays_its_own(ledger: Ledger) -> None:
    """Two copies of a file broke off, an event says the same and is told at once: the copies tell no one again."""
    nightly = recorded(ledger, change_of("1"), change_of("2"))
    copy = recorded(ledger, change_of("1"), change_of("2"))
    run = ledger.intake.open_import(ImportSource("redis", "stream", "run", 0, None, stream=True)).import_id

    ledger.intake.accept_events(run, [change_of("1")], [])

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]
    gone_on_with(ledger, copy, after=2)
    assert deliver(ledger) == [("2", "EMAIL|BULK OPTOUT")]
    gone_on_with(ledger, nightly, after=2)
    assert counts(ledger, copy) == {"applied": 1, "duplicates": 1}
    assert counts(ledger, nightly) == {"duplicates": 2}


@POSTGRESQL_IN_PROOFS
def test_taking_over_may_break_off_anywhere(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The importer that takes over is killed after each step in turn; another goes on, and all are told, once."""
    monkeypatch.setattr(reassign, "CHUNK", 2)
    for cut in count():
        opt_outs = [change_of(f"{cut} {n}") for n in range(5)]
        recorded(ledger, *opt_outs)
        copy = recorded(ledger, *opt_outs)
        ledger.intake.finish_reading(copy)
        steps = count()

        def killed(_: int, steps: count = steps, cut: int = cut) -> None:
            if next(steps) == cut:
                raise Cut

        try:
            ledger.intake.publish(copy, killed)
        except Cut:
            ledger.intake.publish(copy)
        else:
            break
        finally:
            delivered = deliver(ledger)

        assert sorted(customer for customer, _ in delivered) == [f"{cut} {n}" for n in range(5)]
        assert counts(ledger, copy) == {"applied": 5}
    assert cut >= 5


def test_others_see_each_step_of_taking_over(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep looks whether someone is at work on a file: it must not take a long taking over for a dead importer."""
    monkeypatch.setattr(reassign, "CHUNK", 2)
    opt_outs = [change_of(str(number)) for number in range(6)]
    recorded(ledger, *opt_outs)
    copy = recorded(ledger, *opt_outs)
    ledger.intake.finish_reading(copy)
    seen = [ledger.intake.unpublished()[copy]]

    ledger.intake.publish(copy, lambda _: seen.append(ledger.intake.unpublished().get(copy, ("released", 0, 0, 0))))

    assert all(before != after for before, after in pairwise(seen[:4]))


def test_a_file_that_is_just_being_finished_keeps_its_own(ledger: Ledger) -> None:
    """One importer notes that its file is whole and checked, while a copy takes over: that leaves it to the first.

    On SQLite no one writes beside another.
    """
    if ledger.database.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    nightly = recorded(ledger, change_of("1"), change_of("2"))
    copy = recorded(ledger, change_of("1"), change_of("2"))
    ledger.intake.finish_reading(copy)
    taking = threading.Thread(target=ledger.intake.publish, args=(copy,), daemon=True)

    def finish(tx: Connection) -> None:
        tx.execute(update(imports).where(imports.c.id == nightly).values(state="read", read_at=1, checked_at=1))
        taking.start()
        taking.join(0.5)
        assert taking.is_alive()

    ledger.database.write(finish)
    taking.join(20)
    ledger.intake.publish(nightly)

    assert sorted(deliver(ledger)) == [("1", "EMAIL|BULK OPTOUT"), ("2", "EMAIL|BULK OPTOUT")]
    assert counts(ledger, nightly) == {"applied": 2}
    assert counts(ledger, copy) == {"duplicates": 2}


@POSTGRESQL_IN_PROOFS
def test_what_was_taken_over_is_found_where_its_new_file_says_it(ledger: Ledger) -> None:
    """A question about a change is answered with the file that told it, and of its line there."""
    recorded(ledger, replace(change_of("1"), line=7))

    copy = imported(ledger, replace(change_of("2"), line=2), replace(change_of("1"), line=3))

    found = ledger.queries.find_change(*ledger.queries.public_ids([change_of("1")]))
    assert found is not None
    assert (found.import_id, found.number) == (copy, 3)
