"""A run starts a worker when there is something to deliver, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import Cli, settle_all, write

WORKER_LOG = Path(".optrelay/worker.log")


@pytest.fixture
def delivered(cli: Cli, tmp_path: Path) -> str:
    """A file of which everything has been delivered."""
    name = write(tmp_path, "rows.csv", "1001417,EMAIL,BULK,OPTOUT,2026-01-02T00:00:00Z")
    assert cli("import", name).code == 0
    assert settle_all(f"sqlite:///{tmp_path / 'optrelay.db'}") == 1
    return name


def test_a_file_that_was_delivered_starts_no_worker(cli: Cli, delivered: str) -> None:
    """A nightly file that comes again costs no process: its counts are shown, and that is all."""
    answer = cli("run", delivered, "--workers", "1", "--json")

    assert (answer.code, answer.json["applied"]) == (0, 1)
    assert not WORKER_LOG.exists()


def test_where_nothing_is_pending_no_worker_is_started(cli: Cli, delivered: str) -> None:
    """The same holds without a file."""
    assert delivered

    assert cli("run", "--workers", "1").code == 0
    assert not WORKER_LOG.exists()


def test_what_is_pending_besides_a_known_file_is_delivered(cli: Cli, delivered: str, tmp_path: Path) -> None:
    """Changes of another import are waiting: a worker tries them, though the file of this run brings none."""
    more = write(tmp_path, "more.csv", "1002888,EMAIL,BULK,OPTOUT,2026-01-02T00:00:00Z")
    assert cli("import", more).code == 0

    answer = cli("run", delivered, "--workers", "1", "--patience", "0s")

    assert answer.code == 4
    assert WORKER_LOG.exists()
