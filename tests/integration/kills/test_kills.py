"""Killing everything that can be killed, at random moments: nothing is lost and nothing is stale."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.company import Company, assert_balanced, company, fold, shuffled_rows

KILLS = int(os.environ.get("PROOF_KILLS", "10"))
LONGEST_SECONDS = 12 * KILLS
SEED = int(os.environ.get("PROOF_SEED", "7"))


def worker_parents(run: psutil.Process) -> list[psutil.Process]:
    """The Celery worker that this run has started."""
    return [child for child in run.children() if child.name() == "optrelay-worker"]


def victims(run: psutil.Process, kind: str) -> list[psutil.Process]:
    """The processes of one kind that belong to a run."""
    match kind:
        case "importer":
            return [run]
        case "broker":
            return [child for child in run.children() if "valkey" in child.name() or "redis" in child.name()]
        case "worker parent":
            return worker_parents(run)
        case _:
            return [child for parent in worker_parents(run) for child in parent.children()]


def kill_one(process: subprocess.Popen[str], kind: str, odds: random.Random) -> bool:
    """Kill one process of a kind with SIGKILL; return whether there was one."""
    with suppress(psutil.NoSuchProcess):
        found = victims(psutil.Process(process.pid), kind)
        if found:
            odds.choice(found).send_signal(signal.SIGKILL)
            return True
    return False


def settings_for_quick_recovery(shop: Company) -> None:
    """Leases that end soon, so that the test need not wait long for what a dead worker held."""
    shop.settings |= {
        "LEASE_SECONDS": "8",
        "CONNECTIONS__CAPILLARY__TIMEOUT": "3",
        "CONNECTIONS__CAPILLARY__RATE": "60/second",
    }


@pytest.mark.takes(10)
@pytest.mark.proof
def test_kills_at_random_lose_nothing(tmp_path: Path) -> None:
    """Importer, worker child, worker parent and broker are killed ten times at random, and no opt-out is lost.

    The provider holds every newest change, every row is counted once, and no two calls for a customer overlap.
    """
    odds = random.Random(SEED)
    kinds = ["importer", "worker child", "worker parent", "broker"]
    with company(tmp_path, latency=(0.0, 0.05)) as shop:
        settings_for_quick_recovery(shop)
        rows = shuffled_rows(12_000, 3_000, SEED)
        path = shop.write(rows)
        process, done, tally = shop.start("run", path, "--workers", "2"), 0, dict.fromkeys(kinds, 0)
        until = time.monotonic() + LONGEST_SECONDS
        while done < KILLS:
            assert time.monotonic() < until, tally
            time.sleep(odds.uniform(0.3, 3.0))
            if process.poll() is not None:
                process.communicate()
                process = shop.start("run", path, "--workers", "2")
                continue
            kind = kinds[done % 4]
            if kill_one(process, kind, odds):
                done, tally[kind] = done + 1, tally[kind] + 1
        process.kill()
        process.communicate()
        shop.settings["CONNECTIONS__CAPILLARY__RATE"] = "2000/second"

        code, found, stderr = shop.run("run", path, timeout=180)

        assert code == 0, stderr
        assert shop.held() == fold(rows)
        assert_balanced(found)
        stats = shop.stats()
        print(f"{tally} calls {stats['calls']} customers {stats['customers']}")
        assert stats["overlaps"] == 0
