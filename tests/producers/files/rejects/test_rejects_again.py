"""A rejects file that is imported again is read, and never written to, whatever locks anybody holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from producers.files.sources import SourceFile, source_files
from producers.options import IngestOptions
from tests.support.memory_ledger import MemoryLedger, csv_of, file_of, take_in

ONE_A_CHUNK = IngestOptions(chunk_rows=1)


@pytest.fixture
def ledger() -> MemoryLedger:
    """A ledger that remembers what it is given."""
    return MemoryLedger()


@pytest.fixture
def rejects(tmp_path: Path, ledger: MemoryLedger) -> Path:
    """A rejects file of which every row is rejected again, in the very same bytes."""
    take_in(csv_of(tmp_path / "x.csv", [f"{n},PIGEON,OPTOUT," for n in range(3)]), ledger)
    return tmp_path / "x.csv.rejects.csv"


def test_it_stays_as_it_is_without_any_lock(rejects: Path, ledger: MemoryLedger) -> None:
    """On a file system without locks its rows would be moved away, or written over, while they are read."""
    before = rejects.read_bytes(), rejects.stat().st_mtime_ns

    again = take_in(SourceFile(rejects, str(rejects)), ledger)

    assert again.rejects_file == rejects.with_name("x.csv.again.rejects.csv")
    assert (rejects.read_bytes(), rejects.stat().st_mtime_ns) == before


@pytest.mark.parametrize("is_locked", [True, False])
def test_an_import_of_it_that_was_killed_goes_on(rejects: Path, ledger: MemoryLedger, *, is_locked: bool) -> None:
    """What is read begins like what was written, and was taken for it: the import said for ever that it was in use."""
    before = rejects.read_bytes()

    def again(source: SourceFile) -> None:
        def stop(number: int) -> None:
            if number == ledger._accepts and number - begun == 2:
                raise KeyboardInterrupt

        begun = ledger._accepts
        ledger.after_accept = stop
        with pytest.raises(KeyboardInterrupt):
            take_in(source, ledger, ONE_A_CHUNK)
        ledger.undisturbed()

        take_in(source, ledger, ONE_A_CHUNK)

    if is_locked:
        with source_files([str(rejects)]) as [source]:
            again(source)
    else:
        again(SourceFile(rejects, str(rejects)))

    assert rejects.read_bytes() == before
    assert rejects.with_name("x.csv.again.rejects.csv").read_bytes() == before


def test_the_names_say_which_file_came_from_which(tmp_path: Path, ledger: MemoryLedger) -> None:
    """Three rounds of fixing: no file changes its name or its rows, and each result says what it came from."""
    current = csv_of(tmp_path / "x.csv", ["1,PIGEON,OPTOUT,"]).path
    for name in (
        "x.csv.rejects.csv",
        "x.csv.again.rejects.csv",
        "x.csv.again-2.rejects.csv",
        "x.csv.again-3.rejects.csv",
    ):
        with source_files([str(current)]) as [source]:
            result = take_in(source, ledger)
        assert result.rejects_file == tmp_path / name
        done = f"done with: what of it was rejected again is in {tmp_path / name}"
        assert (done in result.notes) == (current.name != "x.csv")
        current = file_of(
            tmp_path / name, (tmp_path / name).read_text().replace("PIGEON", f"PIGEON {name}"), age=60
        ).path


def test_another_night_s_rejects_stay_where_they_are(tmp_path: Path, ledger: MemoryLedger) -> None:
    """Monday's numbered file is imported and rejected again: Tuesday's latest file keeps its name."""
    for user in "12":
        take_in(csv_of(tmp_path / "x.csv", [f"{user},PIGEON,OPTOUT,"]), ledger)
    latest = (tmp_path / "x.csv.rejects.csv").read_bytes()

    with source_files([str(tmp_path / "x.csv.1.rejects.csv")]) as [source]:
        again = take_in(source, ledger)

    assert again.rejects_file == tmp_path / "x.csv.1.again.rejects.csv"
    assert (tmp_path / "x.csv.rejects.csv").read_bytes() == latest
