"""An export that stamps its own time on every row has no one called again, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consent.imports import Checkpoint, ImportSource
from consent.ledger.intake.imports import count_times, find_export_time
from consent.ledger.ledger import Ledger
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import change_of, counts, deliver, dump, night

pytestmark = pytest.mark.usefixtures("half_past_eight")


def stamped(ledger: Ledger, import_id: str) -> int:
    """How many opt-outs of an import are unchanged because of the export's time."""
    found = ledger.queries.report(import_id)
    assert found is not None
    assert found.balanced
    return found.stamped


def test_an_export_that_stamps_its_own_time_calls_no_one(ledger: Ledger) -> None:
    """1,500 customers cost no call each night, for their export says a later time each night."""
    dump(ledger, night(0))
    deliver(ledger, limit=2_000)

    second = dump(ledger, night(60))

    assert deliver(ledger) == []
    assert counts(ledger, second) == {"unchanged": 1_500}
    assert stamped(ledger, second) == 1_500


@POSTGRESQL_IN_PROOFS
def test_of_a_stamped_export_the_rows_with_another_time_are_sent(ledger: Ledger) -> None:
    """A person whose unsubscribe bears its own time is not held back by the 1,499 beside it."""
    dump(ledger, night(0))
    deliver(ledger, limit=2_000)

    second = dump(ledger, [change_of("1", minute=45), *list(night(60))[1:]])

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]
    assert stamped(ledger, second) == 1_499


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize(("same", "others", "is_stamp"), [(1_000, 0, False), (1_001, 0, True), (1_001, 1_001, False)])
def test_a_stamp_stands_on_more_than_a_thousand_rows_and_more_than_half(
    ledger: Ledger,
    same: int,
    others: int,
    is_stamp: bool,  # noqa: FBT001 - a parameter
) -> None:
    """A thousand people who unsubscribe in one minute are people; rows that were known already count as rows."""
    old = [change_of(str(n), minute=20, slot="EMAIL|TRANS") for n in range(1, others + 1)]
    dump(ledger, [*night(0, same), *old])
    deliver(ledger, limit=5_000)

    second = dump(ledger, [*night(60, same), *old])

    assert stamped(ledger, second) == (same if is_stamp else 0)
    assert len(deliver(ledger, limit=5_000)) == (0 if is_stamp else same)


@POSTGRESQL_IN_PROOFS
def test_times_within_one_minute_are_one_stamp_and_those_of_two_minutes_are_not(ledger: Ledger) -> None:
    """An export may take a while to write its rows; what is spread further is told apart."""
    dump(ledger, night(0))
    deliver(ledger, limit=2_000)
    close = [replace(one, effective_at=one.effective_at + n % 60 * 1_000_000) for n, one in enumerate(night(60))]
    apart = [replace(one, effective_at=one.effective_at + n % 150 * 1_000_000) for n, one in enumerate(night(90))]

    assert stamped(ledger, dump(ledger, close)) == 1_500
    assert deliver(ledger) == []
    assert stamped(ledger, dump(ledger, apart)) == 0
    assert len(deliver(ledger, limit=2_000)) == 1_500


@POSTGRESQL_IN_PROOFS
def test_a_stream_tells_a_stamp_by_what_it_has_read(ledger: Ledger) -> None:
    """No one knows the rest of a stream: its first thousand rows are sent, the rest of a stamped export is not."""
    dump(ledger, night(0))
    deliver(ledger, limit=2_000)

    second = dump(ledger, night(60), stream=True)

    assert stamped(ledger, second) == 800
    assert len(deliver(ledger, limit=2_000)) == 700


@POSTGRESQL_IN_PROOFS
def test_times_are_counted_in_bounded_memory_and_a_majority_survives() -> None:
    """A dump of a million moments costs as little as one of a thousand, and a stamp among them is found."""
    counted, rows = None, 0
    for chunk in range(30):
        lines = range(chunk * 1_000, chunk * 1_000 + 1_000)
        moments = ((line * 3_600 if line % 5 < 2 else 7_000_000_000) * 1_000_000 for line in lines)
        counted, rows = count_times(counted, moments), rows + 1_000
        assert counted is not None
        assert counted.count(":") <= 1_000

    assert find_export_time(counted, rows) == (7_000_000_000 * 1_000_000, 7_000_000_001 * 1_000_000 - 1)
    assert find_export_time(counted, 2 * rows) is None


@POSTGRESQL_IN_PROOFS
def test_a_row_that_names_three_slots_is_one_row(ledger: Ledger) -> None:
    """Of 700 rows with three slots each and 800 others, most rows bear no stamp: no one is held back."""
    slots = ("EMAIL|BULK", "MOBILE|BULK", "EMAIL|TRANS")
    for minute in (0, 60):
        three = [replace(change_of(str(n), minute=minute, slot=slot), line=n) for n in range(700) for slot in slots]
        others = [replace(change_of(str(n), minute=20), line=n) for n in range(700, 1_500)]
        import_id = ledger.intake.open_import(ImportSource("csv", "dump.csv", f"at {minute}", 1, None)).import_id
        ledger.intake.accept(import_id, [*three, *others], [], Checkpoint(1_500, 1_501, 0, 2_900))
        ledger.intake.finish_reading(import_id)
        ledger.intake.publish(import_id)
        assert (len(deliver(ledger, limit=5_000)), stamped(ledger, import_id)) == (2_900 if minute == 0 else 2_100, 0)
