"""The regression guard of the gate: half a minute, and it fails only if a goal is missed by far.

`python -m bench.guard` has three contestants deliver small files and judges ratios alone, never an absolute
time: it fails if not even half of a goal is reached, twice in a row. What goes by the clock is not judged while others
use the machine; CPU seconds always are.
"""

from __future__ import annotations

import sys

from rich.console import Console

from bench.contest.__main__ import contest
from bench.contest.contestants import CONTESTANTS
from bench.contest.goals import Verdict, verdicts
from bench.contest.showing import show_results, show_verdicts
from bench.contest.stage import heed_termination

TAKING_PART = ("a2", "dl", "ws")
ROWS, SAMPLE = 20_000, 1_000
TRIES = 2


def gross_misses(console: Console) -> list[Verdict]:
    """Measure once, show it, and return the goals that are missed by far."""
    results = contest([one for one in CONTESTANTS if one.key in TAKING_PART], ROWS, SAMPLE, [0.0])
    judged = list(verdicts(results))
    show_results(console, results)
    show_verdicts(console, judged)
    return [one for one in judged if one.grossly_missed and not one.disturbed]


def main() -> int:
    """Return 1 if a goal is missed by far in every try."""
    heed_termination()
    console = Console(width=None if sys.stdout.isatty() else 170)
    return int(all(gross_misses(console) for _ in range(TRIES)))


if __name__ == "__main__":
    sys.exit(main())
