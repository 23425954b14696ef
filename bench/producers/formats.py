"""How fast files of each format become committed changes in SQLite: the same rows as CSV, JSON lines, workbook, packed.

`python -m bench --only formats`, or `python -m bench.producers.formats --rows 200000`. It prints rows a second by the
clock and by CPU seconds of the importer and of the processes that it starts, from opening the file until the last row
is committed. Other work on the machine disturbs the CPU seconds little, so `met` goes by these. The formats take turns
`--rounds` times, and the middle round counts. The goals are 30,000 rows a second for CSV, 25,000 for JSON lines and
10,000 for a workbook; `of_csv` is the CPU speed as a part of that of CSV. `numbers` is a CSV of nothing but telephone
numbers, each another one, half of them as people of one country write them: 20,000.
"""

from __future__ import annotations

import argparse
import csv
import gc
import gzip
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import xlsxwriter
from backports import zstd

from bench.producers.intake import HEADER, apart, write_file

GOALS = {"csv": 30_000, "ndjson": 25_000, "xlsx": 10_000, "numbers": 20_000}
NAMES = HEADER.strip().split(",")


def write_formats(folder: Path, rows: int) -> dict[str, Path]:
    """Write the same rows in every format; return the files."""
    found = {name: folder / f"x.{name}" for name in ("csv", "ndjson", "xlsx", "ndjson.gz", "ndjson.zst")}
    write_file(found["csv"], rows, 0)
    with found["ndjson"].open("w") as file:
        file.writelines(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in _rows(found["csv"]))
    found["ndjson.gz"].write_bytes(gzip.compress(found["ndjson"].read_bytes()))
    found["ndjson.zst"].write_bytes(zstd.compress(found["ndjson"].read_bytes()))
    found["numbers"] = folder / "numbers.csv"
    write_numbers(found["numbers"], rows)
    with xlsxwriter.Workbook(found["xlsx"], {"strings_to_numbers": True}) as book:
        page = book.add_worksheet()
        page.write_row(0, 0, NAMES)
        for number, row in enumerate(_rows(found["csv"]), 1):
            page.write_row(number, 0, row)
    for path in found.values():
        os.utime(path, (time.time() - 60,) * 2)
    return found


def write_numbers(path: Path, rows: int) -> None:
    """Write opt-outs of telephone numbers: those of Ofcom's range for drama, and on from there, in two spellings."""
    with path.open("w") as file:
        file.write("destination,action,effective_at\n")
        for number in range(rows):
            digits = f"{7_700_900_000 + number}"
            shown = f"0{digits[:4]} {digits[4:]}" if number % 2 else f"+44 {digits[:4]} {digits[4:]}"
            file.write(f"{shown},OPTOUT,2026-11-20T08:00:00Z\n")


def _rows(path: Path) -> Iterator[list[str]]:
    with path.open(newline="") as file:
        reader = csv.reader(file)
        next(reader)
        yield from reader


def cpu_seconds() -> float:
    """CPU seconds of this process and of the processes that it has waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def import_seconds(path: Path) -> tuple[float, float]:
    """Import a file into a new ledger; return the seconds until all of it was committed, by the clock and of CPU."""
    from consent.ledger.ledger import Ledger
    from producers.files.archive import unpacked
    from producers.files.prepare import prepare
    from producers.files.sources import source_files
    from producers.ingest_file import ingest_file
    from producers.options import IngestOptions
    from worker.providers import PROVIDERS

    class Watch:
        committed = cpu = 0.0

        def reading(self, *_: object) -> None:
            self.committed, self.cpu = time.perf_counter(), cpu_seconds()

        def releasing(self, *_: object) -> None:
            """Nothing is asked of what comes later."""

    gc.set_threshold(300_000, 10, 5)  # as console/cli.py does
    watch, options = Watch(), IngestOptions()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        ledger = Ledger(f"sqlite:///{folder}/ledger.db")
        ledger.maintenance.migrate()
        name = "infobip" if path.name == "numbers.csv" else "capillary"
        models = {name: PROVIDERS[name].row.in_region("GB")}
        started, cpu = time.perf_counter(), cpu_seconds()
        with source_files([str(path)]) as [given], unpacked(given, options) as [file]:
            ingest_file(prepare(file, options, models, {}), ledger.intake, watch)
        ledger.close()
    return watch.committed - started, watch.cpu - cpu


def measure(rows: int, rounds: int, folder: Path) -> Iterator[dict[str, object]]:
    """Yield what each format reached."""
    files = write_formats(folder, rows)
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in files}
    for _ in range(rounds):
        for name, path in files.items():
            took[name].append(apart(import_seconds, path))
    speeds = {name: rows / statistics.median(cpu for _, cpu in some) for name, some in took.items()}
    for name, speed in speeds.items():
        goal, clock = GOALS.get(name), rows / statistics.median(wall for wall, _ in took[name])
        found = {"bench": "formats", "format": name, "rows": rows, "rows_per_second": round(clock)}
        found |= {"rows_per_cpu_second": round(speed)}
        met = {} if goal is None else {"goal": goal, "met": speed >= goal}
        yield found | {"of_csv": round(speed / speeds["csv"], 2)} | met


def main() -> None:
    """Print one line for each format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        for line in measure(options.rows, options.rounds, Path(name)):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
