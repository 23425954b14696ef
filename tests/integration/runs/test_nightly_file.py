"""The main job on real parts: a file, a ledger, a broker, four worker processes, a provider."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consent.change import ConsentChange
from consent.imports import ImportSource
from consent.ledger.ledger import Ledger
from consent.times import to_micros
from tests.support.company import Company, assert_balanced, company, fold, shuffled_rows
from worker.providers import PROVIDERS


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Company]:
    """A company whose provider takes a few milliseconds for each call."""
    with company(tmp_path, latency=(0.0, 0.01)) as one:
        yield one


@pytest.mark.parametrize(
    ("count", "customers", "processes"), [(800, 200, 2), pytest.param(10_000, 2_500, 4, marks=pytest.mark.proof)]
)
def test_a_shuffled_file_ends_in_the_newest_changes(shop: Company, count: int, customers: int, processes: int) -> None:
    """Many rows for each customer, by several processes.

    No two calls for a customer at once; and the same file again calls no one.
    """
    rows = shuffled_rows(count, customers)
    path = shop.write(rows)

    code, found, stderr = shop.run("run", path, "--workers", str(processes))

    assert code == 0, stderr
    assert shop.held() == fold(rows)
    assert_balanced(found)
    stats = shop.stats()
    customers = len({row["user_id"] for row in rows})
    assert stats["calls"] == found["calls"] == customers
    assert stats["overlaps"] == 0

    code, again, stderr = shop.run("run", path)

    assert code == 0, stderr
    assert shop.stats()["calls"] == customers
    assert again["import"] == found["import"]


def test_what_events_said_is_told_and_counted_by_a_run(shop: Company) -> None:
    """Someone still listens, and a run delivers what he recorded: it says what became of it, and of what is dead."""
    with closing(Ledger(f"sqlite:///{shop.folder / 'ledger.db'}")) as ledger:
        ledger.maintenance.prepare()
        source = ImportSource("http", "shop", "a run of serve", 0, None, stream=True)
        listened = ledger.intake.open_import(source).import_id
        ledger.intake.accept_events(listened, [change("387006417"), change("404006669")], [])

        code, found, notes = shop.run("run")

        assert (code, found["applied"], found["dead"], found["import"]) == (1, 1, 1, listened), notes
        assert shop.run("run")[1]["imports"] == []
        ledger.intake.accept_events(listened, [change("387006418")], [])
        code, found, notes = shop.run("run")
        assert (found["applied"], found["pending"], found["sealed"]) == (2, 0, False), notes
        assert code == 0  # one is dead still, which the first run said


def change(customer: str) -> ConsentChange:
    """What an event says: that someone is out."""
    row = PROVIDERS["capillary"].row.model_validate(
        {"user_id": customer, "channel": "EMAIL", "priority": "BULK", "action": "OPTOUT"}
    )
    (one,) = row.changes().slots
    return ConsentChange(
        "capillary", row.changes().address, one.slot, row.action, to_micros(datetime.now(UTC)), one.details
    )


@pytest.mark.proof
def test_the_same_changes_in_another_file_call_no_one(shop: Company) -> None:
    """Yesterday's rows in today's file are duplicates; the same changes with a later time are unchanged."""
    rows = [row | {"action": "OPTOUT", "effective_at": "2026-11-20T08:00:00+00:00"} for row in shuffled_rows(400, 100)]
    shop.run("run", shop.write(rows))
    calls = shop.stats()["calls"]

    _, duplicates, _ = shop.run("run", shop.write(rows[::-1], "reversed.csv"))
    later = [row | {"effective_at": "2026-11-21T08:00:00+00:00"} for row in rows]
    _, unchanged, _ = shop.run("run", shop.write(later, "later.csv"))

    assert duplicates["duplicates"] == 400
    assert unchanged["unchanged"] == unchanged["accepted"] > 0
    assert shop.stats()["calls"] == calls
