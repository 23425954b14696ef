"""A folder of its own for every test, with a connection that no one answers at."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.cli import main
from tests.support.command_line import ROWS, Answer, Cli, write


def pytest_itemcollected(item: pytest.Item) -> None:
    """Leave PostgreSQL to `make proofs`: tests of the ledger hold both databases to the same, commands show it.

    Odd requests meet both at once: there is much that only PostgreSQL refuses, as a NUL in a name.
    """
    callspec = getattr(item, "callspec", None)
    if callspec and callspec.params.get("ledger_url") == "postgresql" and item.path.stem != "test_odd_requests":
        item.add_marker(pytest.mark.proof)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """Give what runs a command in an empty folder."""
    for name in [name for name in os.environ if name.startswith("OPTRELAY_")]:
        monkeypatch.delenv(name)
    for name, value in (("BASE_URL", "http://127.0.0.1:1"), ("USERNAME", "till"), ("PASSWORD", "hush-hush-7")):
        monkeypatch.setenv(f"OPTRELAY_CONNECTIONS__CAPILLARY__{name}", value)
    monkeypatch.chdir(tmp_path)
    before, handlers = signal.getsignal(signal.SIGTERM), logging.root.handlers[:]

    def run(*arguments: str) -> Answer:
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        captured = capsys.readouterr()
        return Answer(int(end.value.code or 0), captured.out, captured.err)

    yield run
    signal.signal(signal.SIGTERM, before)
    logging.root.handlers[:] = handlers  # else others' logs go to what was this test's standard error


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The address of the folder's ledger."""
    return f"sqlite:///{tmp_path / 'optrelay.db'}"


@pytest.fixture
def consents(tmp_path: Path) -> str:
    """A file with one row of each kind."""
    return write(tmp_path, "consents.csv", *ROWS)
