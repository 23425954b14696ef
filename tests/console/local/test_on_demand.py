"""A run starts a worker when there is something to deliver, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from consent.errors import ConfigurationError, LedgerUnavailable
from console.local.worker import LocalWorker
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


def test_what_was_read_and_is_not_published_has_a_worker_at_once(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import that was killed before it was published: its first changes are delivered while the last are published.

    A run that looked only at what is pending began to deliver once all of a million changes were published.
    """
    name = write(tmp_path, "rows.csv", "1001417,EMAIL,BULK,OPTOUT,2026-01-02T00:00:00Z")
    with pytest.MonkeyPatch.context() as killed:
        killed.setattr("consent.ledger.intake.publish.Publisher.publish", _fail)
        cli("import", name)
    needed = []

    def watched(*given: object) -> None:
        needed.append(given[-1])
        raise ConfigurationError("that was all")

    monkeypatch.setattr("console.local.delivery.Monitor", watched)
    cli("run", "--workers", "1")

    assert [type(one) for one in needed] == [LocalWorker]


def _fail(*_: object) -> None:
    raise LedgerUnavailable("the process ended")
