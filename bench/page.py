"""The figures of docs/performance.md and docs/sizing.md: `python -m bench.page` writes them from build/bench.json.

What is calculated and not measured (how long, how many cores, how large) is calculated here, from the same run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from bench.contest.showing import JSON_FILE
from bench.contest.stage import ROOT

PAGES = {
    ROOT / "docs" / "performance.md": ("machine", "contestants", "goals"),
    ROOT / "docs" / "sizing.md": ("sizing", "cores"),
}
CUSTOMERS = (1_000_000, 10_000_000, 100_000_000)
RATES = ((100 / 60, "100/minute"), (1_000 / 60, "1,000/minute"), (100, "100/second"), (1_000, "1,000/second"))
ROWS_A_CUSTOMER = 2


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; all columns but the first stand to the right."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def contestants(found: list[dict[str, Any]]) -> str:
    """Return a row for each contestant and latency."""
    head = ("", "latency ms", "rows", "rows/s", "calls/s", "calls ÷ customers", "CPU s", "CPU µs/call", "MB", "wrong")
    return table(head, (_contestant(one) for one in found))


def _contestant(one: dict[str, Any]) -> list[str]:
    wrong = one["wrong_overtaken"] + one["wrong_by_order"]
    figures = [one["rows"], one["rows_per_second"], one["calls_per_second"]]
    costs = [f"{one['cpu_seconds']:.1f}", f"{one['cpu_us_per_call']:,.0f}", f"{one['peak_mb']:.0f}"]
    wrongs = f"{wrong} ({one['wrong_overtaken']} overtaken)" if wrong else "0"
    speeds = [f"{value:,.0f}" for value in figures]
    return [one["name"], f"{one['latency_ms']:.0f}", *speeds, f"{one['calls_over_ideal']:.3f}", *costs, wrongs]


def goals(found: list[dict[str, Any]], names: dict[str, str]) -> str:
    """Return a row for each goal."""
    head = ("", "latency ms", "goal", "limit", "is", "verdict")
    return table(head, (_goal(one, names) for one in found))


def _goal(one: dict[str, Any], names: dict[str, str]) -> list[str]:
    verdict = ("met" if one["met"] else "missed") + (" (others used the machine)" if one["disturbed"] else "")
    values = [f"{one['limit']:g}", f"{one['value']:.2f}", verdict]
    return [names[one["contestant"]], f"{one['latency_ms']:.0f}", one["goal"], *values]


def sizing(ours: dict[str, Any]) -> str:
    """Return what so many customers with two rows each need, going by the costs of one contestant."""
    importing = ours["cpu_by_role"]["producer"] / ours["rows"]
    per_row = ours["ledger_mb"] / ours["rows"]
    head = ("customers", "read and recorded in", *(f"delivered at {name}" for _, name in RATES), "ledger")
    return table(head, (_size(customers, importing, per_row) for customers in CUSTOMERS))


def _size(customers: int, importing: float, megabytes: float) -> list[str]:
    rows = customers * ROWS_A_CUSTOMER
    waits = [spoken(customers / rate) for rate, _ in RATES]
    return [f"{customers:,}", spoken(rows * importing), *waits, f"{rows * megabytes / 1024:.1f} GB"]


def cores(ours: dict[str, Any]) -> str:
    """Return how much of a core each rate keeps busy, going by the costs of one contestant."""
    a_call = (ours["cpu_seconds"] - ours["cpu_by_role"]["producer"]) / ours["calls"]
    head = ("rate", "cores for workers, sweep, broker and database")
    return table(head, ([name, f"{rate * a_call:.2f}"] for rate, name in RATES))


def spoken(seconds: float) -> str:
    """Return seconds in a unit that a person would choose."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}" if seconds >= 10 * size else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def machine(found: dict[str, Any]) -> str:
    """Return what ran the bench, in a sentence."""
    return f"{found['cores']} cores, {found['system']}, Python {found['python']}, {found['date'][:10]}."


def main() -> None:
    """Rewrite what stands between the marks."""
    contest = json.loads(JSON_FILE.read_text())["contest"]
    results = contest["figures"]["contestants"]
    by_key = {(one["key"], one["latency_ms"]): one for one in results}
    parts = {
        "machine": machine(contest["machine"]),
        "contestants": contestants(results),
        "goals": goals(contest["figures"]["goals"], {one["key"]: one["name"] for one in results}),
        "sizing": sizing(by_key["wp", 0.0]),
        "cores": cores(by_key["wp", 0.0]),
    }
    for page, names in PAGES.items():
        text = page.read_text()
        for name in names:
            mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
            assert mark.search(text), f"{page.name} has no mark {name}"
            text = mark.sub(lambda found, part=parts[name]: f"{found[1]}{part}\n{found[2]}", text)
        page.write_text(text)


if __name__ == "__main__":
    main()
