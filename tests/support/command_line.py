"""Running the command line in a test, and settling what it recorded without any worker."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consent.change import Bucket
from consent.ledger.ledger import Ledger
from consent.ledger.queue.tasks import Attempt, Settlement
from consent.outcome import Applied, Outcome, PermanentFailure
from tests.support.forked_commands.jobs import FORKABLE

HEADER = "user_id,channel,priority,action,effective_at"
ROWS = (
    "1001417,EMAIL,BULK,OPTOUT,2026-01-02T00:00:00Z",
    "1001417,EMAIL,BULK,OPTIN,2026-01-01T00:00:00Z",
    "1001417,MOBILE,BULK,OPTIN,2026-01-01T00:00:00Z",
    "1002888,EMAIL,TRANS,OPTIN,2026-01-03T00:00:00Z",
    "1003999,FAX,BULK,OPTIN,2026-01-01T00:00:00Z",
    "1002888,EMAIL,TRANS,OPTIN,2026-01-03T00:00:00Z",
)
"""Six rows: one superseded, one rejected, one duplicate, three to deliver to two customers."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on standard output."""
        return json.loads(self.out)


Cli = Callable[..., Answer]


def settle_all(url: str, outcome: Outcome | None = None) -> int:
    """Settle everything that is due as if a provider had answered; return how many customers."""
    ledger, count = Ledger(url), 0
    while tasks := ledger.queue.claim(Bucket("capillary"), 100, "test", 60.0):
        settlements = [_settlement(task, outcome or Applied(), ledger.now()) for task in tasks]
        ledger.queue.settle("test", settlements)
        ledger.queue.count_calls(settlements, set())
        count += len(tasks)
    ledger.close()
    return count


def bury_all(url: str) -> int:
    """Make a dead letter of everything that is due."""
    return settle_all(url, PermanentFailure("1012", "Capillary cannot find this customer"))


def _settlement(task: Any, outcome: Outcome, now: int) -> Settlement:
    ids = tuple(change.id for change in task.changes)
    code = outcome.code if isinstance(outcome, PermanentFailure) else "200"
    made = (Attempt(task.target_id, now, 12, "write", 400, code, ids),)
    return Settlement(task, dict.fromkeys(ids, outcome), made)


MEMORY = (
    FORKABLE
    + """
import resource, sys
from console.cli import app
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    app(sys.argv[1:], standalone_mode=False)
finally:
    print("\\nMORE", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, file=sys.stderr)
"""
)
"""A program that runs a command and tells how many KiB more than before it took."""


def write(folder: Path, name: str, *rows: str, header: str = HEADER) -> str:
    """Write a file that was finished long ago; return its name."""
    (folder / name).write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    os.utime(folder / name, (1_760_000_000, 1_760_000_000))
    return name
