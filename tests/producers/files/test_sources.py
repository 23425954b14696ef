"""Arguments mean files: names, folders, patterns, standard input and pipes."""

from __future__ import annotations

import io
import os
import stat
import threading
from pathlib import Path

import pytest

from consent.errors import UnreadableFile
from producers.files.sources import source_files


def names(arguments: list[str]) -> list[str]:
    """Return the file names that arguments mean."""
    with source_files(arguments) as files:
        return [Path(file.name).name for file in files]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two CSV files, a rejects file, a note and a folder."""
    for name in ("b.csv", "a.csv.gz", "b.csv.rejects.csv", "notes.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "deep.csv").mkdir()
    return tmp_path


def test_a_folder_means_its_csv_files_and_no_rejects(folder: Path) -> None:
    """In the order of their names."""
    assert names([str(folder)]) == ["a.csv.gz", "b.csv"]


def test_a_pattern_means_what_it_matches_and_rejects_only_if_it_says_so(folder: Path) -> None:
    """Quoting a pattern does not import yesterday's rejects by accident."""
    assert names([str(folder / "*.csv")]) == ["b.csv"]
    assert names([str(folder / "*.rejects.csv")]) == ["b.csv.rejects.csv"]


def test_a_named_file_is_meant_whatever_it_is_called_and_once(folder: Path) -> None:
    """Naming a rejects file imports it; naming a file twice imports it once."""
    rejects = str(folder / "b.csv.rejects.csv")

    assert names([rejects, str(folder / "notes.txt"), rejects]) == ["b.csv.rejects.csv", "notes.txt"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    """What exists is meant as it stands."""
    (tmp_path / "a[1].csv").write_text("x")

    assert names([str(tmp_path / "a[1].csv")]) == ["a[1].csv"]


@pytest.mark.parametrize("name", ["missing.csv", "*.tsv", "empty"])
def test_what_means_no_file_is_unreadable(tmp_path: Path, name: str) -> None:
    """A typing error is no empty import."""
    (tmp_path / "empty").mkdir()

    with pytest.raises(UnreadableFile):
        names([str(tmp_path / name)])


def test_standard_input_is_kept_in_a_private_file_until_the_end() -> None:
    """Only its owner can read it, and it is gone afterwards."""
    with source_files(["-", "-"], io.BytesIO(b"a,b\n")) as (file,):
        assert file.spooled
        assert file.path.read_bytes() == b"a,b\n"
        assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
        assert file.name == "stdin"

    assert not file.path.exists()


def test_a_pipe_is_read_like_standard_input(tmp_path: Path) -> None:
    """A shell's <(command) works."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"a,b\n",))
    writer.start()

    with source_files([str(pipe)]) as (file,):
        assert (file.path.read_bytes(), file.spooled) == (b"a,b\n", True)
    writer.join()
