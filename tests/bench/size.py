"""What a row costs in small and large files, and what memory a large one takes: `python -m tests.bench.size`.

Workers stand by, and what a nearly empty file costs, measured just before, is taken off, so that nobody's start is
counted. Prints a line for each size and the spread: the dearest row should cost at most 15 % more than the cheapest,
the broker should stay under 10 MB, importer and worker should not grow. A machine is faster in one minute than in the
next: so a small file is measured several times, of which the middle counts, and each larger one is held against the
smallest of the minute before and the minute after. All of it takes five to ten minutes.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from tests.bench.contest.contestants import CONTESTANTS, Contestant
from tests.bench.contest.measuring import Result, measure
from tests.bench.contest.showing import keep
from tests.bench.contest.stage import heed_termination

STANDING = {one.ledger: one for one in CONTESTANTS if one.standing and one.finishes_alone}
HARDLY_ANY = 100
MOST_TIMES = 3
GOALS = {"spread": 1.15, "broker_mb": 10.0}


def line(contestant: Contestant, rows: int) -> dict[str, Any]:
    """Measure one size, a small one several times, each beside what the same costs with hardly any rows."""
    times = max(1, min(MOST_TIMES, 300_000 // rows))
    pairs = [(measure(contestant, HARDLY_ANY, 0.0), measure(contestant, rows, 0.0)) for _ in range(times)]
    start, found = sorted(pairs, key=lambda pair: pair[1].cpu_seconds - pair[0].cpu_seconds)[times // 2]
    more = found.rows - start.rows
    return {
        "rows": rows,
        "cpu_us_per_row": round((found.cpu_seconds - start.cpu_seconds) / more * 1e6),
        "us_per_row": round((found.seconds - start.seconds) / more * 1e6),
        "cpu_us_per_row_of": _by_role(start, found, more),
        "peak_mb": {role: round(most, 1) for role, most in sorted(found.peaks.items())},
        "ledger_mb": round(found.ledger_mb, 1),
        "calls_over_ideal": found.calls_over_ideal,
        "wrong": found.wrong_overtaken + found.wrong_by_order,
        "elsewhere": round(found.elsewhere, 2),
    }


def _by_role(start: Result, found: Result, more: int) -> dict[str, float]:
    spent = ((role, used - start.cpu_by_role.get(role, 0.0)) for role, used in sorted(found.cpu_by_role.items()))
    return {role: round(used / more * 1e6, 1) for role, used in spent}


def told(ledger: str, found: dict[str, Any]) -> dict[str, Any]:
    """Print what was found, and return it."""
    print(json.dumps({"bench": "size", "ledger": ledger} | found), flush=True)
    return found


def main() -> None:
    """Print a line for each size, and one for the spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--ledger", choices=sorted(STANDING), default="sqlite")
    heed_termination()
    options = parser.parse_args()
    contestant, smallest = STANDING[options.ledger], min(options.rows)
    lines = [told(options.ledger, line(contestant, smallest))]
    ratios = [1.0]
    for rows in sorted(set(options.rows) - {smallest}):
        before, found, after = lines[-1], line(contestant, rows), line(contestant, smallest)
        ratios.append(2 * found["cpu_us_per_row"] / (before["cpu_us_per_row"] + after["cpu_us_per_row"]))
        lines += [told(options.ledger, found | {"of_the_smallest": round(ratios[-1], 3)}), told(options.ledger, after)]
    summary = {
        "spread": round(max(ratios) / min(ratios), 3),
        "broker_mb": max(one["peak_mb"]["broker"] for one in lines),
        "goals": GOALS,
    }
    print(json.dumps({"bench": "size", "ledger": options.ledger} | summary), flush=True)
    keep(f"size, {options.ledger}", {"sizes": lines} | summary)


if __name__ == "__main__":
    main()
