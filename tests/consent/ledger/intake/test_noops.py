"""A full dump says again what is so: what is set aside as a repeat must end as the rule for newest changes says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import func, select

from consent.imports import Checkpoint, ImportSource
from consent.ledger.ledger import Ledger
from consent.ledger.schema import noop_changes
from consent.reassert import Reassert, ReassertRules
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import BUCKET, change_of, counts, deliver, imported, recorded


def set_aside(ledger: Ledger) -> int:
    """How many words are kept as repeats."""
    return ledger.database.read(lambda tx: tx.execute(select(func.count()).select_from(noop_changes)).scalar_one())


def finish(ledger: Ledger, import_id: str) -> None:
    """Say that a recorded file has been read whole, and publish it."""
    ledger.intake.finish_reading(import_id)
    ledger.intake.publish(import_id)


def test_a_dump_of_what_is_so_makes_no_changes_and_no_calls(ledger: Ledger) -> None:
    """Each row is accounted for with its import and line, and no one is called."""
    imported(ledger, *(change_of(str(n)) for n in range(50)))
    deliver(ledger)

    dump = imported(ledger, *(change_of(str(n), minute=60) for n in range(50)))

    assert set_aside(ledger) == 50
    assert counts(ledger, dump) == {"unchanged": 50}
    assert deliver(ledger) == []


@POSTGRESQL_IN_PROOFS
def test_the_same_dump_in_other_bytes_is_all_duplicates(ledger: Ledger) -> None:
    """Rows that bring their own moment and have been heard as repeats are known again."""
    imported(ledger, change_of("1"), change_of("2"))
    deliver(ledger)
    imported(ledger, change_of("1", minute=60), change_of("2", minute=60))

    again = imported(ledger, change_of("2", minute=60), change_of("1", minute=60))

    assert counts(ledger, again) == {"duplicates": 2}


def test_a_row_that_stands_twice_in_a_dump_counts_once(ledger: Ledger) -> None:
    """Within a chunk and across chunks, the second one is a duplicate."""
    imported(ledger, change_of("1"), change_of("2"))
    deliver(ledger)
    source = ImportSource("csv", "dump.csv", "the dump", 1, None)
    dump = ledger.intake.open_import(source).import_id
    ledger.intake.accept(dump, [change_of("1", minute=60), change_of("1", minute=60)], [], Checkpoint(2, 3, 0, 2))
    ledger.intake.accept(dump, [change_of("2", minute=60), change_of("1", minute=60)], [], Checkpoint(4, 5, 0, 4))
    finish(ledger, dump)

    assert counts(ledger, dump) == {"unchanged": 2, "duplicates": 2}


@POSTGRESQL_IN_PROOFS
def test_an_opposite_change_that_comes_late_does_not_win_over_a_repeat(ledger: Ledger) -> None:
    """Tonight's dump says that he is still out; an opt-in from this afternoon, found tomorrow, is older."""
    imported(ledger, change_of("1", "OPTOUT", 0))
    deliver(ledger)
    imported(ledger, change_of("1", "OPTOUT", 60))

    late = imported(ledger, change_of("1", "OPTIN", 30))

    assert counts(ledger, late) == {"superseded": 1}
    assert deliver(ledger) == []


@POSTGRESQL_IN_PROOFS
def test_a_dump_that_broke_off_moves_nothing(ledger: Ledger) -> None:
    """As long as the dump has not been read whole, an older opt-in may still win."""
    imported(ledger, change_of("1", "OPTOUT", 0))
    deliver(ledger)
    broken = recorded(ledger, change_of("1", "OPTOUT", 60))

    late = imported(ledger, change_of("1", "OPTIN", 30))

    assert counts(ledger, broken) == {"pending": 1}
    assert counts(ledger, late) == {"pending": 1}
    assert deliver(ledger) == [("1", "EMAIL|BULK OPTIN")]


@pytest.mark.parametrize("settled", [True, False])
def test_what_changed_while_the_dump_was_read_is_compared_again(ledger: Ledger, settled: bool) -> None:  # noqa: FBT001 - a parameter
    """An event opts in while the dump is read, which says out since later: the dump's word is delivered."""
    imported(ledger, change_of("1", "OPTOUT", 0), change_of("2", "OPTOUT", 0))
    deliver(ledger)
    dump = recorded(ledger, change_of("1", "OPTOUT", 60), change_of("2", "OPTOUT", 60))
    run = ledger.intake.open_import(ImportSource("redis stream", "consent", "run", 0, None, stream=True)).import_id
    ledger.intake.accept_events(run, [change_of("1", "OPTIN", 30)], [])
    if settled:
        deliver(ledger)

    finish(ledger, dump)

    assert deliver(ledger) == ([("1", "EMAIL|BULK OPTOUT")] if settled else [])
    assert counts(ledger, dump) == ({"applied": 1, "unchanged": 1} if settled else {"unchanged": 2})
    assert counts(ledger, run) == ({"applied": 1} if settled else {"superseded": 1})


def test_what_a_dump_repeats_of_neighbours_lies_together(ledger: Ledger) -> None:
    """The slots of a large ledger are moved forward page by page: so repeats are laid down in their order."""
    imported(ledger, *(change_of(str(n)) for n in range(9)))
    deliver(ledger)

    recorded(ledger, *(change_of(str(n), minute=60) for n in (7, 2, 5, 0, 8)))

    found = ledger.database.read(
        lambda tx: tx.execute(select(noop_changes.c.target_id).order_by(noop_changes.c.number)).scalars().all()
    )
    assert len(found) == 5
    assert found == sorted(found)


def test_a_slot_under_delivery_takes_the_ordinary_way(ledger: Ledger) -> None:
    """While a call is under way no one knows what the provider holds."""
    imported(ledger, change_of("1", "OPTOUT", 0))
    deliver(ledger)
    dump = recorded(ledger, change_of("1", "OPTOUT", 60))
    imported(ledger, change_of("1", "OPTIN", 30))
    ledger.queue.claim(BUCKET, 1, "delivery", 60)

    finish(ledger, dump)

    assert set_aside(ledger) == 0
    assert counts(ledger, dump) == {"pending": 1}


def test_reassert_sends_opt_outs_of_a_dump_again(ledger: Ledger) -> None:
    """Even one that was set aside before the setting was changed."""
    imported(ledger, change_of("1"), change_of("2", "OPTIN"))
    deliver(ledger)
    dump = recorded(ledger, change_of("1", minute=60), change_of("2", "OPTIN", 60))
    ledger.reassert = ReassertRules(Reassert.ALWAYS)

    finish(ledger, dump)

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]
    assert counts(ledger, dump) == {"applied": 1, "unchanged": 1}


@POSTGRESQL_IN_PROOFS
def test_a_change_id_is_looked_up_however_often_it_is_said(ledger: Ledger) -> None:
    """A dump repeats an old change under its own id, without a time: the later opt-out stays."""
    first = replace(change_of("1", "OPTIN"), change_id="A")
    imported(ledger, first)
    deliver(ledger)
    imported(ledger, replace(change_of("1", "OPTIN", minute=5), change_id="B"))
    imported(ledger, change_of("1", "OPTOUT", minute=10))
    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]

    again = imported(
        ledger, *(replace(change_of("1", "OPTIN", minute=20), change_id=name, own_time=False) for name in "AB")
    )

    assert deliver(ledger) == []
    assert counts(ledger, again) == {"duplicates": 2}


@POSTGRESQL_IN_PROOFS
def test_what_a_broken_import_keeps_back_is_sent_if_a_repeat_says_it(ledger: Ledger) -> None:
    """A file breaks off with an opt-out, another says the same, and an older opt-in is told in between: opted out.

    While the second file was read its opt-out was so already; once it was not, the change was known, and kept back.
    """
    imported(ledger, change_of("1", "OPTOUT", 0))
    broken = recorded(ledger, replace(change_of("1", "OPTOUT", 10), line=7))
    deliver(ledger)
    second = recorded(ledger, replace(change_of("1", "OPTOUT", 10), line=3))
    run = ledger.intake.open_import(ImportSource("redis", "stream", "run", 0, None, stream=True)).import_id
    ledger.intake.accept_events(run, [change_of("1", "OPTIN", 5)], [])
    assert deliver(ledger) == [("1", "EMAIL|BULK OPTIN")]

    ledger.intake.finish_reading(second)
    ledger.intake.publish(second)

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]
    assert counts(ledger, second) == {"applied": 1}
    assert counts(ledger, broken) == {"duplicates": 1}
    found = ledger.queries.find_change(*ledger.queries.public_ids([change_of("1", "OPTOUT", 10)]))
    assert found is not None
    assert (found.import_id, found.number) == (second, 3)


@POSTGRESQL_IN_PROOFS
def test_of_two_repeats_of_one_moment_the_one_further_down_in_the_file_is_sent(ledger: Ledger) -> None:
    """They said what was so; then an opt-in came in between, and they must be told after all: the later one is."""
    who = ("3", "1", "2")
    imported(ledger, *(change_of(one, "OPTOUT", 0) for one in who))
    deliver(ledger)
    file = recorded(ledger, *(change_of(one, "OPTOUT", 10, note=note) for note in ("older", "newer") for one in who))
    run = ledger.intake.open_import(ImportSource("redis", "stream", "run", 0, None, stream=True)).import_id
    ledger.intake.accept_events(run, [change_of(one, "OPTIN", 5) for one in who], [])
    deliver(ledger)

    ledger.intake.finish_reading(file)
    ledger.intake.publish(file)

    claimed = [change for task in ledger.queue.claim(BUCKET, 10, "delivery", 60) for change in task.changes]
    assert [change.details for change in claimed] == [{"note": "newer"}] * 3
