"""optrelay beside what a user would pick instead: `python -m bench.contest`.

All deliver the same file to the same fast local server. Slow contestants get the first `--sample` rows' worth of
customers by default, so that the whole takes minutes; `--whole` gives all of them all rows.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain

from rich.console import Console

from bench.contest.contestants import CONTESTANTS, Contestant
from bench.contest.environment import rivals_python
from bench.contest.goals import verdicts
from bench.contest.measuring import Result, measure
from bench.contest.showing import as_json, keep, show_results, show_verdicts
from bench.contest.stage import heed_termination

_QUICK_ROWS, _QUICK_SAMPLE = 10_000, 1_000


def contest(contestants: Sequence[Contestant], rows: int, sample: int, latencies: Sequence[float]) -> list[Result]:
    """Measure every contestant at every latency once; who has no environment is left out."""
    apart = rivals_python() if any(one.own_environment for one in contestants) else None
    found = []
    for latency in latencies:
        for one in contestants:
            python = apart if one.own_environment else sys.executable
            if python is None:
                print(f"NOT MEASURED: {one.name}", flush=True)
                continue
            result = measure(one, sample if one.slow else rows, latency / 1000, python)
            print(f"{result.name}, {latency:g} ms: {result.rows_per_second:,.0f} rows/s", file=sys.stderr, flush=True)
            found.append(result)
    return found


def middle(rounds: Sequence[Sequence[Result]]) -> list[Result]:
    """Return of each contestant's results at each latency the one that took a middling time."""
    found: dict[tuple[str, float], list[Result]] = defaultdict(list)
    for one in chain.from_iterable(rounds):
        found[one.key, one.latency_ms].append(one)
    return [sorted(same, key=lambda one: one.seconds)[(len(same) - 1) // 2] for same in found.values()]


def main() -> None:
    """Print two tables and write build/bench.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--sample", type=int, default=4_000, help="rows for slow contestants")
    parser.add_argument("--rounds", type=int, default=1, help="all of it so often, in turns; the middle results count")
    parser.add_argument("--whole", action="store_true", help="all rows for slow contestants too")
    parser.add_argument("--quick", action="store_true", help="fewer rows, for a first look")
    parser.add_argument("--latency", type=float, nargs="*", default=[0.0, 5.0], help="milliseconds")
    parser.add_argument("--only", nargs="*", choices=[one.key for one in CONTESTANTS])
    heed_termination()
    options = parser.parse_args()
    rows, sample = (_QUICK_ROWS, _QUICK_SAMPLE) if options.quick else (options.rows, options.sample)
    chosen = [one for one in CONTESTANTS if not options.only or one.key in options.only]
    sample = rows if options.whole else sample
    results = middle([contest(chosen, rows, sample, options.latency) for _ in range(options.rounds)])
    judged = list(verdicts(results))
    console = Console(width=None if sys.stdout.isatty() else 170)
    show_results(console, results)
    show_verdicts(console, judged)
    keep("contest", as_json(results, judged))


if __name__ == "__main__":
    main()
