"""How well a limit is used, and whether it is kept: four worker processes, going by the provider's own clock.

`python -m bench.worker.pace` prints one line of JSON for each rate: the share of the allowed calls that was made, the
most calls in any window of the limit's length, and how many that is beyond the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from bisect import bisect_left
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.producers.intake import apart, import_once, write_file
from bench.worker.delivery import BUCKET, a_ledger, environment, workers
from bench.worker.fast_server import FastServer, fast_server
from consent.connection import Rate, parse_rate
from consent.errors import OptrelayError
from consent.settings import load_settings
from console.local.broker import LocalBroker
from worker.bootstrap import WorkerContext
from worker.sweep import sweep

SETTLING_SECONDS = 3.0
"""The beginning that does not count: processes start at different moments."""


def worst_window(moments: list[float], seconds: float) -> int:
    """Return the most calls in any window of this length."""
    ordered = sorted(moments)
    return max(bisect_left(ordered, start + seconds) - n for n, start in enumerate(ordered))


def paced(folder: Path, server: FastServer, url: str, rate: str, seconds: float) -> dict[str, Any]:
    """Have four processes deliver for so many seconds, with more than enough to do."""
    limit, path = parse_rate(rate), folder / "rows.csv"
    write_file(path, 2 * int(limit.per_second * (seconds + 20) + 100), 0)
    apart(import_once, url, path)
    broker = LocalBroker(folder / "broker")
    broker.ensure()
    variables = environment(folder, server.url, url, broker.url) | {"OPTRELAY_CONNECTIONS__CAPILLARY__RATE": rate}
    os.environ.update({name: value for name, value in variables.items() if name.startswith("OPTRELAY_")})
    worker_context = WorkerContext(load_settings(), broker.url)
    worker_context.rate_limiter(BUCKET).prime()
    try:
        with workers(folder, variables, 4):
            end = time.monotonic() + seconds + SETTLING_SECONDS + 60
            while time.monotonic() < end and not is_over(moments := server.stats()["moments"], seconds):
                with suppress(OptrelayError):
                    sweep(worker_context)
                time.sleep(1)
    finally:
        worker_context.close()
        broker.stop()
    return {"rate": rate} | tally(moments, limit, seconds)


def is_over(moments: list[float], seconds: float) -> bool:
    """Say whether calls were made for long enough."""
    return bool(moments) and moments[-1] > moments[0] + SETTLING_SECONDS + seconds


def tally(moments: list[float], limit: Rate, seconds: float, settling: float = SETTLING_SECONDS) -> dict[str, Any]:
    """Say how well the limit was used once all processes ran, and by how much it was exceeded at any time."""
    begin = moments[0] + settling
    busy = [moment for moment in moments if begin <= moment < begin + seconds]
    worst = worst_window(moments, limit.seconds)
    return {
        "calls": len(busy),
        "used": round(len(busy) / (limit.per_second * seconds), 4),
        "worst_window": worst,
        "over": max(0, worst - int(limit.calls)),
        "longest_gap": round(max(b - a for a, b in pairwise(busy)), 3),
    }


def main() -> None:
    """Print one line for each rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", nargs="*", default=["5/second", "50/second", "500/second"])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--latency", type=float, default=0.005, help="seconds that the server takes to answer")
    options = parser.parse_args()
    for rate in options.rates:
        with fast_server(options.latency) as server, a_ledger("sqlite") as (folder, url):
            print(json.dumps(paced(folder, server, url, rate, options.seconds)), flush=True)


if __name__ == "__main__":
    main()
