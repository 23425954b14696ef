"""What became of each row, in the order of lines, whatever the order in which the ledger has them."""

from __future__ import annotations

from dataclasses import replace

from consent.imports import Checkpoint, ImportSource, RejectedRow
from consent.ledger.ledger import Ledger
from consent.outcome import PermanentFailure
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import change_of, deliver, imported


def read_whole(ledger: Ledger, name: str, *lines: int) -> str:
    """A file whose rows, of as many people, stand at these lines; the row at line 9 names two slots, 8 is rejected."""
    import_id = ledger.intake.open_import(ImportSource("csv", "export.csv", name, 1, None, sha256="ab" * 32)).import_id
    changes = [replace(change_of(str(line), minute=1), line=line) for line in lines]
    changes += [replace(change_of("9", slot=slot), line=9) for slot in ("EMAIL|BULK", "MOBILE|BULK")]
    rejects = [RejectedRow(8, "channel", "unknown_value", "write one of EMAIL, MOBILE")]
    ledger.intake.accept(import_id, changes, rejects, Checkpoint(len(lines) + 2, 10, 0, len(changes) + 1))
    ledger.intake.finish_reading(import_id)
    ledger.intake.publish(import_id)
    return import_id


@POSTGRESQL_IN_PROOFS
def test_rows_come_by_line_with_what_became_of_them(ledger: Ledger) -> None:
    """One dies, one was known, one is rejected, one names two slots of which one is overtaken."""
    imported(ledger, change_of("3", minute=1), change_of("9", "OPTIN", 9, "MOBILE|BULK"))
    deliver(ledger)
    import_id = read_whole(ledger, "export", 7, 2, 3, 5)
    deliver(ledger, PermanentFailure("1012", "Capillary cannot find this customer"))

    with ledger.queries.imported_rows(import_id) as found:
        by_line = {one.line: (one.outcome, one.code, dict(one.counts)) for one in found.outcomes}

    assert list(by_line) == [2, 5, 7, 8, 9]  # 3 was known before
    assert by_line[2] == ("dead", "1012", {"dead": 1})
    assert by_line[8] == ("rejected", "unknown_value", {"rejected": 1})
    assert by_line[9] == ("dead", "1012", {"dead": 1, "superseded": 1})
    assert (found.kind, found.state, found.records, found.sha256) == ("csv", "released", 6, "ab" * 32)


def test_rows_that_changed_nothing_are_unchanged(ledger: Ledger) -> None:
    """A nightly dump says again what is so: no change came of it, and each of its rows is told all the same."""
    read_whole(ledger, "monday", 2, 5)
    deliver(ledger)
    later = [replace(change_of(str(line), minute=60), line=line) for line in (5, 2)]
    import_id = ledger.intake.open_import(ImportSource("csv", "export.csv", "tuesday", 1, None)).import_id
    ledger.intake.accept(import_id, later, [], Checkpoint(2, 3, 0, 2))
    outcomes = []
    for step in (
        lambda: None,
        lambda: ledger.intake.finish_reading(import_id),
        lambda: ledger.intake.publish(import_id),
    ):
        step()
        with ledger.queries.imported_rows(import_id) as found:
            outcomes.append([(one.line, one.outcome, one.settled_at is None) for one in found.outcomes])

    assert outcomes[0] == outcomes[1] == [(2, "pending", True), (5, "pending", True)]
    assert [(line, outcome) for line, outcome, _ in outcomes[2]] == [(2, "unchanged"), (5, "unchanged")]
