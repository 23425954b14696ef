"""How fast the machine is while something is measured: what one fixed piece of work costs, again and again.

A virtual machine's neighbours make the same work cost half as much again from one minute to the next. What is measured
at different times is compared by how many times the yardstick it costs. That is no more than a help: a neighbour does
not slow all kinds of work in the same measure, so the plain seconds are to be looked at too.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

EVERY_SECONDS = 0.2
_ROWS = [{"user_id": str(500_000_000 + n), "channel": "EMAIL", "action": "OPTOUT"} for n in range(400)]


@dataclass(slots=True)
class Yardstick:
    """What the piece of work cost each time, in seconds of CPU."""

    costs: list[float] = field(default_factory=list)

    @property
    def microseconds(self) -> float:
        """What it cost in the middle."""
        return median(self.costs) * 1e6


@contextmanager
def yardstick() -> Iterator[Yardstick]:
    """Do the piece of work every now and then until the end of the block; it takes about a hundredth of a processor."""
    found, over = Yardstick([_once()]), threading.Event()

    def keep_on() -> None:
        while not over.wait(EVERY_SECONDS):
            found.costs.append(_once())

    thread = threading.Thread(target=keep_on, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def _once() -> float:
    """Return what it costs, as the contestant's own work, with caches that others have used meanwhile."""
    started = time.thread_time()
    rows = json.loads(json.dumps(_ROWS))
    seen = {row["user_id"]: tuple(row.values()) for row in rows}
    assert len(sorted(seen.items(), key=lambda item: item[1])) == len(_ROWS)
    return time.thread_time() - started
