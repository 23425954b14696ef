"""Workers are woken as soon as the first of a file is due: they need not wait until all of it has been published."""

from __future__ import annotations

from pathlib import Path

import pytest

from consent.errors import BrokerUnavailable
from consent.ledger.intake import publish
from consent.ledger.ledger import Ledger
from consent.settings import Settings
from console.local import notifier
from tests.support.command_line import Cli, write
from tests.support.ledgers import BUCKET

CUSTOMERS = 6


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two files of other customers, whose changes become due two at a time."""
    monkeypatch.setattr(publish, "CHUNK", 2)
    monkeypatch.setenv("OPTRELAY_BROKER_URL", "redis://127.0.0.1:1/0")
    rows = [f"{1_001_000 + n},EMAIL,BULK,OPTOUT,2026-01-02T00:00:00Z" for n in range(2 * CUSTOMERS)]
    return [write(tmp_path, f"{n}.csv", *rows[n * CUSTOMERS : (n + 1) * CUSTOMERS]) for n in range(2)]


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many customers were due each time that workers were to be woken."""
    found: list[int] = []

    def wake(_: Settings, ledger: Ledger) -> bool:
        found.append(ledger.queue.due(BUCKET, 1_000))
        return found[-1] > 0

    monkeypatch.setattr(notifier, "send_wake_ups", wake)
    return found


def test_workers_are_woken_with_the_first_that_is_due(cli: Cli, files: list[str], woken: list[int]) -> None:
    """Nothing is due while changes are merged; then workers are woken at once, and again when all of it is due."""
    assert cli("import", files[0]).code == 0

    assert woken == [*[0] * (len(woken) - 2), 2, CUSTOMERS]


def test_what_an_earlier_file_left_is_not_sent_while_another_may_supersede_it(
    cli: Cli, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the second one is merged, some of the opt-ins that are due are about to lose against its opt-outs."""
    optins = [f"{1_001_000 + n},EMAIL,BULK,OPTIN,2026-01-01T00:00:00Z" for n in range(CUSTOMERS)]
    waiting = cli("import", write(tmp_path, "optins.csv", *optins), "--json").json["import"]
    superseded: list[int] = []

    def wake(_: Settings, ledger: Ledger) -> bool:
        report = ledger.queries.report(waiting)
        superseded.append(report.superseded if report else -1)
        return True

    monkeypatch.setattr(notifier, "send_wake_ups", wake)
    assert cli("import", files[0]).code == 0

    assert superseded == [CUSTOMERS, CUSTOMERS]


def test_of_several_files_nothing_is_sent_until_all_are_recorded(cli: Cli, files: list[str], woken: list[int]) -> None:
    """What a later one supersedes is not sent."""
    assert cli("import", *files).code == 0

    assert woken == [2 * CUSTOMERS]


def test_a_broker_that_is_away_is_not_waited_for_each_time(
    cli: Cli, files: list[str], woken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried once while a file is published, and once at its end, which tells the person."""

    def fail(_: Settings, ledger: Ledger) -> bool:
        woken.append(ledger.queue.due(BUCKET, 1_000))
        raise BrokerUnavailable("the broker cannot be reached")

    monkeypatch.setattr(notifier, "send_wake_ups", fail)
    answer = cli("import", files[0])

    assert answer.code == 0
    assert answer.err.count("cannot be reached") == 1
    assert woken == [0, CUSTOMERS]
