"""Refused rows stand in a file beside the original, which can be fixed and imported again."""

from __future__ import annotations

import csv
import io
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consent.errors import ConfigurationError, ImportUnderWay
from consent.imports import Checkpoint, RejectedRow
from producers.files.rejects import RejectsFile, RejectsHeader
from producers.files.sources import SourceFile, source_files
from producers.options import IngestOptions
from tests.support.memory_ledger import HEADER, MemoryLedger, csv_of, file_of, take_in


def rejects_of(path: Path, delimiter: str = ",") -> list[list[str]]:
    """Read a rejects file as a table."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream, delimiter=delimiter))


def test_a_file_without_refused_rows_leaves_no_rejects_file(tmp_path: Path) -> None:
    """Nothing to fix, nothing to find."""
    result = take_in(csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,"]), MemoryLedger())

    assert result.rejects_file is None
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_a_refused_row_stands_there_with_its_cells_and_the_reason(tmp_path: Path) -> None:
    """Where, which column, why, since when it would have held, then the row; for its owner's eyes only."""
    told = datetime(2026, 3, 1, tzinfo=UTC)
    file = csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,", "2,PIGEON,OPTOUT,"])

    result = take_in(file, MemoryLedger(), IngestOptions(effective_at=told))

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
    again = rejects_of(tmp_path / "x.csv.1.rejects.csv")  # one suffix, and a number
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


def users_in(path: Path) -> list[str]:
    """Read which customers' rows stand in a rejects file."""
    return [row[5] for row in rejects_of(path)[1:]]


def test_rejects_of_other_bytes_are_kept_under_a_number(tmp_path: Path) -> None:
    """An opt-out that was fixed on Monday and not yet imported was gone on Tuesday: the ledger keeps no cells."""
    ledger, usual = MemoryLedger(), tmp_path / "nightly.csv.rejects.csv"
    take_in(csv_of(tmp_path / "nightly.csv", ["1,PIGEON,OPTOUT,"]), ledger)
    usual.write_text(usual.read_text().replace("PIGEON", "SMS"))
    second = take_in(csv_of(tmp_path / "nightly.csv", ["2,PIGEON,OPTOUT,"]), ledger)
    third = take_in(csv_of(tmp_path / "nightly.csv", ["3,PIGEON,OPTOUT,"]), ledger)

    assert (second.rejects_file, third.rejects_file) == (usual, usual)
    assert [any(f"nightly.csv.{n}.rejects.csv" in note for note in third.notes) for n in (1, 2)] == [False, True]
    assert users_in(usual) == ["3"]
    assert users_in(tmp_path / "nightly.csv.2.rejects.csv") == ["2"]
    assert "1,SMS,OPTOUT" in (tmp_path / "nightly.csv.1.rejects.csv").read_text()


def test_a_kept_rejects_file_can_be_imported(tmp_path: Path) -> None:
    """It is a rejects file by name as well: a folder leaves it out, and naming it imports it."""
    ledger = MemoryLedger()
    for user in "12":
        take_in(csv_of(tmp_path / "x.csv", [f"{user},PIGEON,OPTOUT,"]), ledger)
    kept = tmp_path / "x.csv.1.rejects.csv"

    with source_files([str(tmp_path)]) as files:
        assert [file.path.name for file in files] == ["x.csv"]
    take_in(file_of(kept, kept.read_text().replace("PIGEON", "SMS"), age=60), ledger)
    assert ledger.users == ["1"]


def test_rejects_of_standard_input_are_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every night's pipe has the same name, `stdin`."""
    monkeypatch.chdir(tmp_path)
    ledger, options = MemoryLedger(), IngestOptions(effective_at=datetime(2026, 3, 1, tzinfo=UTC))
    for user in "12":
        with source_files(["-"], io.BytesIO(f"{HEADER}\n{user},PIGEON,OPTOUT,\n".encode())) as [file]:
            take_in(file, ledger, options)

    assert users_in(tmp_path / "stdin.rejects.csv") == ["2"]
    assert users_in(tmp_path / "stdin.1.rejects.csv") == ["1"]


def test_a_fixed_file_keeps_its_name_while_it_is_imported(tmp_path: Path) -> None:
    """Otherwise the import of the fixed rows ends as `unstable`, and the opt-outs in them wait for a person."""
    ledger, usual = MemoryLedger(), tmp_path / "x.csv.rejects.csv"
    take_in(csv_of(tmp_path / "x.csv", ["1,PIGEON,OPTOUT,"]), ledger)
    file_of(usual, usual.read_text().replace("PIGEON", "SMS"), age=60)

    with source_files([str(usual)]) as [fixed]:
        result = take_in(csv_of(tmp_path / "x.csv", ["2,PIGEON,OPTOUT,"]), ledger)
        take_in(fixed, ledger)

    assert ledger.users == ["1"]
    assert result.rejects_file == tmp_path / "x.csv.1.rejects.csv"
    assert any("being imported" in note and "x.csv.1.rejects.csv" in note for note in result.notes)
    assert users_in(tmp_path / "x.csv.1.rejects.csv") == ["2"]


def _interrupted(ledger: MemoryLedger, file: SourceFile, chunks: int, *, after: bool = False) -> None:
    """Read a file of one row a chunk until Ctrl-C comes, right before or after a chunk is recorded."""

    def stop(number: int) -> None:
        if number == ledger._accepts and number - before == chunks:
            raise KeyboardInterrupt

    before = ledger._accepts
    setattr(ledger, "after_accept" if after else "before_accept", stop)
    with pytest.raises(KeyboardInterrupt):
        take_in(file, ledger, IngestOptions(chunk_rows=1))
    ledger.undisturbed()


@pytest.mark.parametrize("chunks", [1, 2, 3])
@pytest.mark.parametrize("after", [False, True])
def test_an_import_that_was_killed_goes_on_with_its_own_file(tmp_path: Path, chunks: int, *, after: bool) -> None:
    """However often it is killed, and wherever: one file with each row once, and nothing beside it."""
    ledger = MemoryLedger()
    file = csv_of(tmp_path / "x.csv", [f"{n},PIGEON,OPTOUT," for n in range(3)])
    _interrupted(ledger, file, chunks, after=after)
    if chunks == 1 and not after:
        _interrupted(ledger, file, chunks, after=after)

    take_in(file, ledger, IngestOptions(chunk_rows=1))

    assert users_in(tmp_path / "x.csv.rejects.csv") == ["0", "1", "2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", "x.csv.rejects.csv"]


def test_an_import_that_goes_on_finds_its_file_under_its_number(tmp_path: Path) -> None:
    """Another import of the same name came between: each import's rejects are together in one file."""
    ledger = MemoryLedger()
    monday = csv_of(tmp_path / "x.csv", ["1,PIGEON,OPTOUT,", "2,PIGEON,OPTOUT,"])
    _interrupted(ledger, monday, 2)
    monday.path.rename(tmp_path / "kept.csv")
    take_in(csv_of(tmp_path / "x.csv", ["9,PIGEON,OPTOUT,"]), ledger)

    again = SourceFile(tmp_path / "kept.csv", str(tmp_path / "x.csv"))
    result = take_in(again, ledger, IngestOptions(chunk_rows=1))

    assert result.rejects_file == tmp_path / "x.csv.1.rejects.csv"
    assert users_in(tmp_path / "x.csv.1.rejects.csv") == ["1", "2"]
    assert users_in(tmp_path / "x.csv.rejects.csv") == ["9"]


def test_what_a_person_has_fixed_meanwhile_is_kept(tmp_path: Path) -> None:
    """The import was interrupted, its rejects were fixed, and then it goes on: the fixed row is not cut off."""
    ledger, usual = MemoryLedger(), tmp_path / "x.csv.rejects.csv"
    file = csv_of(tmp_path / "x.csv", ["1,PIGEON,OPTOUT,", "2,PIGEON,OPTOUT,"])
    _interrupted(ledger, file, 1, after=True)
    usual.write_text(usual.read_text().replace("PIGEON", "EMAIL") + "\n")

    result = take_in(file, ledger, IngestOptions(chunk_rows=1))

    assert "1,EMAIL,OPTOUT" in (tmp_path / "x.csv.1.rejects.csv").read_text()
    assert users_in(usual) == ["2"]
    assert any("no longer" in note for note in result.notes)


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


def test_rejects_of_other_bytes_are_named_as_such_when_there_are_no_new_ones(tmp_path: Path) -> None:
    """A person may be fixing them, so they stay; but they are not this import's."""
    ledger = MemoryLedger()
    take_in(csv_of(tmp_path / "x.csv", ["1,PIGEON,OPTOUT,"]), ledger)
    result = take_in(csv_of(tmp_path / "x.csv", ["2,SMS,OPTOUT,"]), ledger)

    assert result.rejects_file is None
    assert "earlier import" in result.notes[0]


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


def test_rejects_that_vanished_between_two_attempts_are_named(tmp_path: Path) -> None:
    """The rest is written all the same, and a person learns that the beginning is missing."""
    ledger = MemoryLedger()
    file = csv_of(tmp_path / "x.csv", ["1,PIGEON,OPTOUT,", "2,PIGEON,OPTOUT,"])

    def stop(number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    ledger.before_accept = stop
    with pytest.raises(KeyboardInterrupt):
        take_in(file, ledger, IngestOptions(chunk_rows=1))
    (tmp_path / "x.csv.rejects.csv").unlink()

    result = take_in(file, ledger, IngestOptions(chunk_rows=1))

    assert "no longer" in result.notes[0]
    assert [row[5] for row in rejects_of(tmp_path / "x.csv.rejects.csv")[1:]] == ["2"]
    assert ledger.imports["import-1"].progress.checkpoint.records == Checkpoint(2).records


def test_two_imports_do_not_write_one_rejects_file_at_once(tmp_path: Path) -> None:
    """The second one is told that the first is under way."""
    row = (RejectedRow(2, None, "unknown_value", "no"), ["1"], "")
    path, header = tmp_path / "r.csv", lambda: RejectsHeader(["a"], ",")
    with RejectsFile(path, header) as one, RejectsFile(path, header) as two:
        one.write([row])
        with pytest.raises(ImportUnderWay):
            two.write([row])


def test_only_a_file_of_rejected_rows_is_given_another_name(tmp_path: Path) -> None:
    """Tonight's file is gone from its place, and its opt-outs are not read: it was named as the file for rejects."""
    file = csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,", "2,PIGEON,OPTOUT,"])
    other = csv_of(tmp_path / "tonight.csv", ["3,SMS,OPTOUT,"])
    for named in (file, other):
        before = named.path.read_bytes()
        with pytest.raises(ConfigurationError, match="is no rejects file"):
            take_in(file, MemoryLedger(), IngestOptions(rejects_path=named.path))
        assert named.path.read_bytes() == before

    take_in(file, MemoryLedger(), IngestOptions(rejects_path=tmp_path / "bad.csv"))
    again = csv_of(tmp_path / "y.csv", ["4,PIGEON,OPTOUT,"])
    take_in(again, MemoryLedger(), IngestOptions(rejects_path=tmp_path / "bad.csv"))

    assert rejects_of(tmp_path / "bad.1.csv")[1][5] == "2"
    assert rejects_of(tmp_path / "bad.csv")[1][5] == "4"


def test_a_link_in_place_of_the_rejects_is_called_one(tmp_path: Path) -> None:
    """Who reads of too many levels of links looks for a fault in the disk."""
    (tmp_path / "x.csv.rejects.csv").symlink_to("nowhere")
    with pytest.raises(ConfigurationError, match="it is a link"):
        take_in(csv_of(tmp_path / "x.csv", ["2,PIGEON,OPTOUT,"]), MemoryLedger())
