"""The worker that a run starts for itself, `python -m worker`: `celery -A worker.app worker`, started faster."""

from __future__ import annotations

import argparse
import gc
import sys

from worker.process import name_process


def main() -> int:
    """Work until a signal ends it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--concurrency", type=int, required=True, help="processes that deliver")
    parser.add_argument("--hostname", required=True, help="the worker's name in Celery's words: name@machine")
    options = parser.parse_args()
    name_process("optrelay-worker")
    gc.set_threshold(300_000, 10, 5)  # 200,000 objects are loaded and stay; batches are freed without the collector
    from worker.app import app  # noqa: PLC0415 - while much is imported, nothing is garbage

    # Celery's command line loads what its other commands need, a shell among them, before it does the same.
    alone = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}
    try:
        worker = app.Worker(
            hostname=options.hostname, concurrency=options.concurrency, pool_cls="prefork", quiet=True, **alone
        )
        worker.start()
        return int(worker.exitcode or 0)
    finally:
        gc.freeze()  # a last collection would take a quarter of a second


if __name__ == "__main__":
    sys.exit(main())
