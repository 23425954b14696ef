"""How tests are collected: each file compiled once in a fresh clone, and the proofs in parts of like length."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from zlib import crc32

import pytest


def import_from_another_end(config: pytest.Config) -> None:
    """Import the tests before they are collected, each process from another file on.

    In a fresh clone pytest compiles each file, which takes longer than the collection. The processes would all do that
    in the same order at the same time; this way each finds most files compiled by another one.
    """
    process = os.environ.get("PYTEST_XDIST_WORKER")
    if process is None or config.args != config.getini("testpaths"):
        return
    names = [".".join(file.with_suffix("").parts) for file in sorted(Path("tests").rglob("test_*.py"))]
    first = len(names) * int(process.removeprefix("gw")) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    for name in names[first:] + names[:first]:
        with suppress(Exception):  # the collection says what is wrong with it
            import_module(name)


SHORT_SECONDS = 2.0
"""What a proof takes that does not say how long it takes."""


def parts(items: list[pytest.Item], of: int) -> dict[pytest.Item, int]:
    """Return the part of each test: by its name, so that it stays there, but those that take long are evened out."""
    found = {item: crc32(item.nodeid.encode()) % of for item in items}
    marks = {item: item.get_closest_marker("takes") for item in items}
    seconds = {item: mark.args[0] if mark else SHORT_SECONDS for item, mark in marks.items()}
    sums = [0.0] * of
    for item in sorted(seconds, key=lambda item: (seconds[item] > SHORT_SECONDS, -seconds[item], item.nodeid)):
        if seconds[item] > SHORT_SECONDS:
            found[item] = sums.index(min(sums))
        sums[found[item]] += seconds[item]
    return found
