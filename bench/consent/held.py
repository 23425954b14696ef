"""What a decision about a large held file costs: `python -m bench.consent.held --held 250000 1000000`.

Fills a ledger with a file that a guard holds: half of it would opt people out, half of it in, and each change would
stand. Then it is looked at, its opt-outs are approved and published, and the rest is withdrawn. Prints the seconds of
each, of the longest writing transaction, and what a change costs beside the smallest file: 1.0 is linear.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, text

from bench.consent.claims import KEY, SERIES
from bench.worker.delivery import a_ledger
from consent.change import Action
from consent.imports import ImportSource
from consent.ledger.ledger import Ledger
from consent.ledger.queries.backlog import MOST_STUCK
from consent.ledger.review.holds import Decided, Decision

_ACTION = "CASE n % 2 WHEN {even} THEN 'OPTOUT' ELSE 'OPTIN' END"
_INTO = "changes (id, dedupe_key, import_id, line, target_id, slot, action, value, effective_at, details, origin, "
_ROWS = (
    ("targets (id, target_key, connection, bucket, address)", "n, {key}, 'capillary', '', '{{\"user_id\": \"1\"}}'"),
    (
        f"{_INTO}recorded_at, state)",
        f"n, {{key}}, 'before', n, n, 's', {_ACTION.format(even=1)}, '', 1, '{{{{}}}}', 'bulk', 1, 'applied'",
    ),
    (
        f"{_INTO}recorded_at, due_at, rule, state)",
        (
            f"n + :last, {{key}} || {{key}}, :file, n, n, 's', {_ACTION.format(even=0)}, '', 9, '{{{{}}}}', 'bulk', 9, "
            "CASE n % 2 WHEN 0 THEN 99 END, CASE n % 2 WHEN 0 THEN 'internal-72h' END, 'held'"
        ),
    ),
    (
        "slots (target_id, slot, newest_id, newest_at, newest_action, confirmed, confirmed_at)",
        f"n, 's', n, 1, {_ACTION.format(even=1)}, {_ACTION.format(even=1)}, 1",
    ),
)
_HELD = text(
    "UPDATE imports SET state = 'held', checked_at = 9, records = :rows, changes = :rows, recorded = :rows, "
    "findings = '[]' WHERE id = :file"
)


def fill(tx: Connection, file: str, rows: int) -> None:
    """Make a held file of so many changes, each of a person of its own."""
    numbers, key = SERIES[tx.dialect.name] + " AS numbers", KEY[tx.dialect.name]
    for into, values in _ROWS:
        statement = f"INSERT INTO {into} SELECT {values.format(key=key)} FROM {numbers}"
        tx.execute(text(statement), {"first": 1, "last": rows, "file": file})
    tx.execute(_HELD, {"rows": rows, "file": file})


class Watch:
    """How long each step takes, and the longest writing transaction in it."""

    def __init__(self, ledger: Ledger) -> None:
        self.seconds: dict[str, float] = {}
        self._write, self._longest = ledger.database.write, 0.0
        ledger.database.write = self._timed  # type: ignore[method-assign]

    def _timed(self, work: Callable[..., Any], **more: Any) -> Any:
        started = time.perf_counter()
        found = self._write(work, **more)
        self._longest = max(self._longest, time.perf_counter() - started)
        return found

    def step(self, name: str, do: Callable[[], Any]) -> Any:
        """Do it, and note what it took."""
        self._longest, started = 0.0, time.perf_counter()
        found = do()
        self.seconds[name] = round(time.perf_counter() - started, 3)
        if self._longest:
            self.seconds[f"{name}, longest transaction"] = round(self._longest, 3)
        return found


def measured(url: str, rows: int) -> dict[str, float]:
    """Decide about a held file of so many changes; return the seconds that each step took."""
    ledger = Ledger(url)
    ledger.maintenance.migrate()
    file = ledger.intake.open_import(ImportSource("csv", "many.csv", f"held {rows}", 1, None)).import_id
    ledger.database.write(lambda tx: fill(tx, file, rows))
    if not ledger.database.is_sqlite:
        ledger.database.write(lambda tx: tx.execute(text("ANALYZE")))
    watch = Watch(ledger)
    [held] = watch.step("held", ledger.review.held_imports)
    assert (held.optouts, held.slots["all"]) == (rows // 2, rows)
    watch.step("status", lambda: (ledger.queries.stuck_optouts(MOST_STUCK), ledger.queries.report(file)))
    watch.step("today", ledger.queries.held_lines)
    why = Decision("ann", "measured", Action.OPTOUT)
    assert isinstance(watch.step("approve --only optouts", lambda: ledger.review.approve(file, why)), Decided)
    watch.step("publish", lambda: ledger.intake.publish(file))
    rest = Decision("ann", "measured")
    assert isinstance(watch.step("withdraw", lambda: ledger.review.withdraw(file, rest)), Decided)
    watch.step("publish what is left", lambda: ledger.intake.publish(file))
    found = ledger.queries.report(file)
    assert found is not None
    assert (found.pending, found.withdrawn, found.balanced) == (rows // 2, rows // 2, True)
    ledger.close()
    return watch.seconds


def main() -> None:
    """Print one line for each database and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--held", type=int, nargs="*", default=[250_000, 1_000_000])
    parser.add_argument("--ledger", choices=["sqlite", "postgresql", "both"], default="both")
    options = parser.parse_args()
    for kind in ("sqlite", "postgresql"):
        least: dict[str, float] = {}
        for rows in options.held if options.ledger in (kind, "both") else ():
            with a_ledger(kind) as (_, url):
                seconds = measured(url, rows)
            least = least or {name: each / rows for name, each in seconds.items()}
            growth = {name: round(each / rows / least[name], 2) for name, each in seconds.items() if least.get(name)}
            print(
                json.dumps({"bench": "held", "ledger": kind, "held": rows, "seconds": seconds, "growth": growth}),
                flush=True,
            )


if __name__ == "__main__":
    main()
