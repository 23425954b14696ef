"""A file is looked over once before anything is recorded."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from consent.errors import UnreadableFile, UnstableFile
from consent.times import to_micros
from producers.files import inspect as surveying
from producers.files.inspect import Inspection, inspect_file, look
from producers.files.prepare import prepare
from producers.files.sources import SourceFile
from producers.options import IngestOptions
from tests.support.memory_ledger import ROWS, csv_of, file_of


def test_the_look_counts_lines_and_names_the_bytes(tmp_path: Path) -> None:
    """Line ends of every kind count, and so does a last line without one."""
    for content in (b"a\nb\nc", b"a\r\nb\r\nc\r\n", b"a\rb\rc"):
        found = inspect_file(file_of(tmp_path / "x.csv", content))
        assert (found.lines, found.sha256) == (3, hashlib.sha256(content).hexdigest())


def test_a_file_that_was_written_just_now_is_waited_for(tmp_path: Path) -> None:
    """Someone may still be writing it."""
    began = time.monotonic()

    inspect_file(file_of(tmp_path / "x.csv", "a\n", age=0.5))

    assert 0.3 < time.monotonic() - began < 3


def test_a_file_that_keeps_changing_is_refused_in_the_end(tmp_path: Path) -> None:
    """Waiting has a limit, and the message says to import it again."""
    with pytest.raises(UnstableFile, match="import it again"):
        inspect_file(file_of(tmp_path / "x.csv", "a\n", age=0), patience=0.3)


def test_a_file_that_changes_during_the_look_is_looked_over_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is surveyed is the finished file."""
    file = file_of(tmp_path / "x.csv", "a\n")
    scan, scans = surveying._scan, []

    def scan_and_write(*arguments: Any) -> Inspection:
        scans.append(arguments)
        found = scan(*arguments)
        if len(scans) == 1:
            file_of(file.path, "a\nb\n", age=5)
        return found

    monkeypatch.setattr(surveying, "_scan", scan_and_write)

    assert (inspect_file(file).lines, len(scans)) == (2, 2)


def test_a_clock_that_runs_ahead_keeps_no_one_waiting(tmp_path: Path) -> None:
    """A modification time from the future tells of another machine's clock."""
    began = time.monotonic()

    inspect_file(file_of(tmp_path / "x.csv", "a\n", age=-500))

    assert time.monotonic() - began < 0.3


def test_a_missing_or_forbidden_file_is_unreadable_by_name(tmp_path: Path) -> None:
    """The message names the file and the system's reason."""
    with pytest.raises(UnreadableFile, match=r"x\.csv cannot be read: No such file"):
        inspect_file(SourceFile(tmp_path / "x.csv", "x.csv"))
    with pytest.raises(UnreadableFile, match="directory"):
        inspect_file(SourceFile(tmp_path, "folder", spooled=True))


def test_a_header_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each further look at a file on a network drive costs a round trip, and there may be thousands of files."""
    opened: list[str] = []
    plain = Inspection.open

    def counted(found: Inspection) -> Any:
        opened.append(found.file.name)
        return plain(found)

    monkeypatch.setattr(Inspection, "open", counted)
    prepare(csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,"]), IngestOptions(), ROWS, {})

    assert len(opened) == 1


def test_every_reader_of_a_text_learns_that_it_is_cut_short(tmp_path: Path) -> None:
    """A reader who forgot to ask for it showed a traceback of the gzip module."""
    file = file_of(tmp_path / "x.csv.gz", b"a\n" * 100_000)
    found = inspect_file(file)
    cut = file.path.read_bytes()[:-30]
    file.path.write_bytes(cut)
    found = replace(found, stamp=look(file))

    for read in (lambda text: text.read(10**6), list):
        with pytest.raises(UnreadableFile, match="cut short"), found.open() as text:
            read(text)


@pytest.mark.parametrize("nanoseconds", [0, 499, 500, 900, 999_999_999])
def test_the_time_of_a_file_is_what_it_was_in_every_version(nanoseconds: int, tmp_path: Path) -> None:
    """One microsecond less, and an opt-out in a file that is imported again lost to the opt-in that it corrects."""
    modified = 1_767_312_000_123_456_000 + nanoseconds
    file = csv_of(tmp_path / "rows.csv", [])
    os.utime(file.path, ns=(modified, modified))

    assert inspect_file(file).modified_at == to_micros(datetime.fromtimestamp(modified / 1e9, UTC))
