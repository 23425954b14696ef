"""Rejects of other bytes, of a killed import or that a person has fixed meanwhile are kept, each under its own name."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consent.errors import ConfigurationError
from consent.imports import Checkpoint
from producers.files.sources import SourceFile, source_files
from producers.options import IngestOptions
from tests.support.memory_ledger import HEADER, MemoryLedger, csv_of, file_of, rejects_of, take_in


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


def test_rejects_of_other_bytes_are_named_as_such_when_there_are_no_new_ones(tmp_path: Path) -> None:
    """A person may be fixing them, so they stay; but they are not this import's."""
    ledger = MemoryLedger()
    take_in(csv_of(tmp_path / "x.csv", ["1,PIGEON,OPTOUT,"]), ledger)
    result = take_in(csv_of(tmp_path / "x.csv", ["2,SMS,OPTOUT,"]), ledger)

    assert result.rejects_file is None
    assert "earlier import" in result.notes[0]


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
