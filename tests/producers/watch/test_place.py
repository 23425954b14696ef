"""A folder of this machine: what lies in it, and what goes along with a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from producers.watch.place import LocalFolder
from tests.support.watched import put, where


def test_rejected_rows_follow_their_file_though_its_watcher_was_killed(tmp_path: Path) -> None:
    """A watcher that is killed after the commit leaves them where the file is, and no later one makes them again."""
    mine = {"a.zip", "a.zip.rejects.csv", "a.zip.member-2.rejects.csv"}
    others = {"a.zip.old.rejects.csv", "a.zipper.rejects.csv", "b.csv"}
    put(tmp_path, dict.fromkeys(mine | others, b"x"))
    folder = LocalFolder(tmp_path)

    folder.move(next(one for one in folder.list() if one.name == "a.zip"), "done")

    assert where(tmp_path) == {".": others, "done": mine, "failed": set()}


def test_a_file_that_goes_while_a_folder_is_listed_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its writer renames it between its name and its size: it is not there, and nothing else is wrong."""
    put(tmp_path, {"a.csv": b"1", "b.csv": b"2"})
    scandir = os.scandir

    @contextmanager
    def listed(path: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
        with scandir(path) as found:
            entries = list(found)
            (tmp_path / "a.csv").unlink(missing_ok=True)
            yield iter(entries)

    monkeypatch.setattr("producers.watch.place.os.scandir", listed)
    assert [one.name for one in LocalFolder(tmp_path).list()] == ["b.csv"]
