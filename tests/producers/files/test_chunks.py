"""A chunk is bounded by its changes, and what the ledger refuses of it harms no other row."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from consent.change import ConsentChange
from consent.errors import LedgerRefused
from consent.imports import Accepted, Checkpoint, RejectedRow
from consent.ledger.ledger import Ledger
from producers.files import file as chunks
from producers.options import IngestOptions
from tests.support.forked_commands.jobs import FORKABLE
from tests.support.memory_ledger import MemoryLedger, WordyRow, csv_of, file_of, take_in
from worker.providers import PROVIDERS

ROWS = {"infobip": PROVIDERS["infobip"].row}
HEADER = "subscription_id,channel,action,users"


class RefusingLedger(MemoryLedger):
    """A ledger whose database refuses what is said about some members or customers."""

    refuses: frozenset[str] = frozenset()

    def accept(
        self, import_id: str, changes: Sequence[ConsentChange], rejects: Sequence[RejectedRow], checkpoint: Checkpoint
    ) -> Accepted:
        """Name the changes that are refused, or record all."""
        found = tuple(n for n, one in enumerate(changes) if self._refused(one))
        if found:
            error = LedgerRefused("no")
            error.members = found
            raise error
        return super().accept(import_id, changes, rejects, checkpoint)

    def _refused(self, change: ConsentChange) -> bool:
        return any(name in change.slot or name in change.address.values() for name in self.refuses)


def users(count: int, first: int = 0) -> str:
    """A cell of so many members."""
    return "|".join(f"u{n}" for n in range(first, first + count))


def test_a_row_that_the_ledger_refuses_is_rejected_alone(tmp_path: Path) -> None:
    """99 opt-outs waited for ever for one row; it stands among the rejects now, and can be fixed there."""
    ledger = RefusingLedger()
    ledger.refuses = frozenset({"2", "5"})
    file = csv_of(tmp_path / "x.csv", [f"{n},{'FAX' if n == 3 else 'SMS'},OPTOUT," for n in range(8)])

    result = take_in(file, ledger, IngestOptions(chunk_rows=4))

    assert ledger.users == ["0", "1", "4", "6", "7"]
    assert (result.recorded, result.rejected, result.duplicates) == (5, 3, 0)
    with (tmp_path / "x.csv.rejects.csv").open(newline="") as text:
        found = [(row["_line"], row["_code"], row["user_id"]) for row in csv.DictReader(text)]
    assert found == [
        ("5", "unknown_value", "3"),
        ("4", "refused_by_the_ledger", "2"),
        ("7", "refused_by_the_ledger", "5"),
    ]


def test_a_row_of_several_changes_is_refused_whole(tmp_path: Path) -> None:
    """A row counts once when it is refused, so that no row is missing in the sums."""
    ledger = RefusingLedger()
    ledger.refuses = frozenset({"u7"})
    lines = [f"s1,SMS,OPTOUT,{users(5)}", f"s1,SMS,OPTOUT,{users(5, 5)}", f"s2,SMS,OPTOUT,{users(3, 20)}"]

    result = take_in(csv_of(tmp_path / "x.csv", lines, HEADER), ledger, rows=ROWS)

    assert (result.recorded, result.rejected) == (8, 1)
    assert ledger.imports["import-1"].progress.checkpoint.changes == 9
    assert ledger.imports["import-1"].progress.checkpoint.records == 3


def test_a_real_ledger_refuses_a_row_and_the_import_is_sealed(ledger: Ledger, tmp_path: Path) -> None:
    """The same with a database that cannot keep a slot: read whole, released, and every row is accounted for."""
    file = csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,good", "2,SMS,OPTOUT,long", "3,SMS,OPTOUT,better"])

    result = take_in(file, ledger.intake, IngestOptions(stream=True), rows={"crm": WordyRow})  # type: ignore[arg-type]

    found = ledger.queries.report(result.import_id)
    assert found is not None
    refused = 0 if ledger.database.is_sqlite else 1
    assert (found.rows, found.rejected, found.pending) == (3, refused, 3 - refused)


def test_a_chunk_is_full_by_its_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of 5 MB whose rows name hundreds of members was one transaction of 1.8 million changes, in 1.6 GB."""
    monkeypatch.setattr(chunks, "MOST_CHANGES", 100)
    ledger, sizes = MemoryLedger(), []
    ledger.after_accept = lambda _: sizes.append(len(ledger.changes))
    lines = [f"s{n},SMS,OPTOUT,{users(40)}" if n % 3 else f"s{n},FAX,OPTOUT,x" for n in range(20)]

    result = take_in(csv_of(tmp_path / "x.csv", lines, HEADER), ledger, rows=ROWS)

    assert (len(ledger.changes), result.rejected) == (13 * 40, 7)
    assert max(after - before for before, after in zip([0, *sizes], sizes, strict=False)) == 120
    assert sorted(line for line, _, _ in ledger.codes) == [2 + n for n in range(0, 20, 3)]


def test_an_import_goes_on_in_the_midst_of_rows_that_were_read_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after such a chunk loses no row and doubles none."""
    monkeypatch.setattr(chunks, "MOST_CHANGES", 100)
    ledger = MemoryLedger()
    file = csv_of(tmp_path / "x.csv", [f"s{n},SMS,OPTOUT,{users(40)}" for n in range(20)], HEADER)

    def stop(number: int) -> None:
        if number in {2, 4}:
            raise KeyboardInterrupt

    ledger.after_accept = stop
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            take_in(file, ledger, rows=ROWS)
    checkpoint = ledger.imports["import-1"].progress.checkpoint
    assert (checkpoint.records, checkpoint.line) == (12, 13)
    take_in(file, ledger, rows=ROWS)

    assert len({(one.address["subscription_id"], one.slot) for one in ledger.changes}) == len(ledger.changes) == 800


def test_a_cell_of_more_members_than_a_provider_keeps_is_refused(tmp_path: Path) -> None:
    """Such a row could never be delivered; the message says to put the others into a row of their own."""
    ledger = MemoryLedger()
    lines = [f"s1,SMS,OPTOUT,{users(255)}", f"s2,SMS,OPTOUT,{users(256)}"]

    take_in(csv_of(tmp_path / "x.csv", lines, HEADER), ledger, rows=ROWS)

    assert ledger.codes == [(3, "users", "too_long")]
    assert "255 members" in ledger.rejects[0].message
    assert "row of their own" in ledger.rejects[0].message
    assert len(ledger.changes) == 255


_TAKE_IN = (
    FORKABLE
    + """
import resource, sys
from pathlib import Path
from consent.ledger.ledger import Ledger
from producers.files.prepare import prepare
from producers.ingest_file import ingest_file
from producers.options import IngestOptions
from producers.files.sources import SourceFile
from worker.providers import PROVIDERS
ledger = Ledger(sys.argv[2])
ledger.maintenance.prepare()
file = SourceFile(Path(sys.argv[1]), sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
result = ingest_file(prepare(file, IngestOptions(), {"infobip": PROVIDERS["infobip"].row}, {}), ledger.intake)
print(result.recorded, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
)


@pytest.mark.takes(12)
@pytest.mark.proof
def test_rows_of_many_members_fill_no_memory(tmp_path: Path) -> None:
    """Their 204,000 changes were one transaction in 209 MB, and those of a file of 5 MB in 1.6 GB: now it is 62 MB."""
    header = "subscription_id,channel,action,users,resources"
    lines = [f"s{n},SMS,OPTOUT,{users(255)},{users(255)}" for n in range(400)]
    file = file_of(tmp_path / "x.csv", "\n".join([header, *lines]) + "\n")

    measured = subprocess.run(
        [sys.executable, "-c", _TAKE_IN, str(file.path), f"sqlite:///{tmp_path / 'ledger.db'}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()

    assert int(measured[0]) == 400 * 510
    assert int(measured[1]) < 120 * 1024
