"""Every benchmark, one after the other: `make bench`, or `python -m bench`.

Prints what each one prints; the contest's tables come first. Everything goes into build/bench.json, with the machine
and its load. `--only` picks some, `--long` adds those that take ten minutes or more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.contest.showing import keep

BENCHES: dict[str, tuple[str, ...]] = {
    "contest": (),
    "intake": (),
    "formats": (),
    "guard_cost": (),
    "delivery": ("--latency", "0.005", "--processes", "1", "2", "--rows", "20000"),
    "claims": (),
    "forecast": (),
    "pace": (),
    "isolation": (),
    "events": (),
    "latency": (),
    "scrub": (),
}
LONG: dict[str, tuple[str, ...]] = {"lanes": (), "size": (), "held": ()}
GROWTH = 1.7


def run(name: str, arguments: tuple[str, ...]) -> list[Any]:
    """Run one benchmark, pass on what it prints, and return the lines of JSON among it."""
    print(f"\n== {name} {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", _module(name), *arguments]
    found = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith("{"):
                found.append(json.loads(line))
    if process.returncode:
        print(f"== {name} ended with {process.returncode}", flush=True)
    return found


def growth(lines: list[Any]) -> dict[str, Any] | None:
    """Say how much faster two worker processes are than one."""
    speeds = {line["processes"]: line["calls_per_second"] for line in lines if "processes" in line}
    if not speeds.keys() >= {1, 2}:
        return None
    ratio = round(speeds[2] / speeds[1], 2)
    return {"bench": "growth", "from_one_to_two_processes": ratio, "goal": GROWTH, "met": ratio >= GROWTH}


def main() -> None:
    """Run them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=[*BENCHES, *LONG])
    parser.add_argument("--long", action="store_true")
    options = parser.parse_args()
    chosen = BENCHES | (LONG if options.long or options.only else {})
    started = time.monotonic()
    for name, arguments in chosen.items():
        if options.only and name not in options.only:
            continue
        lines = run(name, arguments)
        if name == "delivery" and (grown := growth(lines)):
            print(json.dumps(grown), flush=True)
            lines.append(grown)
        if lines and name not in {"contest", "size"}:
            keep(name, lines)
    print(f"\n{time.monotonic() - started:.0f} s; build/bench.json has it all", flush=True)


def _module(name: str) -> str:
    """Return what `python -m` starts: a folder of that name, or a file in the folder of what it measures."""
    here = Path(__file__).parent
    if (here / name).is_dir():
        return f"bench.{name}"
    return f"bench.{next(here.glob(f'*/{name}.py')).parent.name}.{name}"


if __name__ == "__main__":
    main()
