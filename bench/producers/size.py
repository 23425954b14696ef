"""What a row costs in small and large files, and what memory a large one takes: `python -m bench.producers.size`.

Workers stand by, the importer counts from when it opens the file, and what a nearly empty file costs, measured just
before, is taken off: so no one's start is counted. Prints a line for each size and the spread: the dearest row should
cost at most 15 % more than the cheapest, the broker should stay under 10 MB, importer and worker should not grow. A
machine is faster in one minute than in the next: so a small file is measured several times, and each larger one is held
against the smallest before and after it, by how many times each costs what a yardstick costs meanwhile (`by_cpu`: by
the seconds as they are); of several rounds the middle counts.

A customer's rows stand together, as in a file sorted by customer; with `--apart` most second rows stand far below the
first ones, in no order, as in the contest: then every index is read and written all over.
"""

from __future__ import annotations

import argparse
import json
from statistics import median
from typing import Any

from bench.contest.contestants import CONTESTANTS, Contestant
from bench.contest.measuring import Result, measure
from bench.contest.showing import keep
from bench.contest.stage import heed_termination

STANDING = {one.ledger: one for one in CONTESTANTS if one.standing and one.finishes_alone}
HARDLY_ANY = 100
MOST_TIMES = 7
GOALS = {"spread": 1.15, "broker_mb": 10.0}
RATIOS = {"of_the_smallest": "yardsticks_per_row", "of_the_smallest_by_cpu": "cpu_us_per_row"}
Line = dict[str, Any]


def line(contestant: Contestant, rows: int, *, apart: bool) -> Line:
    """Measure one size, a small one several times, each beside what the same costs with hardly any rows."""
    times = max(1, min(MOST_TIMES, 300_000 // rows))
    pairs = [(measure(contestant, HARDLY_ANY, 0.0), measure(contestant, rows, 0.0, apart=apart)) for _ in range(times)]
    start, found = (sorted(some, key=_yardsticks)[times // 2] for some in zip(*pairs, strict=True))
    more = found.rows - start.rows
    return {
        "rows": rows,
        "cpu_us_per_row": round((_working(found) - _working(start)) / more * 1e6),
        "yardsticks_per_row": round((_yardsticks(found) - _yardsticks(start)) / more, 4),
        "yardstick_us": round(found.yardstick_us),
        "us_per_row": round((found.seconds - start.seconds) / more * 1e6),
        "cpu_us_per_row_of": _by_role(start, found, more),
        "peak_mb": {role: round(most, 1) for role, most in sorted(found.peaks.items())},
        "ledger_mb": round(found.ledger_mb, 1),
        "calls_over_ideal": found.calls_over_ideal,
        "wrong": found.wrong_overtaken + found.wrong_by_order,
        "elsewhere": round(found.elsewhere, 2),
    }


def _working(result: Result) -> float:
    return result.cpu_seconds - result.cpu_starting


def _yardsticks(result: Result) -> float:
    return _working(result) * 1e6 / result.yardstick_us


def _by_role(start: Result, found: Result, more: int) -> dict[str, float]:
    """Return the same for each role; an importer's start is in both and differs by chance."""
    spent = {role: used - start.cpu_by_role.get(role, 0.0) for role, used in sorted(found.cpu_by_role.items())}
    spent["producer"] -= found.cpu_starting - start.cpu_starting
    return {role: round(used / more * 1e6, 1) for role, used in spent.items()}


def rounds(options: argparse.Namespace) -> list[Line]:
    """Measure all sizes, as often as is asked for; a larger one is told with its ratio to the smallest around it."""
    contestant, smallest = STANDING[options.ledger], min(options.rows)

    def measured(rows: int, before: Line | None = None) -> list[Line]:
        found = line(contestant, rows, apart=options.apart)
        after = [] if before is None else [line(contestant, smallest, apart=options.apart)]
        if before is not None:
            found |= {ratio: _ratio(found, before, after[0], cost) for ratio, cost in RATIOS.items()}
        for one in (found, *after):
            print(json.dumps({"bench": "size", "ledger": options.ledger, "apart": options.apart} | one), flush=True)
        return [found, *after]

    lines = measured(smallest)
    for _ in range(options.rounds):
        for rows in sorted(set(options.rows) - {smallest}):
            lines += measured(rows, lines[-1])
    return lines


def _ratio(found: Line, before: Line, after: Line, cost: str) -> float:
    return round(2 * float(found[cost]) / (before[cost] + after[cost]), 3)


def spread(lines: list[Line], ratio: str) -> float:
    """Return how many times as much as the cheapest row the dearest one costs, by the middle ratio of each size."""
    sizes = {one["rows"] for one in lines if ratio in one}
    middle = [median(one[ratio] for one in lines if one["rows"] == rows) for rows in sizes]
    return round(float(max([1.0, *middle]) / min([1.0, *middle])), 3)


def main() -> None:
    """Print a line for each size, and one for the spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--ledger", choices=sorted(STANDING), default="sqlite")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--apart", action="store_true")
    heed_termination()
    options = parser.parse_args()
    lines = rounds(options)
    summary = {
        "spread": spread(lines, "of_the_smallest"),
        "spread_by_cpu": spread(lines, "of_the_smallest_by_cpu"),
        "broker_mb": max(one["peak_mb"]["broker"] for one in lines),
        "goals": GOALS,
    }
    print(json.dumps({"bench": "size", "ledger": options.ledger, "apart": options.apart} | summary), flush=True)
    keep(f"size, {options.ledger}{', apart' if options.apart else ''}", {"sizes": lines} | summary)


if __name__ == "__main__":
    main()
