"""A process is killed around the commit that trips a fuse, and at each step of a decision about one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

import pytest
from sqlalchemy import text

from consent.guards.fuse import FuseWay
from consent.ledger.ledger import Ledger
from consent.ledger.review import fuse_steps as stepping
from consent.outcome import Applied
from tests.support.fuses import RULES, WHY, WRONG_ACCOUNT, answer, drain, people, trip
from tests.support.ledgers import counts, imported

TABLES = (
    *("noop_changes", "pending_duplicates", "slots", "changes", "customer_tasks", "imports", "targets", "attempts"),
    *("dead_letters", "audit_log", "fuses"),
)
MOST = 30
"""No decision about twelve customers commits more often."""


def killed(url: str, do: Callable[[Ledger], object], step: int) -> int | None:
    """Do it in a process that is killed before a commit (even steps) or after it (odd ones); return how it ended."""

    def run() -> None:
        ledger = Ledger(url)
        write, commits = ledger.database.write, iter(range(MOST))

        def cut(work: Callable[..., Any]) -> Any:
            commit = next(commits)

            def last(tx: Any) -> Any:
                found = work(tx)
                if step == 2 * commit:
                    os.kill(os.getpid(), signal.SIGKILL)
                return found

            found = write(last)
            if step == 2 * commit + 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        ledger.database.write = cut  # type: ignore[method-assign]
        do(ledger)

    child = get_context("fork").Process(target=run)
    child.start()
    child.join(60)
    return child.exitcode


@pytest.mark.proof
def test_a_killed_settlement_has_tripped_it_or_not(ledger: Ledger, ledger_url: str) -> None:
    """Before the commit no one has died and nothing is held; after it five have, and the rest is."""
    for step, (dead, tripped) in enumerate([(0, 0), (0, 0), (0, 0), (5, 1)]):
        ledger.database.write(lambda tx: [tx.execute(text(f"DELETE FROM {name}")) for name in TABLES])
        file = imported(ledger, *people(1, 12))

        assert killed(ledger_url, lambda one: answer(one, *[WRONG_ACCOUNT] * 5), step) == -signal.SIGKILL

        assert (counts(ledger, file).get("dead", 0), len(ledger.fuses.tripped())) == (dead, tripped)


@pytest.mark.proof
@pytest.mark.parametrize("way", list(FuseWay))
def test_a_killed_decision_is_carried_out_by_the_sweep(
    ledger: Ledger, ledger_url: str, monkeypatch: pytest.MonkeyPatch, way: FuseWay
) -> None:
    """It has happened or not; if it has, the sweep does the rest; said again, it ends as it should."""
    monkeypatch.setattr(stepping, "STEP", 3)
    for step in range(2 * MOST):
        ledger.database.write(lambda tx: [tx.execute(text(f"DELETE FROM {name}")) for name in TABLES])
        file = trip(ledger)
        assert drain(ledger) == []

        def decide(one: Ledger, what: str = file) -> None:
            one.fuses.reset(what, way, WHY)
            one.fuses.work_off()

        ended = killed(ledger_url, decide, step)
        ledger.fuses.work_off()
        delivered = drain(ledger, Applied())
        assert len(delivered) in ((0,) if way is FuseWay.LET_DIE else (0, 7)), step
        decide(ledger)
        delivered += drain(ledger, Applied())

        assert counts(ledger, file) == ({"dead": 12} if way is FuseWay.LET_DIE else {"dead": 5, "applied": 7}), step
        assert len(delivered) == (0 if way is FuseWay.LET_DIE else 7), step
        assert ledger.fuses.held_customers() == {}
        assert ledger.deadlines.wrong_cells() == 0
        if ended == 0:
            break
    assert step > 2, "it was never killed"
    assert RULES.in_a_row == 5
