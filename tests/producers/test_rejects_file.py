"""Refused rows stand in a file beside the original, which can be mended and imported again."""

from __future__ import annotations

import csv
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consent.errors import ConfigurationError, ImportUnderWay
from consent.intake import Checkpoint, Reject
from producers.options import IntakeOptions
from producers.rejects import RejectsFile
from producers.sources import SourceFile
from tests.producers.fakes import HEADER, MemoryLedger, csv_of, file_of, take_in


def rejects_of(path: Path, delimiter: str = ",") -> list[list[str]]:
    """Read a rejects file as a table."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream, delimiter=delimiter))


def test_a_file_without_refused_rows_leaves_no_rejects_file(tmp_path: Path) -> None:
    """Nothing to mend, nothing to find."""
    result = take_in(csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,"]), MemoryLedger())

    assert result.rejects_file is None
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_a_refused_row_stands_there_with_its_cells_and_the_reason(tmp_path: Path) -> None:
    """Where, which column, why, since when it would have held, then the row; for its owner's eyes only."""
    told = datetime(2026, 3, 1, tzinfo=UTC)
    file = csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,", "2,PIGEON,OPTOUT,"])

    result = take_in(file, MemoryLedger(), IntakeOptions(effective_at=told))

    header, row = rejects_of(tmp_path / "x.csv.rejects.csv")
    assert result.rejects_file == tmp_path / "x.csv.rejects.csv"
    assert header == ["_line", "_column", "_code", "_message", "_effective_at", *HEADER.split(",")]
    assert row[:3] == ["3", "channel", "unknown_value"]
    assert row[4:] == ["2026-03-01T00:00:00+00:00", "2", "PIGEON", "OPTOUT", ""]
    assert stat.S_IMODE((tmp_path / "x.csv.rejects.csv").stat().st_mode) == 0o600


def test_a_mended_file_is_imported_as_it_is_and_says_nothing_newer(tmp_path: Path) -> None:
    """A row that is mended days later still holds since its own file was written."""
    ledger = MemoryLedger()
    take_in(csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,", "2,PIGEON,OPTOUT,a;b"]), ledger)
    mended = (tmp_path / "x.csv.rejects.csv").read_text().replace("PIGEON", "SMS")

    result = take_in(file_of(tmp_path / "x.csv.rejects.csv", mended, age=60), ledger)

    first, second = ledger.changes
    assert result.notes == []
    assert first.effective_at == second.effective_at
    assert not (tmp_path / "x.csv.rejects.csv.rejects.csv").exists()


ROUGH = [
    "1",
    "2,SMS",
    "3,SMS,OPTOUT,moved, abroad",
    "4,,,,,,",
    '5,SMS,"OPTOUT,moved',
    '6,SMS,"OPT"OUT,moved',
    '"7","SMS","OPTOUT","say "no", now"',
    "8,PIGEON,OPTOUT,",
    "9.19E+11,SMS,OPTOUT,",
    "10\0,SMS,OPTOUT,",
]


def test_a_file_that_nobody_mended_is_refused_again_row_for_row(tmp_path: Path) -> None:
    """Cells are never pushed under columns where they would pass for something else."""
    ledger = MemoryLedger()
    damaged = "\n".join([HEADER, *ROUGH]).encode() + b"\n11,SMS\xff,OPTOUT,\n" + "12,SMS,OPTOUT,größer\n".encode() * 2
    take_in(file_of(tmp_path / "x.csv", damaged), ledger)
    refused = [line for line, _, _ in ledger.codes]
    known = len(ledger.changes)

    take_in(file_of(tmp_path / "x.csv.rejects.csv", (tmp_path / "x.csv.rejects.csv").read_bytes()), ledger)

    assert len(refused) == len(ROUGH) + 1
    assert len(ledger.changes) == known
    assert len(ledger.rejects) == 2 * len(refused)
    again = rejects_of(tmp_path / "x.csv.rejects.csv.rejects.csv")
    assert [row[5:] for row in again] == [row[5:] for row in rejects_of(tmp_path / "x.csv.rejects.csv")]
    assert again[0].count("_line") == 1


def test_a_ragged_row_keeps_its_cells_behind_the_reason(tmp_path: Path) -> None:
    """A person sees the row as it was, and moves its cells under their columns."""
    take_in(csv_of(tmp_path / "x.csv", ["1,SMS", "2,SMS,OPTOUT,a,b"]), MemoryLedger())

    _, short, long = rejects_of(tmp_path / "x.csv.rejects.csv")
    assert short[5:] == ["1", "SMS"]
    assert long[5:] == ["2", "SMS", "OPTOUT", "a", "b"]


def test_the_delimiter_is_the_files_own(tmp_path: Path) -> None:
    """The program that wrote the file can open its rejects."""
    take_in(file_of(tmp_path / "x.csv", "user_id;channel;action\n1;a,b;OPTOUT\n"), MemoryLedger())

    assert rejects_of(tmp_path / "x.csv.rejects.csv", ";")[1][5:] == ["1", "a,b", "OPTOUT"]


def test_rejects_of_other_bytes_are_replaced(tmp_path: Path) -> None:
    """Yesterday's rejects are not mixed with today's."""
    ledger = MemoryLedger()
    take_in(csv_of(tmp_path / "x.csv", ["1,PIGEON,OPTOUT,"]), ledger)
    take_in(csv_of(tmp_path / "x.csv", ["2,PIGEON,OPTOUT,"]), ledger)

    assert [row[5] for row in rejects_of(tmp_path / "x.csv.rejects.csv")[1:]] == ["2"]


def test_rejects_of_other_bytes_are_named_as_such_when_there_are_no_new_ones(tmp_path: Path) -> None:
    """A person may be mending them, so they stay; but they are not this import's."""
    ledger = MemoryLedger()
    take_in(csv_of(tmp_path / "x.csv", ["1,PIGEON,OPTOUT,"]), ledger)
    result = take_in(csv_of(tmp_path / "x.csv", ["2,SMS,OPTOUT,"]), ledger)

    assert result.rejects_file is None
    assert "earlier import" in result.notes[0]


def test_another_place_for_rejects_can_be_named(tmp_path: Path) -> None:
    """The folder of the file may be closed to us; standard input has none at all."""
    file = csv_of(tmp_path / "x.csv", ["1,PIGEON,OPTOUT,"])

    result = take_in(file, MemoryLedger(), IntakeOptions(rejects_path=tmp_path / "bad.csv"))

    assert result.rejects_file == tmp_path / "bad.csv"
    assert SourceFile(file.path, "stdin", spooled=True).rejects_path == Path("stdin.rejects.csv")


def test_a_place_that_cannot_be_written_is_a_wrong_argument(tmp_path: Path) -> None:
    """Nothing is recorded whose rejects would be lost, and a link is not followed."""
    ledger = MemoryLedger()
    file = csv_of(tmp_path / "x.csv", ["1,PIGEON,OPTOUT,"])
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")

    for path in (tmp_path / "nowhere" / "bad.csv", tmp_path / "link"):
        with pytest.raises(ConfigurationError, match="--rejects"):
            take_in(file, ledger, IntakeOptions(rejects_path=path))

    assert ledger.rejects == []
    assert not (tmp_path / "elsewhere").exists()


def test_rejects_that_vanished_between_two_attempts_are_named(tmp_path: Path) -> None:
    """The rest is written all the same, and a person learns that the beginning is missing."""
    ledger = MemoryLedger()
    file = csv_of(tmp_path / "x.csv", ["1,PIGEON,OPTOUT,", "2,PIGEON,OPTOUT,"])

    def stop(number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    ledger.before_accept = stop
    with pytest.raises(KeyboardInterrupt):
        take_in(file, ledger, IntakeOptions(chunk_rows=1))
    (tmp_path / "x.csv.rejects.csv").unlink()

    result = take_in(file, ledger, IntakeOptions(chunk_rows=1))

    assert "no longer" in result.notes[0]
    assert [row[5] for row in rejects_of(tmp_path / "x.csv.rejects.csv")[1:]] == ["2"]
    assert ledger.imports["import-1"].progress.checkpoint.records == Checkpoint(2).records


def test_two_imports_do_not_write_one_rejects_file_at_once(tmp_path: Path) -> None:
    """The second one is told that the first is under way."""
    row = (Reject(2, None, "unknown_value", "no"), ["1"], "")
    with RejectsFile(tmp_path / "r.csv", ["a"], ",") as one, RejectsFile(tmp_path / "r.csv", ["a"], ",") as two:
        one.write([row])
        with pytest.raises(ImportUnderWay):
            two.write([row])
