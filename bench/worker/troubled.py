"""A file for a provider in which everything goes wrong at once: how soon it ends, and whether only the bad rows die.

800 rows of 200 customers; three rows are refused, three are dropped without a word, and one call in five fails, by a
5xx, a gateway's page, a reset, or a cut after the change was made. `python -m bench.worker.troubled --seeds 20
--timeout 5` prints a line of JSON for each seed; `met` says that it ended in time with exactly those six dead letters.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from bench.worker.delivery import OPTRELAY, a_ledger
from consent.ledger.ledger import Ledger
from sandbox.capillary.settings import CapillarySettings
from sandbox.server import running
from sandbox.settings import SandboxSettings

CUSTOMERS, FIRST_CUSTOMER, RATE = 200, 500_000_000, "50/second"
SLOTS = [(channel, priority) for channel in ("EMAIL", "MOBILE") for priority in ("BULK", "TRANS")]
EACH_FAILS = 0.054
"""The probability of each of the four ways in which a call may fail: together one in five."""

SECONDS = {5.0: 240.0, 20.0: 360.0}
"""In which it has to end, by the timeout of a call."""


def write_rows(path: Path, odds: random.Random) -> list[dict[str, str]]:
    """Write four rows for each customer, in no order."""
    rows = [
        {
            "user_id": str(FIRST_CUSTOMER + n),
            "channel": channel,
            "priority": priority,
            "action": odds.choice(("OPTIN", "OPTOUT")),
            "effective_at": "2026-11-20T08:00:00+00:00",
        }
        for n in range(CUSTOMERS)
        for channel, priority in SLOTS
    ]
    odds.shuffle(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    os.utime(path, (time.time() - 60,) * 2)
    return rows


def make_trouble(url: str, bad: list[dict[str, str]], seed: int) -> None:
    """Order what goes wrong: three of these rows are refused, the others dropped, and any call may fail."""
    for n, row in enumerate(bad):
        what = {"kind": "warn" if n < len(bad) // 2 else "drop", "users": [row["user_id"]]}
        _order(url, what | {"channel": row["channel"], "priority": row["priority"]})
    ways = ({"kind": "error", "code": 503, "http_status": 503}, {"kind": "html"}, {"kind": "reset"})
    for n, way in enumerate((*ways, {"kind": "commit_then_drop"})):
        _order(url, way | {"probability": EACH_FAILS, "seed": 10 * seed + n})


def _order(url: str, what: dict[str, Any]) -> None:
    httpx.post(f"{url}/_sandbox/faults", json=what).raise_for_status()


def delivered(folder: Path, ledger_url: str, seed: int, timeout: float) -> dict[str, Any]:
    """Run the file, and say what became of it."""
    odds, path = random.Random(seed), folder / "troubled.csv"
    ledger = Ledger(ledger_url)
    ledger.maintenance.migrate()
    ledger.close()
    rows = write_rows(path, odds)
    bad = odds.sample(range(CUSTOMERS), 6)
    bad_rows = [odds.choice([row for row in rows if row["user_id"] == str(FIRST_CUSTOMER + n)]) for n in bad]
    with running(SandboxSettings(capillary=CapillarySettings(rate="off"))) as url:
        make_trouble(url, bad_rows, seed)
        own = {"BASE_URL": url, "USERNAME": "demo.till", "PASSWORD": "demo-password", "RATE": RATE}
        own |= {"TIMEOUT": str(timeout)}
        variables = {name: value for name, value in os.environ.items() if not name.startswith("OPTRELAY_")}
        variables |= {f"OPTRELAY_CONNECTIONS__CAPILLARY__{name}": value for name, value in own.items()}
        variables |= {"OPTRELAY_LEDGER_URL": ledger_url}
        started = time.monotonic()
        command = [OPTRELAY, "run", str(path), "--workers", "2", "--json"]
        ended = subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - started
        calls = httpx.get(f"{url}/_sandbox/stats").json()["calls"]
        letters = subprocess.run(
            [OPTRELAY, "dead-letters", "list", "--json", "--reveal"],
            env=variables, cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
    counts = json.loads(ended.stdout) if ended.stdout.strip() else {}
    others = other_letters(letters.stdout, expected := sorted(row["user_id"] for row in bad_rows))
    exact = not others and counts.get("dead") == len(expected)
    met = exact and counts.get("pending") == 0 and seconds <= SECONDS.get(timeout, 360.0)
    found = {"seed": seed, "timeout": timeout, "seconds": round(seconds, 1), "exit_code": ended.returncode}
    found |= {name: counts.get(name) for name in ("applied", "unchanged", "dead", "pending", "limited_by")}
    return found | {"calls": calls, "only_the_bad_died": exact, "others": others, "met": met}


def other_letters(listed: str, expected: Sequence[str]) -> list[str]:
    """Return why customers died who should not have, or died twice."""
    due, others = Counter(expected), []
    for one in json.loads(listed or "[]"):
        user = next((user for user in due if user in str(one["target"])), None)
        if user is None or not due[user]:
            others.append(f"{one['code']} after {one['attempts']}: {one['reason']}")
        else:
            due[user] -= 1
    return others


def main() -> None:
    """Print a line for each seed; exit 1 if one of them misses the goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", help="which; all of 1 to 20 by default")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds of a call: 5 or 20")
    parser.add_argument("--ledger", choices=["sqlite", "postgresql"], default="sqlite")
    options = parser.parse_args()
    missed = 0
    for seed in options.seeds or range(1, 21):
        with a_ledger(options.ledger) as (folder, url):
            found = delivered(folder, url, seed, options.timeout)
        missed += not found["met"]
        print(json.dumps({"ledger": options.ledger} | found), flush=True)
    sys.exit(int(missed > 0))


if __name__ == "__main__":
    main()
