"""One change that a database refuses stops no other: it is found, named and put aside; on both databases."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import Connection

from consent.change import ConsentChange
from consent.errors import LedgerRefused, LedgerUnavailable
from consent.imports import Checkpoint, ImportSource, RejectedRow
from consent.ledger import dead_letters
from consent.ledger.ledger import Ledger
from tests.support.ledgers import change_of, counts, deliver, recorded, run_of

UNWRITABLE = "EMAIL|\ud800"
"""Half a character: neither database can be told it."""


def endless(customer: str) -> ConsentChange:
    """A change whose slot is longer than any index entry of PostgreSQL (2,704 bytes), and cannot be compressed."""
    odds = random.Random(customer)
    return change_of(customer, slot="".join(chr(odds.randrange(0x4E00, 0x9FFF)) for _ in range(4_000)))


def open_file(ledger: Ledger, *, stream: bool = False) -> str:
    """Start an import of a file."""
    return ledger.intake.open_import(ImportSource("csv", "nightly.csv", "its bytes", 1, None, stream=stream)).import_id


@pytest.mark.parametrize("stream", [False, True])
def test_a_chunk_names_the_changes_that_the_database_refuses(ledger: Ledger, *, stream: bool) -> None:
    """99 opt-outs never became due, run after run, because of one row beside them."""
    file = open_file(ledger, stream=stream)
    changes = [change_of(str(n), slot=UNWRITABLE if n in {3, 4, 9} else "EMAIL|BULK") for n in range(11)]

    with pytest.raises(LedgerRefused) as caught:
        ledger.intake.accept(file, changes, [], Checkpoint(11, 12, 0, 11))

    assert sorted(caught.value.members) == [3, 4, 9]
    assert counts(ledger, file) == {}
    assert ledger.intake.accept(file, changes[:3], [], Checkpoint(3, 4, 0, 3)).recorded == 3


def test_events_name_the_changes_that_the_database_refuses(ledger: Ledger) -> None:
    """No event behind it was ever read: a listener began again and again at the one that the database refuses."""
    if ledger.database.is_sqlite:
        pytest.skip("SQLite has no limit to what an index holds")
    run, changes = run_of(ledger), [change_of("1"), endless("2"), change_of("3"), endless("4")]

    with pytest.raises(LedgerRefused) as caught:
        ledger.intake.accept_events(run, changes, [])

    assert sorted(caught.value.members) == [1, 3]
    assert ledger.intake.accept_events(run, [changes[0], changes[2]], []).fresh == (True, True)
    assert [customer for customer, _ in deliver(ledger)] == ["1", "3"]


def test_a_file_that_was_read_is_released_but_for_what_the_database_refuses(ledger: Ledger) -> None:
    """The 99 others are delivered; the one is a dead letter with a reason, and the import is sealed."""
    if ledger.database.is_sqlite:
        pytest.skip("SQLite has no limit to what an index holds")
    changes = [endless(str(n)) if n in {0, 57} else change_of(str(n)) for n in range(100)]
    file = recorded(ledger, *changes)
    ledger.intake.finish_reading(file)

    ledger.intake.publish(file)

    assert len(deliver(ledger)) == 98
    found = ledger.queries.report(file)
    assert found is not None
    assert found.sealed
    dead = ledger.dead_letters.find(dead_letters.DeadLetterFilter())
    assert [(one.address["user_id"], one.code) for one in dead] == [
        ("0", "refused_by_the_ledger"),
        ("57", "refused_by_the_ledger"),
    ]
    assert ledger.dead_letters.replay(dead, who="Ada", why="") == {}


def test_a_database_that_lets_us_do_nothing_refuses_no_change(ledger: Ledger) -> None:
    """A right that was taken from us for a moment must not reject every opt-out of the night."""
    if ledger.database.is_sqlite:
        pytest.skip("SQLite has no rights")
    file = open_file(ledger)
    ledger.database.write(lambda tx: tx.exec_driver_sql("ALTER TABLE changes RENAME TO hidden"))

    with pytest.raises(LedgerUnavailable) as caught:
        ledger.intake.accept(file, [change_of("1"), change_of("2")], [], Checkpoint(2, 3, 0, 2))

    assert not isinstance(caught.value, LedgerRefused)


def test_one_of_many_is_found_by_halves(ledger: Ledger) -> None:
    """A thousand changes are not tried one by one."""
    tried: list[int] = []

    def attempt(_tx: Connection, some: Any) -> None:
        tried.append(len(some))
        if 612 in some:
            raise OverflowError

    assert ledger.database.refused(range(1_000), attempt) == (612,)
    assert len(tried) <= 21


def test_a_reject_with_an_unwritable_name_is_recorded(ledger: Ledger) -> None:
    """A NUL in the name of a column, or in that of a queue, must not keep all rejects from the ledger."""
    reject = RejectedRow(2, "rea\0son\ud800", "too_long", "shorten it", "queue \0, message 1")
    file = open_file(ledger)

    ledger.intake.accept(file, [change_of("1")], [reject], Checkpoint(2, 3, 0, 2))
    taken = ledger.intake.accept_events(run_of(ledger), [change_of("2")], [reject])

    assert counts(ledger, file) == {"pending": 1, "rejected": 1}
    assert taken.rejected == 1
