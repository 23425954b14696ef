"""How tests are collected: each file compiled once in a fresh clone, and the proofs in parts of like length."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from zlib import crc32

import pytest

from tests.support.suite.processes import process_name


@contextmanager
def compiled_from_the_other_end(config: pytest.Config) -> Iterator[None]:
    """Let another process import the tests from the last one on, while they are collected.

    In a fresh clone pytest compiles each file, which takes longer than the collection: half of them are compiled here.
    """
    files = sorted(Path("tests").rglob("test_*.py"))
    fresh = config.args == config.getini("testpaths") and not (files[-1].parent / "__pycache__").exists()
    other = os.fork() if fresh and process_name() == "main" else None
    if other == 0:
        for file in reversed(files):
            with suppress(BaseException):  # the collection says what is wrong with it
                import_module(".".join(file.with_suffix("").parts))
        os._exit(0)
    try:
        yield
    finally:
        if other is not None:
            os.kill(other, signal.SIGKILL)
            os.waitpid(other, 0)


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
