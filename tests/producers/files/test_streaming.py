"""Memory does not grow with the file, and reading needs no ledger."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from producers.files import file as files
from producers.files.file import read_chunks
from producers.files.prepare import prepare
from producers.options import IngestOptions
from tests.support.memory_ledger import ROWS, csv_of


def test_a_dry_run_reads_chunks_without_a_ledger(tmp_path: Path) -> None:
    """Every row is in exactly one chunk, and each chunk knows the place behind it."""
    lines = [f"{n},{'PIGEON' if n % 3 == 0 else 'SMS'},OPTOUT," for n in range(10)]
    file = prepare(csv_of(tmp_path / "x.csv", lines), IngestOptions(), ROWS, {})

    chunks = list(read_chunks(file, chunk_rows=4))

    assert [(len(chunk.changes), len(chunk.rejects)) for chunk in chunks] == [(2, 2), (3, 1), (1, 1)]
    assert [(chunk.checkpoint.records, chunk.checkpoint.line) for chunk in chunks] == [(4, 5), (8, 9), (10, 11)]
    assert all(len(chunk.cells) == len(chunk.rejects) for chunk in chunks)


def test_the_next_chunk_is_read_while_one_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To record a chunk is mostly to wait for the database."""
    file = prepare(csv_of(tmp_path / "x.csv", [f"{n},SMS,OPTOUT," for n in range(10)]), IngestOptions(), ROWS, {})
    read, semaphore = files._next_chunk, threading.Semaphore(0)

    def reading(*given: Any) -> files.Chunk:
        chunk = read(*given)
        semaphore.release()
        return chunk

    monkeypatch.setattr(files, "_next_chunk", reading)
    chunks = read_chunks(file, chunk_rows=4)
    first = next(chunks)

    assert [semaphore.acquire(timeout=20) for _ in range(2)] == [True, True]
    assert (first.checkpoint.records, first.checkpoint.line) == (4, 5)
    assert [one.checkpoint.records for one in chunks] == [8, 10]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Twelve thousand rows, which would fill some ten megabytes, are never all in memory."""
    lines = (f"{n},SMS,OPTOUT,moved" for n in range(12_000))
    file = prepare(csv_of(tmp_path / "x.csv", lines), IngestOptions(), ROWS, {})

    tracemalloc.start()
    rows = sum(len(chunk.changes) for chunk in read_chunks(file, chunk_rows=500))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert rows == 12_000
    assert most < 3_000_000


def test_rows_with_enormous_cells_make_smaller_chunks(tmp_path: Path) -> None:
    """A chunk ends when it has read some eight million characters, so that refused rows do not pile up."""
    lines = (f"{n},SMS,OPTOUT,{'x' * 1_000_000}" for n in range(20))
    file = prepare(csv_of(tmp_path / "x.csv", lines), IngestOptions(), ROWS, {})

    assert [len(chunk.rejects) for chunk in read_chunks(file)] == [9, 9, 2]
