"""Promises 1, 2, 3 and 8 against everything that can happen at once, on SQLite and on PostgreSQL.

PROOF_MODEL_EXAMPLES and PROOF_MODEL_STEPS make it longer; `make model` does.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from consent.ledger.intake import publish, reassign
from consent.ledger.ledger import Ledger
from consent.ledger.schema import info, metadata
from tests.model.machine import STATISTICS, Consents
from tests.support.examples import examples

EXAMPLES = int(os.environ.get("PROOF_MODEL_EXAMPLES", "0"))
STEPS = int(os.environ.get("PROOF_MODEL_STEPS", "25"))

pytestmark = pytest.mark.hypothesis

Fresh = Callable[[Callable[[], int]], Ledger]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An import of five rows becomes due in several transactions and blocks, so that it can be cut between them."""
    monkeypatch.setattr(publish, "CHUNK", 2)
    monkeypatch.setattr(publish, "BLOCK", 3)
    monkeypatch.setattr(reassign, "CHUNK", 1)
    STATISTICS.clear()
    yield
    print("\n" + ", ".join(f"{name}: {number:,}" for name, number in sorted(STATISTICS.items())))


def prove(fresh: Fresh, few: int) -> None:
    """Let the machine run so often."""
    machine = type("Consents", (Consents,), {"fresh": staticmethod(fresh)})
    chosen = settings(
        max_examples=EXAMPLES or few,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize=not EXAMPLES,
        phases=list(Phase) if EXAMPLES else [Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: a power cut is nothing that this machine knows."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as name:
        yield Path(name)


@pytest.mark.takes(20)
def test_whatever_happens_the_newest_change_arrives_sqlite(folder: Path) -> None:
    """Kills, late calls, lost leases, replays and clock jumps in any order: nothing is lost, doubled or stale."""
    template, numbers = folder / "template.db", count()
    with_schema = Ledger(f"sqlite:///{template}")
    with_schema.maintenance.migrate()
    with_schema.close()

    def fresh(clock: Callable[[], int]) -> Ledger:
        path = folder / f"{next(numbers)}.db"
        shutil.copy(template, path)
        return Ledger(f"sqlite:///{path}", clock=clock)

    prove(fresh, examples(20, share=10))


@pytest.mark.takes(20)
def test_whatever_happens_the_newest_change_arrives_postgresql(postgres_database: str) -> None:
    """The same on PostgreSQL."""
    first = Ledger(postgres_database)
    first.maintenance.migrate()
    tables = [table for table in reversed(metadata.sorted_tables) if table is not info]

    def fresh(clock: Callable[[], int]) -> Ledger:
        first.database.write(lambda tx: [tx.execute(table.delete()) for table in tables])
        return Ledger(postgres_database, clock=clock)

    prove(fresh, examples(10, share=10))
    first.close()
