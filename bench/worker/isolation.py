"""How much a connection that hangs takes from another: throughput of B while A never answers, and of B alone.

Run it with `make bench`, or `python -m bench.worker.isolation --rate 1000/second` to see it beyond the pace. Both are
measured in turns in one run, with real workers, so that what else the machine does slows both. Prints calls per
second of B in each turn, and their ratio, which should be 0.9 or more.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from sandbox.capillary.settings import CapillarySettings
from sandbox.server import running
from sandbox.settings import SandboxSettings
from tests.support.company import PASSWORD, Company

HANGING_CUSTOMERS = 400
LONGEST_SECONDS = 300.0


def write_file(path: Path, customers: int, *, hanging: bool) -> None:
    """One row a customer of B and, if asked, some customers of A among them."""
    rows = [f"capillary,{500_000_000 + n},EMAIL,BULK,OPTOUT,2026-11-20T08:00:00Z\n" for n in range(customers)]
    if hanging:
        rows = [
            f"a,{600_000_000 + n},EMAIL,BULK,OPTOUT,2026-11-20T08:00:00Z\n" for n in range(HANGING_CUSTOMERS)
        ] + rows
    path.write_text("connection,user_id,channel,priority,action,effective_at\n" + "".join(rows))
    os.utime(path, (time.time() - 60,) * 2)


@contextmanager
def installation(folder: Path, rate: str) -> Iterator[Company]:
    """Two connections of Capillary: B is well, A takes every call and never answers."""
    well = SandboxSettings(capillary=CapillarySettings(rate="off", latency=(0.002, 0.02)))
    hangs = SandboxSettings(capillary=CapillarySettings(rate="off", latency=(LONGEST_SECONDS, LONGEST_SECONDS)))
    with running(well) as url, running(hangs) as hanging_url:
        shop = Company(folder, url)
        shop.settings["CONNECTIONS__CAPILLARY__RATE"] = rate
        shop.settings |= {
            "CONNECTIONS__A__PROVIDER": "capillary",
            "CONNECTIONS__A__BASE_URL": hanging_url,
            "CONNECTIONS__A__USERNAME": "demo.till",
            "CONNECTIONS__A__PASSWORD": PASSWORD,
            "CONNECTIONS__A__RATE": rate,
        }
        yield shop


def calls_per_second(shop: Company, customers: int, workers: int) -> float:
    """Deliver a file and return how fast B's customers were called, from its first call to its last."""
    process = shop.start("run", shop.folder / "nightly.csv", "--workers", str(workers))
    end = time.monotonic() + LONGEST_SECONDS
    while shop.stats()["calls"] < customers and time.monotonic() < end:
        time.sleep(0.25)
    process.terminate()
    process.communicate()
    reply = httpx.get(f"{shop.url}/_sandbox/calls", params={"format": "ndjson"}).raise_for_status()
    moments = sorted(json.loads(line)["received"] for line in reply.text.splitlines())
    return (len(moments) - 1) / (moments[-1] - moments[0])


def measure(rate: str, customers: int, workers: int, *, hanging: bool) -> float:
    """Make a fresh installation and return B's calls per second in it."""
    with tempfile.TemporaryDirectory(prefix="bench") as name, installation(Path(name), rate) as shop:
        write_file(shop.folder / "nightly.csv", customers, hanging=hanging)
        return calls_per_second(shop, customers, workers)


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", default="100/second")
    parser.add_argument("--customers", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=4, help="two for each connection, as the README advises")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    found: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(options.rounds):
        for hanging in (False, True):
            found[hanging].append(measure(options.rate, options.customers, options.workers, hanging=hanging))
    alone, beside = statistics.mean(found[False]), statistics.mean(found[True])
    figures = {"workers": options.workers, "rate": options.rate, "ratio": round(beside / alone, 3)}
    turns = {
        "alone": [round(one, 1) for one in found[False]],
        "while_another_hangs": [round(one, 1) for one in found[True]],
    }
    print(json.dumps({"bench": "isolation"} | figures | turns), flush=True)


if __name__ == "__main__":
    main()
