"""What an open page costs deliveries: CPU of the workers a change, with the page refreshed and without, by turns.

`python -m bench.page_cost` prints a line of JSON for each database: the median over the pairs and how far they lie
apart; the same of two deliveries without a page, which is what chance does; and what the page's own process took, as a
share of what the workers did. It is CPU time, which says something where others use the machine, too. Goal: 5 %.

The page is that of `optrelay ui`. Today, Connections and the import that is delivered are each fetched once in
`--refresh` seconds; a browser does so every five.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

from bench.producers.intake import apart, import_once, write_file
from bench.worker.delivery import OPTRELAY, a_ledger, environment, processor_seconds, workers
from bench.worker.fast_server import fast_server
from consent.errors import OptrelayError
from consent.settings import Settings
from console.local.broker import LocalBroker
from worker.bootstrap import WorkerContext
from worker.sweep import sweep

GOAL = 1.05
_WAYS = (False, True, False)
"""Whether the page is open, in each delivery of a round."""


class Cost(NamedTuple):
    """Seconds of CPU that the workers and the page took, and how often a place of the page was fetched."""

    workers: float
    page: float
    views: int


@contextmanager
def open_page(folder: Path, variables: dict[str, str], refresh: float) -> Iterator[tuple[psutil.Process, list[float]]]:
    """Run `optrelay ui` and fetch its places again and again; gives its process, and how long each view took."""
    command = [OPTRELAY, "ui", "--json"]
    with (folder / "page.log").open("w") as log:
        page = subprocess.Popen(command, env=variables, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True)
    over, took = threading.Event(), list[float]()
    assert page.stdout is not None
    link = json.loads(page.stdout.readline())["url"]
    url = link.partition("/open?")[0]

    def look() -> None:
        with httpx.Client(follow_redirects=True, timeout=60) as client:
            client.get(link).raise_for_status()
            newest = client.get(f"{url}/imports").text.partition('href="/ui/imports/')[2].partition('"')[0]
            while not over.wait(refresh):
                for place in ("/", "/connections", f"/imports/{newest}"):
                    began = time.perf_counter()
                    client.get(url + place).raise_for_status()
                    took.append(time.perf_counter() - began)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield psutil.Process(page.pid), took
    finally:
        over.set()
        thread.join(60)
        page.terminate()
        page.wait(60)
        page.stdout.close()


def delivered(folder: Path, ledger_url: str, rows: int, refresh: float | None) -> tuple[Cost, list[float]]:
    """Deliver a file with one worker process, beside the page if there is a `refresh`."""
    path = folder / "rows.csv"
    write_file(path, rows, 0)
    apart(import_once, ledger_url, path)
    broker = LocalBroker(folder / "broker")
    broker.ensure()
    with fast_server() as server:
        variables = environment(folder, server.url, ledger_url, broker.url)
        connection = {"provider": "capillary", "base_url": server.url, "username": "bench", "password": "bench"}
        settings = Settings(
            ledger_url=ledger_url,
            broker_url=broker.url,
            connections={"capillary": {**connection, "rate": "100000/second"}},
        )
        worker_context = WorkerContext(settings, broker.url)
        try:
            with workers(folder, variables, 1) as worker:
                if refresh is None:
                    return _finished(worker_context, worker), []
                with open_page(folder, variables, refresh) as (page, took):
                    before, views = processor_seconds(page), len(took)
                    cost = _finished(worker_context, worker)
                    return Cost(cost.workers, processor_seconds(page) - before, len(took) - views), took
        finally:
            worker_context.close()
            broker.stop()


def _finished(worker_context: WorkerContext, worker: psutil.Process) -> Cost:
    before = processor_seconds(worker)
    while worker_context.ledger.queries.pending_by_bucket():
        with suppress(OptrelayError):
            sweep(worker_context)
        time.sleep(0.25)
    return Cost(processor_seconds(worker) - before, 0.0, 0)


def compared(ledger: str, rows: int, pairs: int, refresh: float) -> dict[str, Any]:
    """Deliver the same file again and again, beside the page and without it by turns."""
    beside, chance, own, seconds, views = [], [], [], [], 0
    for number in range(pairs):
        took: dict[int, Cost] = {}
        for place in range(3) if number % 2 else reversed(range(3)):
            with a_ledger(ledger) as (folder, url):
                took[place], views_took = delivered(folder, url, rows, refresh if _WAYS[place] else None)
            seconds += views_took
        alone = (took[0].workers + took[2].workers) / 2
        beside.append(took[1].workers / alone)
        chance.append(took[2].workers / took[0].workers)
        own.append(took[1].page / took[1].workers)
        views += took[1].views
    return {
        "workers_beside_page": spread(beside),
        "chance": spread(chance),
        "page_process_share": spread(own),
        "views": views,
        "slowest_view_ms": round(1_000 * max(seconds, default=0.0)),
    }


def spread(ratios: list[float]) -> dict[str, float]:
    """Return the median of some ratios, the least and the most."""
    low, high = min(ratios), max(ratios)
    return {"median": round(statistics.median(ratios), 3), "least": round(low, 3), "most": round(high, 3)}


def main() -> None:
    """Print a line of JSON for each database."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--refresh", type=float, default=1.0, help="seconds from one look at each place to the next")
    parser.add_argument("--ledgers", nargs="*", choices=["sqlite", "postgresql"], default=["sqlite", "postgresql"])
    options = parser.parse_args()
    for ledger in options.ledgers:
        found = compared(ledger, options.rows, options.pairs, options.refresh)
        result = {"bench": "page_cost", "ledger": ledger, "rows": options.rows, "goal": GOAL}
        print(json.dumps(result | {"refresh": options.refresh, **found}), flush=True)


if __name__ == "__main__":
    main()
