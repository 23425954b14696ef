"""What guards cost: CPU seconds of an import with guards beside one without, in alternating pairs, on SQLite.

`python -m bench.producers.guard_cost` prints, for a first file of opt-outs, for one of opt-ins that win over no
opt-out, and for one that says nothing new, the median over the pairs and how far they lie apart; and the same of two
imports without guards, which is what chance does. It is CPU time, which says something where others use the machine,
too. Goal: 5 %.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from bench.producers.intake import HEADER, confirm_everything, write_file
from consent.guards.rules import GuardRules
from consent.ledger.ledger import Ledger
from console.cli import GC_THRESHOLD
from producers.files.prepare import prepare
from producers.files.sources import source_files
from producers.ingest_file import ingest_file
from producers.options import IngestOptions
from worker.providers import PROVIDERS

GOAL = 1.05


def write_optins(path: Path, rows: int) -> None:
    """Opt-ins of customers that are not known, and an older one over each opt-out, which wins nothing."""
    with path.open("w") as file:
        file.write(HEADER)
        for number in range(rows // 2):
            for customer, day in ((600_000_000 + number, 21), (500_000_000 + number, 19)):
                file.write(f"{customer},EMAIL,BULK,OPTIN,2026-11-{day}T08:00:00Z,nightly,,-1\n")


def imported(url: str, path: Path, guards: GuardRules | None) -> float:
    """Import a file; return the CPU seconds that it took. It must not have been held."""
    ledger = Ledger(url)
    ledger.maintenance.migrate()
    gc.collect()
    with source_files([str(path)]) as [file]:
        ready = prepare(file, IngestOptions(guards=guards, patience=0), {"capillary": PROVIDERS["capillary"].row}, {})
        started = time.process_time()
        result = ingest_file(ready, ledger.intake)
        seconds = time.process_time() - started
    report = ledger.queries.report(result.import_id)
    assert report is not None
    assert report.state == "released", report.state
    ledger.close()
    return seconds


def compare(path: Path, known: Path | None, pairs: int, folder: Path) -> dict[str, object]:
    """Import a file again and again into copies of a ledger, with and without guards by turns."""
    with_guards, chance, ledger = [], [], folder / "copy.db"
    for number in range(pairs):
        ways: list[GuardRules | None] = [None, GuardRules(), None]
        took = {}
        for place in range(3) if number % 2 else reversed(range(3)):
            ledger.unlink(missing_ok=True)
            if known is not None:
                shutil.copy(known, ledger)
            took[place] = imported(f"sqlite:///{ledger}", path, ways[place])
        alone = (took[0] + took[2]) / 2
        with_guards.append(took[1] / alone)
        chance.append(took[2] / took[0])
    return {"with_guards": _spread(with_guards), "chance": _spread(chance)}


def _spread(ratios: list[float]) -> dict[str, float]:
    low, high = min(ratios), max(ratios)
    return {"median": round(statistics.median(ratios), 3), "least": round(low, 3), "most": round(high, 3)}


def main() -> None:
    """Print a line of JSON for each kind of file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    # As the command line does: else one collection of the garbage more or less is a seventh of so small a file.
    gc.set_threshold(*GC_THRESHOLD)
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        first, again, optins = (folder / f"{kind}.csv" for kind in ("first", "again", "optins"))
        write_file(first, options.rows, 0)
        write_file(again, options.rows, 1)
        write_optins(optins, options.rows)
        known = folder / "known.db"
        imported(f"sqlite:///{known}", first, None)
        confirm_everything(f"sqlite:///{known}")
        for kind, path, before in (
            ("opt-outs", first, None),
            ("opt-ins", optins, known),
            ("nothing new", again, known),
        ):
            found = compare(path, before, options.pairs, folder)
            print(
                json.dumps({"bench": "guard_cost", "file": kind, "rows": options.rows, "goal": GOAL, **found}),
                flush=True,
            )


if __name__ == "__main__":
    main()
