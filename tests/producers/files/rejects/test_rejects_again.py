"""A rejects file that is imported again is read, and never written to, whatever locks anybody holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from producers.files.sources import SourceFile, source_files
from producers.options import IngestOptions
from tests.support.memory_ledger import MemoryLedger, csv_of, take_in

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

    assert again.rejects_file == rejects.with_name("x.csv.1.rejects.csv")
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
    assert rejects.with_name("x.csv.1.rejects.csv").read_bytes() == before
