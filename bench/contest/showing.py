"""The figures for people (a table) and for programs (build/bench.json)."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.contest.goals import Verdict
from bench.contest.measuring import Result
from bench.contest.stage import ROOT

JSON_FILE = ROOT / "build" / "bench.json"
_COLUMNS = (
    "",
    "ms",
    "rows",
    "rows/s",
    "calls/s",
    "calls ÷ customers",
    "CPU s",
    "CPU µs/call",
    "peak MB",
    "wrong",
    "server idle",
    "elsewhere",
)


def machine() -> dict[str, Any]:
    """Say what ran the bench; `load` is the machine's load at this moment: over 0.5, the figures are not clean."""
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": round(os.getloadavg()[0], 2),
    }


def show_results(console: Console, results: Sequence[Result]) -> None:
    """Print a row for each contestant and latency."""
    table = Table(*_COLUMNS, title="The same work for all: two rows a customer")
    for column in table.columns[1:]:
        column.justify = "right"
    for one in results:
        wrong = f"{one.wrong_overtaken + one.wrong_by_order} ({one.wrong_overtaken} overtaken)"
        table.add_row(
            one.name,
            f"{one.latency_ms:.0f}",
            f"{one.rows:,}",
            f"{one.rows_per_second:,.0f}",
            f"{one.calls_per_second:,.0f}",
            f"{one.calls_over_ideal:.3f}",
            f"{one.cpu_seconds:.1f}",
            f"{one.cpu_us_per_call:,.0f}",
            f"{one.peak_mb:.0f}",
            wrong if one.wrong_overtaken + one.wrong_by_order else "0",
            f"{one.server_idle:.0%}",
            f"{one.elsewhere:.0%}",
        )
    console.print(table)


def show_verdicts(console: Console, verdicts: Iterable[Verdict]) -> None:
    """Print a row for each goal."""
    table = Table("", "ms", "goal", "is", "wanted", "verdict", title="Goals, as ratios in this run")
    for one in verdicts:
        wanted = f"{'≥' if one.at_least else '≤'} {one.limit:g}"
        goal_state = "met" if one.met else "MISSED BY FAR" if one.grossly_missed else "missed"
        goal_state += ", but others used the machine" if one.disturbed else ""
        table.add_row(one.name, f"{one.latency_ms:.0f}", one.goal, f"{one.value:.2f}", wanted, goal_state)
    console.print(table)


def keep(name: str, figures: Any) -> None:
    """Write one bench's figures into build/bench.json, and leave those of the others."""
    JSON_FILE.parent.mkdir(exist_ok=True)
    found = json.loads(JSON_FILE.read_text()) if JSON_FILE.exists() else {}
    found[name] = {"machine": machine(), "figures": figures}
    JSON_FILE.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def as_json(results: Iterable[Result], verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """Return results and verdicts as they are written down."""
    judged = [
        {
            "contestant": one.key,
            "latency_ms": one.latency_ms,
            "goal": one.goal,
            "value": round(one.value, 3),
            "limit": one.limit,
            "met": one.met,
            "disturbed": one.disturbed,
        }
        for one in verdicts
    ]
    return {"contestants": [one.as_json() for one in results], "goals": judged}
