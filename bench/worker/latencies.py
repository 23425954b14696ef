"""How well the allowed rate is used, and whether it is kept, at latencies of real providers.

`python -m bench.worker.latencies` prints one line of JSON for each latency, rate and database: the share of the allowed
calls that was made in the steady part, the most calls in any window beyond the limit, and the memory of the largest
process.

`--bears 20` measures a server whose throughput falls with more than 20 calls under way: `goodput` is the share of what
it can do at best, which has to be found without a setting.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import psutil

from bench.producers.intake import apart, import_once, write_file
from bench.worker.delivery import BUCKET, a_ledger, environment, workers
from bench.worker.fast_server import FastServer, fast_server
from bench.worker.pace import is_over, tally
from consent.connection import parse_rate
from consent.errors import OptrelayError
from consent.settings import load_settings
from console.local.broker import LocalBroker
from worker.bootstrap import WorkerContext
from worker.sweep import sweep

LATENCIES = {"20ms": (0.02, 0.0), "150ms": (0.15, 0.0), "500ms": (0.5, 0.0), "lognormal": (0.15, 1.2)}
"""Seconds that a call takes, and in which 99 of 100 have ended if they vary."""

PROCESSES = 2
SETTLING_SECONDS = 10.0
"""The beginning that does not count: processes start, and find out how many calls at once they need."""


def measured(folder: Path, server: FastServer, ledger_url: str, rate: str, seconds: float) -> dict[str, Any]:
    """Have two processes deliver more than enough rows, and say how well they used the limit."""
    limit, path = parse_rate(rate), folder / "rows.csv"
    write_file(path, 2 * int(limit.per_second * (seconds + 3 * SETTLING_SECONDS) + 500), 0)  # two rows a call
    apart(import_once, ledger_url, path)
    broker = LocalBroker(folder / "broker")
    broker.ensure()
    variables = environment(folder, server.url, ledger_url, broker.url) | {
        "OPTRELAY_CONNECTIONS__CAPILLARY__RATE": rate
    }
    del variables["OPTRELAY_CONNECTIONS__CAPILLARY__CONCURRENCY"]  # the default is measured
    for name in [name for name in os.environ if name.startswith("OPTRELAY_")]:
        del os.environ[name]
    os.environ.update({name: value for name, value in variables.items() if name.startswith("OPTRELAY_")})
    worker_context, memory = WorkerContext(load_settings(), broker.url), 0
    worker_context.rate_limiter(BUCKET).prime()
    try:
        with workers(folder, variables, PROCESSES) as worker:
            end = time.monotonic() + seconds + SETTLING_SECONDS + 60
            while time.monotonic() < end and not is_over(
                moments := server.stats()["moments"], seconds + SETTLING_SECONDS
            ):
                with suppress(OptrelayError):
                    sweep(worker_context)
                memory = max(memory, *(one.memory_info().rss for one in _family(worker)))
                time.sleep(1)
    finally:
        worker_context.close()
        broker.stop()
    return tally(moments, limit, seconds, SETTLING_SECONDS) | {"largest_mb": memory // 2**20}


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def main() -> None:
    """Print one line for each combination."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latencies", nargs="*", choices=list(LATENCIES), default=list(LATENCIES))
    parser.add_argument("--rates", nargs="*", default=["50/second", "200/second", "1000/second"])
    parser.add_argument("--ledgers", nargs="*", choices=["sqlite", "postgresql"], default=["sqlite", "postgresql"])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument(
        "--bears", type=int, default=0, help="calls under way from which on the server's throughput falls"
    )
    options = parser.parse_args()
    for ledger, latency, rate in product(options.ledgers, options.latencies, options.rates):
        with fast_server(*LATENCIES[latency], options.bears) as server, a_ledger(ledger) as (folder, url):
            found = measured(folder, server, url, rate, options.seconds)
        if options.bears:
            best = options.bears / LATENCIES[latency][0]
            found["goodput"] = round(found["calls"] / options.seconds / min(best, parse_rate(rate).per_second), 3)
        print(json.dumps({"ledger": ledger, "latency": latency, "rate": rate} | found), flush=True)


if __name__ == "__main__":
    main()
