"""A file that is not what is wrong stays in its place, and one that is passed over is told of."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consent.ledger.ledger import Ledger
from tests.support.command_line import HEADER
from tests.support.files.workbooks import workbook
from tests.support.watched import dozen, put, watcher, where, zipped


@contextmanager
def most_bytes(size: int) -> Iterator[None]:
    """Let this process and its children write no file beyond a size, as where a disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["large.zip", "large.xlsx"])
def test_a_file_stays_while_the_disk_is_full(own: Ledger, folder: Path, name: str) -> None:
    """The opt-outs of a night lie in failed/ for good, because there was no room to unpack them for an hour."""
    rows = [f"1001417,EMAIL,BULK,OPTOUT,2026-01-02T00:00:00Z,{'x' * 30_000}"] * 140
    table = "\n".join([f"{HEADER},reason", *rows])
    made = (
        zipped({"a.csv": table.encode()}) if name.endswith("zip") else workbook([x.split(",") for x in table.split()])
    )
    put(folder, {name: made})
    watching = watcher(own, folder)
    with most_bytes(3_000_000):
        assert [watching.look() for _ in range(3)] == [0, 0, 0]

    assert where(folder) == {".": {name}, "done": set(), "failed": set()}
    assert [message for message in watching.observer.messages if "File too large" in message] != []
    assert len(watching.observer.messages) == 1
    assert watching.look() == 1
    assert where(folder)["done"] == {name}


def test_a_file_whose_name_is_no_text_is_told_of(own: Ledger, folder: Path) -> None:
    """A system that writes names in Latin-1 drops its opt-outs every night, and none is read."""
    put(folder, {})
    for name in (b"n\xe4chtlich.csv", b"C:\\drop\\b.csv", b"c\nd.csv", b".n\xe4.csv", b"n\xe4.csv.part"):
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_bytes(dozen()["good.csv"])
    watching = watcher(own, folder, "pattern=*.csv")
    assert [watching.look(), watching.look()] == [0, 0]

    messages = sorted(watching.observer.messages)
    assert [message.partition(" is not read,")[0].removeprefix(f"{folder}/") for message in messages] == [
        "C:\\drop\\b.csv",
        "c\\nd.csv",
        "n\\xe4chtlich.csv",
    ]
