"""What every ledger promises, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, func, select

from consent.errors import LedgerUnavailable
from consent.imports import Checkpoint, ImportSource, RejectedRow
from consent.ledger.dialects.statements import bulk
from consent.ledger.ledger import Ledger
from consent.ledger.schema import attempts, changes
from consent.reassert import Reassert, ReassertRules
from consent.times import to_micros
from tests.support.ledgers import BUCKET, MORNING, change_of, counts, deliver, imported, recorded


def test_nothing_of_a_file_is_due_before_it_has_been_read_whole(ledger: Ledger) -> None:
    """A file that breaks off in the middle harms no one."""
    import_id = recorded(ledger, change_of("1"), change_of("2"))

    assert deliver(ledger) == []

    ledger.intake.finish_reading(import_id)
    ledger.intake.publish(import_id)

    assert sorted(deliver(ledger)) == [("1", "EMAIL|BULK OPTOUT"), ("2", "EMAIL|BULK OPTOUT")]
    assert counts(ledger, import_id) == {"applied": 2}


def test_rows_that_a_feed_leaves_out_are_counted_and_remembered(ledger: Ledger) -> None:
    """They are rows of the import, also in a chunk of nothing else; an interrupted import goes on with their count."""
    source = ImportSource("csv", "export.csv", "an export", 1, None)
    import_id = ledger.intake.open_import(source).import_id
    ledger.intake.accept(import_id, [change_of("1")], [], Checkpoint(4, 5, changes=1, skipped=3))
    ledger.intake.accept(import_id, [], [], Checkpoint(6, 7, changes=1, skipped=5))

    place = ledger.intake.open_import(source).checkpoint
    found = ledger.queries.report(import_id)

    assert place == Checkpoint(6, 7, changes=1, skipped=5)
    assert found is not None
    assert (found.rows, found.accepted, found.skipped, found.balanced) == (6, 1, 5, True)


def test_a_stream_is_due_as_it_is_read(ledger: Ledger) -> None:
    """With --stream no one waits for the end of the file."""
    recorded(ledger, change_of("1"), stream=True)

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]


def test_the_newest_change_is_sent_and_the_older_one_never(ledger: Ledger) -> None:
    """Opt-in at 8:00, opt-out at 8:05, in the wrong order in the file: only the opt-out is told."""
    import_id = imported(ledger, change_of("1", "OPTOUT", 5), change_of("1", "OPTIN", 0))

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]
    assert counts(ledger, import_id) == {"applied": 1, "superseded": 1}


def test_on_a_tie_the_opt_out_wins(ledger: Ledger) -> None:
    """Two changes of the same moment: the safer one is told."""
    imported(ledger, change_of("1", "OPTOUT"), change_of("1", "OPTIN"))

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]


def test_of_two_changes_of_one_moment_the_one_further_down_in_the_file_is_sent(ledger: Ledger) -> None:
    """Whatever stands between them, and in whatever order customers come: of a customer, the file's order counts."""
    imported(ledger, *(change_of(str(n), "OPTIN") for n in range(9)))
    deliver(ledger)
    one_moment = [change_of(str(n), "OPTOUT", 5, note=note) for note in ("older", "newer") for n in (7, 2, 5, 0, 8)]

    imported(ledger, *one_moment)

    claimed = [change for task in ledger.queue.claim(BUCKET, 100, "delivery", 60) for change in task.changes]
    assert [change.details for change in claimed] == [{"note": "newer"}] * 5


def test_what_a_file_says_of_neighbours_lies_together(ledger: Ledger) -> None:
    """A large ledger is read and written page by page: so a chunk is laid down in the order of its customers."""
    imported(ledger, *(change_of(str(n)) for n in range(9)))

    recorded(ledger, *(change_of(str(n), minute=minute) for minute in (5, 6) for n in (7, 2, 5, 0, 8)))

    rows = select(changes.c.target_id, changes.c.effective_at).order_by(changes.c.id).offset(9)
    found = ledger.database.read(lambda tx: tx.execute(rows).all())
    assert found == sorted(found)


def test_what_is_read_at_once_is_one_view(ledger: Ledger) -> None:
    """While a listener records, a report counts what stood when it began to look: else its sums would not agree."""
    imported(ledger, change_of("1"))
    recorded_now = select(func.count()).select_from(changes)

    def look(tx: Connection) -> list[int]:
        before = tx.execute(recorded_now).scalar_one()
        other = Ledger(ledger.database.url.render_as_string(hide_password=False))
        imported(other, change_of("2"))
        other.close()
        return [before, tx.execute(recorded_now).scalar_one()]

    assert ledger.database.read(look) == [1, 1]
    assert ledger.database.read(lambda tx: tx.execute(recorded_now).scalar_one()) == 2


def test_all_slots_of_a_customer_travel_together(ledger: Ledger) -> None:
    """Four changes of one customer are one task."""
    imported(ledger, *(change_of("1", slot=f"slot {n}") for n in range(4)), change_of("2"))

    tasks = ledger.queue.claim(BUCKET, 10, "delivery", 60)

    assert sorted(len(task.changes) for task in tasks) == [1, 4]


def test_the_same_change_is_recorded_once(ledger: Ledger) -> None:
    """A second file with the same rows adds nothing and calls no one."""
    imported(ledger, change_of("1"), change_of("2"))
    deliver(ledger)

    again = imported(ledger, change_of("1"), change_of("2"))

    assert deliver(ledger) == []
    assert counts(ledger, again) == {"duplicates": 2}


def test_what_the_provider_already_holds_is_not_sent_again(ledger: Ledger) -> None:
    """A nightly dump that says what is already so costs no call."""
    imported(ledger, change_of("1", "OPTOUT", 0))
    deliver(ledger)

    again = imported(ledger, change_of("1", "OPTOUT", 60))

    assert deliver(ledger) == []
    assert counts(ledger, again) == {"unchanged": 1}


def test_reassert_sends_opt_outs_again(ledger: Ledger) -> None:
    """Who does not trust the provider's memory can have opt-outs repeated."""
    ledger.reassert = ReassertRules(Reassert.ALWAYS)
    imported(ledger, change_of("1", "OPTOUT", 0), change_of("2", "OPTIN", 0))
    deliver(ledger)

    imported(ledger, change_of("1", "OPTOUT", 60), change_of("2", "OPTIN", 60))

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]


def test_an_older_change_that_comes_late_is_superseded(ledger: Ledger) -> None:
    """Yesterday's opt-in, found today, does not undo this morning's opt-out."""
    imported(ledger, change_of("1", "OPTOUT", 5))
    deliver(ledger)

    late = imported(ledger, change_of("1", "OPTIN", 0))

    assert deliver(ledger) == []
    assert counts(ledger, late) == {"superseded": 1}


def test_a_change_that_returns_to_what_is_confirmed_cancels_the_one_between(ledger: Ledger) -> None:
    """Out, in, out again before anybody called: the provider need not hear of it."""
    imported(ledger, change_of("1", "OPTOUT", 0))
    deliver(ledger)
    between = imported(ledger, change_of("1", "OPTIN", 5))
    last = imported(ledger, change_of("1", "OPTOUT", 9))

    assert deliver(ledger) == []
    assert counts(ledger, between) == {"superseded": 1}
    assert counts(ledger, last) == {"unchanged": 1}


def test_every_row_is_counted_once(ledger: Ledger) -> None:
    """Changes, duplicates and rejects add up to the rows of the file."""
    source = ImportSource("csv", "nightly.csv", "the bytes", 1, None)
    import_id = ledger.intake.open_import(source).import_id
    reject = RejectedRow(4, "channel", "unknown_value", "fix it")
    ledger.intake.accept(import_id, [change_of("1"), change_of("1")], [reject], Checkpoint(3, 5, 10, 3))
    ledger.intake.finish_reading(import_id)
    ledger.intake.publish(import_id)
    deliver(ledger)

    found = ledger.queries.report(import_id)

    assert found is not None
    assert (found.rows, found.accepted, found.rejected, found.duplicates) == (3, 1, 1, 1)
    assert (found.calls, found.sealed) == (1, True)
    assert found.reject_codes == {"unknown_value": 1}


def test_an_import_goes_on_from_its_checkpoint(ledger: Ledger) -> None:
    """The same bytes find the same import and its place in it."""
    source = ImportSource("csv", "nightly.csv", "the bytes", 1, to_micros(MORNING))
    import_id = ledger.intake.open_import(source).import_id
    ledger.intake.accept(import_id, [change_of("1")], [], Checkpoint(1, 2, 0, 1))

    again = ledger.intake.open_import(source)

    assert (again.import_id, again.state, again.checkpoint.records) == (import_id, "reading", 1)
    assert again.default_effective_at == to_micros(MORNING)


def test_rows_of_a_file_that_broke_off_are_not_lost(ledger: Ledger) -> None:
    """A file breaks off and is replaced by a longer one: what both say belongs to the new one and is delivered."""
    broken = recorded(ledger, change_of("1"), change_of("2"))

    whole = imported(ledger, change_of("1"), change_of("2"), change_of("3"))

    assert sorted(user for user, _ in deliver(ledger)) == ["1", "2", "3"]
    assert counts(ledger, whole) == {"applied": 3}
    assert counts(ledger, broken) == {"duplicates": 2}


def test_what_the_database_refuses_is_told_without_values(ledger: Ledger) -> None:
    """An insert that the database does not take ends in an error that a person can act upon, and names no one."""
    columns = ("target_id", "at", "milliseconds", "purpose", "status", "code", "change_ids")
    refused = (1, 1, 1, None, 200, "someone", "[]")

    with pytest.raises(LedgerUnavailable) as raised:
        ledger.database.write(lambda tx: bulk(tx).insert(attempts, columns, [refused]))

    assert "someone" not in str(raised.value)
