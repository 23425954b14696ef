"""Changes, files and calls as the tests of the ledger make them, without producers or workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from sqlalchemy import text

from consent.change import Action, Bucket, ConsentChange
from consent.guards.rules import GuardRules, ImportGuards
from consent.imports import Checkpoint, ImportSource
from consent.ledger.ledger import Ledger
from consent.ledger.queue.tasks import Attempt, Settlement
from consent.outcome import Applied
from consent.times import to_micros

BUCKET = Bucket("capillary")
MORNING = datetime(2026, 11, 22, 8, tzinfo=UTC)
_fingerprint = count()


def moment(minute: int) -> int:
    """So many minutes after the morning began, in microseconds."""
    return to_micros(MORNING + timedelta(minutes=minute))


def change_of(
    customer: str, action: str = "OPTOUT", minute: int = 0, slot: str = "EMAIL|BULK", **more: str
) -> ConsentChange:
    """One row of a file."""
    return ConsentChange(
        "capillary", {"user_id": customer}, slot, Action(action), to_micros(MORNING + timedelta(minutes=minute)), more
    )


def recorded(ledger: Ledger, *changes: ConsentChange, stream: bool = False) -> str:
    """A file read but not released."""
    source = ImportSource("csv", "nightly.csv", f"fingerprint {next(_fingerprint)}", 1, None, stream=stream)
    import_id = ledger.intake.open_import(source).import_id
    ledger.intake.accept(import_id, changes, [], Checkpoint(len(changes), len(changes) + 1, 0, len(changes)))
    return import_id


def guarded(ledger: Ledger, *changes: ConsentChange, stream: bool = False, **rules: object) -> str:
    """A file that has been read whole and that guards have checked: its changes are due, or it is held."""
    guards = ImportGuards("nightly-#.csv", GuardRules.model_validate(rules), columns=("user_id",))
    number = f"fingerprint {next(_fingerprint)}"
    source = ImportSource("csv", "nightly.csv", number, 1, None, stream=stream, guards=guards)
    import_id = ledger.intake.open_import(source).import_id
    ledger.intake.accept(import_id, changes, [], Checkpoint(len(changes), len(changes) + 1, 0, len(changes)))
    ledger.intake.finish_reading(import_id)
    ledger.intake.publish(import_id)
    return import_id


def imported(ledger: Ledger, *changes: ConsentChange) -> str:
    """A file read whole: its changes are due."""
    import_id = recorded(ledger, *changes)
    ledger.intake.finish_reading(import_id)
    ledger.intake.publish(import_id)
    return import_id


def dump(ledger: Ledger, changes: Iterable[ConsentChange], *, at_once: int = 700, **more: object) -> str:
    """A file of many rows, read in several chunks and published."""
    lines = [replace(one, line=line) for line, one in enumerate(changes, 2)]
    source = ImportSource("csv", "dump.csv", str(more.pop("bytes", f"dump {next(_fingerprint)}")), 1, None, **more)  # type: ignore[arg-type]
    import_id = ledger.intake.open_import(source).import_id
    for end in range(at_once, len(lines) + at_once, at_once):
        done = min(end, len(lines))
        ledger.intake.accept(import_id, lines[end - at_once : done], [], Checkpoint(done, done + 1, 0, done))
    ledger.intake.finish_reading(import_id)
    ledger.intake.publish(import_id)
    return import_id


def night(minute: int, customers: int = 1_500) -> Iterator[ConsentChange]:
    """A full dump whose rows all bear the time of its export."""
    return (change_of(str(n), minute=minute) for n in range(1, customers + 1))


def record_event(ledger: Ledger, *changes: ConsentChange) -> None:
    """What someone has just said, one event each."""
    ledger.intake.accept_events(run_of(ledger, f"run {next(_fingerprint)}"), changes, [])


def deliver(ledger: Ledger, outcome: object = None, token: str = "delivery", limit: int = 100) -> list[tuple[str, str]]:
    """Claim what is due and settle it all with one outcome; return what was told to the provider."""
    tasks = ledger.queue.claim(BUCKET, limit, token, 60)
    delivered = [(task.address["user_id"], f"{c.slot} {c.action}") for task in tasks for c in task.changes]
    settlements = [settlement(task, outcome or Applied(), ledger.now()) for task in tasks]
    ledger.queue.settle(token, settlements)
    ledger.queue.count_calls(settlements, set())
    return delivered


def settlement(task, outcome, now, put_off_until: int = 0):
    """All of a target's changes with one outcome, after one call."""
    ids = tuple(change.id for change in task.changes)
    attempt = Attempt(task.target_id, now, 12, "write", 200, "200", ids)
    return Settlement(task, dict.fromkeys(ids, outcome), (attempt,), put_off_until)


def counts(ledger: Ledger, import_id: str) -> dict[str, int]:
    """The counts of an import that are not nought."""
    found = ledger.queries.report(import_id)
    assert found is not None
    assert found.balanced
    names = ("applied", "unchanged", "superseded", "dead", "pending", "withdrawn", "rejected", "duplicates")
    return {name: getattr(found, name) for name in names if getattr(found, name)}


@contextmanager
def emptied(ledger: Ledger) -> Iterator[None]:
    """Forget everything that an earlier example left behind."""
    tables = ("noop_changes", "pending_duplicates", "slots", "changes", "customer_tasks", "imports", "targets")
    tables += ("attempts", "dead_letters", "audit_log", "calls_in_doubt")
    ledger.database.write(lambda tx: [tx.execute(text(f"DELETE FROM {name}")) for name in tables])
    yield


def run_of(ledger: Ledger, name: str = "a listener") -> str:
    """A run of an event source."""
    return ledger.intake.open_import(ImportSource("redis stream", "consent", name, 0, None, stream=True)).import_id


class Cut(Exception):
    """The importer is gone at this point."""


def folded(ledger: Ledger, *changes: ConsentChange) -> str:
    """A file whose changes have been merged, and are not due yet: its importer was killed."""
    import_id = recorded(ledger, *changes)
    ledger.intake.finish_reading(import_id)

    def cut(_: int) -> None:
        raise Cut

    with pytest.raises(Cut):
        ledger.intake.publish(import_id, cut)
    return import_id


def in_between(monkeypatch: pytest.MonkeyPatch, ledger: Ledger, do: Callable[[], object]) -> None:
    """Do something right before the next transaction that writes: a moment after what it is about was looked at."""
    write = ledger.database.write

    def first(work: Callable[..., object], **more: bool) -> object:
        monkeypatch.setattr(ledger.database, "write", write)
        do()
        return write(work, **more)

    monkeypatch.setattr(ledger.database, "write", first)
