"""Refused rows stand in a file beside the original, which can be fixed and imported again."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consent.errors import ConfigurationError, ImportUnderWay
from consent.imports import RejectedRow
from producers.files.rejects import RejectsFile, RejectsHeader
from producers.files.sources import SourceFile, source_files
from producers.options import IngestOptions
from tests.support.memory_ledger import HEADER, MemoryLedger, csv_of, file_of, rejects_of, take_in


def test_a_file_without_refused_rows_leaves_no_rejects_file(tmp_path: Path) -> None:
    """Nothing to fix, nothing to find."""
    result = take_in(csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,"]), MemoryLedger())

    assert result.rejects_file is None
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_a_refused_row_stands_there_with_its_cells_and_the_reason(tmp_path: Path) -> None:
    """Where, which column, why, since when it would have held, then the row; for its owner's eyes only."""
    since = datetime(2026, 3, 1, tzinfo=UTC)
    file = csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,", "2,PIGEON,OPTOUT,"])

    result = take_in(file, MemoryLedger(), IngestOptions(effective_at=since))

    header, row = rejects_of(tmp_path / "x.csv.rejects.csv")
    assert result.rejects_file == tmp_path / "x.csv.rejects.csv"
    assert header == ["_line", "_column", "_code", "_message", "_effective_at", *HEADER.split(",")]
    assert row[:3] == ["3", "channel", "unknown_value"]
    assert row[4:] == ["2026-03-01T00:00:00+00:00", "2", "PIGEON", "OPTOUT", ""]
    assert stat.S_IMODE((tmp_path / "x.csv.rejects.csv").stat().st_mode) == 0o600


def test_a_fixed_file_is_imported_as_it_is_and_says_nothing_newer(tmp_path: Path) -> None:
    """A row that is fixed days later still holds since its own file was written."""
    ledger = MemoryLedger()
    take_in(csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,", "2,PIGEON,OPTOUT,a;b"]), ledger)
    fixed = (tmp_path / "x.csv.rejects.csv").read_text().replace("PIGEON", "SMS")

    result = take_in(file_of(tmp_path / "x.csv.rejects.csv", fixed, age=60), ledger)

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


def test_a_file_that_no_one_fixed_is_refused_again_row_for_row(tmp_path: Path) -> None:
    """Cells are never pushed under columns where they would pass for something else."""
    ledger = MemoryLedger()
    damaged = "\n".join([HEADER, *ROUGH]).encode() + b"\n11,SMS\xff,OPTOUT,\n" + "12,SMS,OPTOUT,größer\n".encode() * 2
    take_in(file_of(tmp_path / "x.csv", damaged), ledger)
    refused = [line for line, _, _ in ledger.codes]
    known = len(ledger.changes)

    file_of(tmp_path / "x.csv.rejects.csv", (tmp_path / "x.csv.rejects.csv").read_bytes())
    with source_files([str(tmp_path / "x.csv.rejects.csv")]) as [source]:
        take_in(source, ledger)

    assert len(refused) == len(ROUGH) + 1
    assert len(ledger.changes) == known
    assert len(ledger.rejects) == 2 * len(refused)
    again = rejects_of(tmp_path / "x.csv.again.rejects.csv")
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


def test_a_file_of_another_user_and_a_pipe_are_refused(tmp_path: Path) -> None:
    """A colleague had saved last night's rejects: every import ended in an error of ours, with exit code 70."""
    ledger, usual = MemoryLedger(), tmp_path / "x.csv.rejects.csv"
    file = csv_of(tmp_path / "x.csv", ["1,PIGEON,OPTOUT,"])
    os.mkfifo(usual)
    with pytest.raises(ConfigurationError, match=r"no ordinary file.*--rejects"):
        take_in(file, ledger)
    usual.unlink()
    usual.write_text("a colleague's work")
    if os.geteuid():
        pytest.skip("only root can give a file to someone else")
    os.chown(usual, 12_345, -1)

    with pytest.raises(ConfigurationError, match=r"another user.*--rejects"):
        take_in(file, ledger)

    assert usual.read_text() == "a colleague's work"
    assert ledger.rejects == []


def test_another_place_for_rejects_can_be_named(tmp_path: Path) -> None:
    """The folder of the file may be closed to us; standard input has none at all."""
    file = csv_of(tmp_path / "x.csv", ["1,PIGEON,OPTOUT,"])

    result = take_in(file, MemoryLedger(), IngestOptions(rejects_path=tmp_path / "bad.csv"))

    assert result.rejects_file == tmp_path / "bad.csv"
    assert SourceFile(file.path, "stdin", spooled=True).rejects_path == Path("stdin.rejects.csv")


def test_a_place_that_cannot_be_written_is_a_wrong_argument(tmp_path: Path) -> None:
    """Nothing is recorded whose rejects would be lost, and a link is not followed."""
    ledger = MemoryLedger()
    file = csv_of(tmp_path / "x.csv", ["1,PIGEON,OPTOUT,"])
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")

    for path in (tmp_path / "nowhere" / "bad.csv", tmp_path / "link"):
        with pytest.raises(ConfigurationError, match="--rejects"):
            take_in(file, ledger, IngestOptions(rejects_path=path))

    assert ledger.rejects == []
    assert not (tmp_path / "elsewhere").exists()


def test_two_imports_do_not_write_one_rejects_file_at_once(tmp_path: Path) -> None:
    """The second one is told that the first is under way."""
    row = (RejectedRow(2, None, "unknown_value", "no"), ["1"], "")
    path, header = tmp_path / "r.csv", lambda: RejectsHeader(["a"], ",")
    with RejectsFile(path, header) as one, RejectsFile(path, header) as two:
        one.write([row])
        with pytest.raises(ImportUnderWay):
            two.write([row])


def test_a_link_in_place_of_the_rejects_is_called_one(tmp_path: Path) -> None:
    """Who reads of too many levels of links looks for a fault in the disk."""
    (tmp_path / "x.csv.rejects.csv").symlink_to("nowhere")
    with pytest.raises(ConfigurationError, match="it is a link"):
        take_in(csv_of(tmp_path / "x.csv", ["2,PIGEON,OPTOUT,"]), MemoryLedger())
