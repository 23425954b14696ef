"""A company for the tests: a folder with files, a provider on this machine, and the optrelay command."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from sandbox.capillary.settings import CapillarySettings
from sandbox.server import running
from sandbox.settings import SandboxSettings

OPTRELAY = str(Path(sys.executable).with_name("optrelay"))
WORKER = [OPTRELAY, "worker", "--pool", "solo"]
CELERY = [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "--pool", "prefork", "--concurrency", "1"]
PASSWORD = "demo-password"
COLUMNS = ("user_id", "channel", "priority", "action", "effective_at", "reason", "org_unit_id", "account_id")

Row = dict[str, str]
Held = dict[tuple[str, str, str], str]


@dataclass
class Company:
    """One installation, and what its provider has seen."""

    folder: Path
    url: str
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """What the optrelay command is told."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OPTRELAY_")}
        own = {
            "OPTRELAY_LEDGER_URL": f"sqlite:///{self.folder / 'ledger.db'}",
            "OPTRELAY_CONNECTIONS__CAPILLARY__BASE_URL": self.url,
            "OPTRELAY_CONNECTIONS__CAPILLARY__USERNAME": "demo.till",
            "OPTRELAY_CONNECTIONS__CAPILLARY__PASSWORD": PASSWORD,
            "OPTRELAY_CONNECTIONS__CAPILLARY__RATE": "100000/second",
        }
        return clean | own | {f"OPTRELAY_{name}": value for name, value in self.settings.items()}

    def write(self, rows: Iterable[Row], name: str = "nightly.csv") -> Path:
        """Write a file as a producer would; it was finished a minute ago."""
        path = self.folder / name
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        os.utime(path, (time.time() - 60,) * 2)
        return path

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start the optrelay command."""
        return subprocess.Popen(
            [OPTRELAY, *map(str, arguments)],
            env=self.environment(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path, timeout: float = 120) -> tuple[int, Any, str]:
        """Run the optrelay command with --json to its end; return exit code, what it printed, and what it said."""
        process = self.start(*arguments, "--json")
        try:
            out, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return process.returncode, json.loads(out) if out.strip() else None, stderr

    def fault(self, **order: Any) -> None:
        """Order a fault at the provider."""
        httpx.post(f"{self.url}/_sandbox/faults", json=order).raise_for_status()

    def fix(self) -> None:
        """End all faults at the provider."""
        httpx.delete(f"{self.url}/_sandbox/faults").raise_for_status()

    def stats(self, window: float | None = None) -> dict[str, Any]:
        """What the provider counted."""
        params = {"window": window} if window else {}
        return httpx.get(f"{self.url}/_sandbox/stats", params=params).json()

    def held(self) -> Held:
        """What the provider holds in the end."""
        with httpx.stream("GET", f"{self.url}/_sandbox/state", params={"format": "ndjson"}) as reply:
            customers = [json.loads(line) for line in reply.iter_lines() if line]
        return {(c["user"], row["channel"], row["priority"]): row["type"] for c in customers for row in c["rows"]}


@contextmanager
def company(folder: Path, rate: str = "off", **knobs: Any) -> Iterator[Company]:
    """A company whose provider runs until the test ends."""
    with running(SandboxSettings(capillary=CapillarySettings(rate=rate, **knobs))) as url:
        yield Company(folder, url)


@contextmanager
def process(shop: Company, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A command with the company's settings; its output goes to a file."""
    path = shop.folder / f"{len(list(shop.folder.glob('*.out')))}.out"
    with path.open("w") as log:
        started = subprocess.Popen(
            command, env=shop.environment(), cwd=shop.folder, stdout=log, stderr=subprocess.STDOUT, text=True
        )
    started.log = path  # type: ignore[attr-defined]
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def until(happens: Callable[[], Any], seconds: float = 40) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def shuffled_rows(count: int, customers: int, seed: int = 1) -> list[Row]:
    """Rows in no order, with many words for the same slot and many of the same moment."""
    odds = random.Random(seed)
    morning = datetime(2026, 11, 20, 8, tzinfo=UTC)
    return [
        {
            "user_id": str(500_000_000 + odds.randrange(customers)),
            "channel": odds.choice(("EMAIL", "MOBILE")),
            "priority": odds.choice(("BULK", "TRANS")),
            "action": odds.choice(("OPTIN", "OPTOUT")),
            "effective_at": (morning + timedelta(minutes=odds.randrange(5))).isoformat(),
            "reason": "nightly",
            "org_unit_id": "-1",
            "account_id": "",
        }
        for _ in range(count)
    ]


def fold(rows: Iterable[Row]) -> Held:
    """What must be held in the end: said again, independently of the product: latest time, opt-out on a tie."""
    newest: dict[tuple[str, str, str], tuple[str, int]] = {}
    for row in rows:
        slot = (row["user_id"], row["channel"], row["priority"])
        rank = (row["effective_at"], int(row["action"] == "OPTOUT"))
        newest[slot] = max(newest.get(slot, rank), rank)
    return {slot: "OPTOUT" if out else "OPTIN" for slot, (_, out) in newest.items()}


def assert_balanced(found: dict[str, Any]) -> None:
    """Every row is in exactly one place, and the import is sealed."""
    assert found["rows"] == found["accepted"] + found["rejected"] + found["duplicates"] + found["skipped"]
    settled = found["applied"] + found["unchanged"] + found["superseded"] + found["dead"] + found.get("withdrawn", 0)
    assert found["accepted"] == settled + found["pending"]
    assert found["sealed"] is True
