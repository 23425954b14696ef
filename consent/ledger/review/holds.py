"""What people decide about imports that a guard holds: they are approved, wholly or in part, or withdrawn.

    read ─► checked ─► published
              │          ▲ approve (all of it, its opt-outs or its opt-ins)
              └─► held ──┤
                         └ withdraw

A held change is due nowhere, supersedes nothing and blocks no other source. What a person decides is one transaction:
it has happened or it has not, and saying it again changes nothing. The import is published afterwards, by the command
or by the sweep.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from consent.change import Action
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.locks import MergeLock, RecordingLock
from consent.ledger.dialects.statements import NEW, bulk
from consent.ledger.intake.noops import hold_noops
from consent.ledger.review import effects
from consent.ledger.review.guard_checks import (
    FROM_START,
    MOVING,
    PARTLY_HELD,
    approved_in_words,
    decided_states,
    move_decided,
    note_decision,
)
from consent.ledger.schema import audit_log, changes, imports, noop_changes, pending_duplicates
from consent.outcome import State
from consent.times import from_micros


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person has decided about a held import: who and why, for the audit log.

    `only` is the action that it is about (None: both). `expect` is how many slots were shown to change, if it is to be
    refused when that is not so any more. Where two people have to agree, `proven` is the name that the one who decides
    has proved.
    """

    who: str
    why: str
    only: Action | None = None
    expect: int | None = None
    proven: str | None = None

    def is_by(self, importers: str | None) -> str | None:
        """Return the name if two people have to agree, and who decides is one of those who imported it."""
        names = {name.strip().casefold() for name in (importers or "").split("\n")}
        return self.proven if self.proven and self.proven.strip().casefold() in names else None


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of a decision: how many changes it was about, and how many slots they would change."""

    changes: int
    slots: int


@dataclass(frozen=True, slots=True)
class NotAsExpected:
    """The decision was refused: it would change so many slots, and another number was expected."""

    slots: int


@dataclass(frozen=True, slots=True)
class SamePerson:
    """The decision was refused: two people have to agree, and `name` has imported it."""

    name: str


@dataclass(frozen=True, slots=True)
class NothingHeld:
    """Nothing of the import is held, or not what was meant: `state` is the import's."""

    state: str


class Holds(LedgerPart):
    """Imports that guards hold, and what people decide about them."""

    def approve(self, import_id: str, decision: Decision) -> Decided | NotAsExpected | NothingHeld | SamePerson | None:
        """Let what is held of an import be published, all of it or only one action; None if there is no such import.

        To be followed by `publish`; the sweep does it if this process does not come to it.
        """
        now = self.core.now()
        looked = self.database.read(lambda tx: _look(tx, import_id, decision.only))

        def work(tx: Connection) -> Decided | NotAsExpected | NothingHeld | SamePerson | None:
            lock = RecordingLock.acquire(tx)
            row = tx.execute(select(imports).where(imports.c.id == import_id).with_for_update()).first()
            if row is None:
                return None
            if row.checked_at is None:
                return NothingHeld(row.state)
            found = _still(tx, looked, row, decision)
            whole = row.state == "held" and decision.only is None
            if not whole and not found.decided.changes:
                return NothingHeld(row.state)
            if (name := decision.is_by(row.importers)) is not None:
                return SamePerson(name)
            if decision.expect not in (None, found.decided.slots):
                return NotAsExpected(found.decided.slots)
            if decision.only is not None and row.state == "held" and not row.stream:
                hold_noops(lock, row.id, Action.OPTOUT if decision.only is Action.OPTIN else Action.OPTIN, now)
            tx.execute(update(imports).where(imports.c.id == row.id).values(state="read", merged_to=MOVING))
            note_decision(tx, row.id, decision.who, approved_in_words(decision.only), decision.why, now)
            move_decided(tx, row.id, FROM_START, now)
            return found.decided

        return self.database.write(work)

    def withdraw(self, import_id: str, decision: Decision) -> Decided | NotAsExpected | NothingHeld | None:
        """Give up what is held of an import for good; None if there is no such import.

        Of a stream, the opt-outs go on: so this too is to be followed by `publish`.
        """
        now = self.core.now()
        looked = self.database.read(lambda tx: _look(tx, import_id, None))

        def work(tx: Connection) -> Decided | NotAsExpected | NothingHeld | None:
            RecordingLock.acquire(tx)
            row = tx.execute(select(imports).where(imports.c.id == import_id).with_for_update()).first()
            if row is None:
                return None
            found = _still(tx, looked, row, replace(decision, only=None))
            if row.checked_at is None or (row.state != "held" and not found.decided.changes):
                return NothingHeld(row.state)
            if decision.expect not in (None, found.decided.slots):
                return NotAsExpected(found.decided.slots)
            ended: dict[str, Any] = {"merged_to": MOVING}
            if row.state == "held":
                tx.execute(delete(pending_duplicates).where(pending_duplicates.c.import_id == row.id))
                ended |= {"state": "read"} if row.stream else {"state": "withdrawn", "released_at": now}
            tx.execute(update(imports).where(imports.c.id == row.id).values(**ended))
            note_decision(tx, row.id, decision.who, "withdrawn", decision.why, now)
            move_decided(tx, row.id, FROM_START, now)
            return found.decided

        return self.database.write(work)

    def held_imports(self) -> list[HeldImport]:
        """Return the imports of which something is held and has been checked, the oldest first."""

        def work(tx: Connection) -> list[HeldImport]:
            query = select(imports).where((imports.c.state == "held") | imports.c.id.in_(PARTLY_HELD))
            rows = tx.execute(query.order_by(imports.c.started_at, imports.c.id)).all()
            return [one for row in rows if (one := _held_import(tx, row)) is not None]

        return self.database.read(work)

    def held_import(self, import_id: str) -> HeldImport | None:
        """Return what is held of one import, or None if nothing is, or there is no such import."""

        def work(tx: Connection) -> HeldImport | None:
            row = tx.execute(select(imports).where(imports.c.id == import_id)).first()
            return None if row is None or row.checked_at is None else _held_import(tx, row)

        return self.database.read(work)

    def note_reveal(self, change_ids: Sequence[int], who: str, why: str) -> None:
        """Note that a person was shown the names in some changes: `change_ids` are their numbers."""
        now, columns = self.core.now(), ("at", "who", "what", "why", "change_id")
        rows = [(now, who, "revealed", why, number) for number in change_ids]
        self.database.write(lambda tx: bulk(tx).insert(audit_log, columns, rows, NEW))

    def note_guards_off(self, import_id: str, decision: Decision, guards: str) -> None:
        """Note that a person let an import pass without some guards."""
        facts = (import_id, decision.who, f"guards off: {guards}", decision.why, self.core.now())
        self.database.write(lambda tx: note_decision(tx, *facts))


@dataclass(frozen=True, slots=True)
class _Looked:
    """What a decision would be about: looked at before, so that no other has to wait.

    It was so while the import was at this `place`, and the slots where all imports together had `merged` them to.
    """

    place: tuple[Any, ...]
    merged: tuple[Any, ...]
    decided: Decided


def _look(tx: Connection, import_id: str, only: Action | None) -> _Looked | None:
    row = tx.execute(select(imports).where(imports.c.id == import_id)).first()
    return None if row is None else _looked(tx, row, only)


def _looked(tx: Connection, row: Row[Any], only: Action | None) -> _Looked:
    count = held_changes(tx, row)
    mine = sum(count.values()) if only is None else count[only]
    [slots] = effects.slots_changed(tx, row.id, only) if mine or row.state == "held" else [0]
    return _Looked(_place(row), effects.merged_to(tx), Decided(mine, slots))


def _still(tx: Connection, looked: _Looked | None, row: Row[Any], decision: Decision) -> _Looked:
    """Return what was looked at, or how it is now if the import is no more as it was.

    Where a number of slots is expected, nothing is merged until this transaction ends, so that it is of this moment.
    """
    if decision.expect is not None:
        MergeLock.acquire(tx, reassigns=True)
    is_so = looked is not None and looked.place == _place(row)
    if looked is not None and is_so and (decision.expect is None or looked.merged == effects.merged_to(tx)):
        return looked
    return _looked(tx, row, decision.only)


def _place(row: Row[Any]) -> tuple[Any, ...]:
    return row.state, row.merged_to, row.steps, row.recorded, row.checked_at


def held_changes(tx: Connection, row: Row[Any]) -> dict[Action, int]:
    """Return how many changes of an import, a row of `imports`, are held: opt-ins and opt-outs, with no-ops."""
    found = dict.fromkeys(Action, 0)
    parts = [(changes, changes.c.state == State.HELD.value)]
    if row.state == "held":
        parts.append((noop_changes, noop_changes.c.number > 0))
    for table, which in parts:
        each = [func.count().filter(table.c.action == action.value) for action in Action]  # with no sort by action
        for action, count in zip(
            Action, tx.execute(select(*each).where(table.c.import_id == row.id, which)).one(), strict=True
        ):
            found[action] += count
    return found | (dict.fromkeys(decided_states(tx, row.id), 0) if row.merged_to == MOVING else {})


@dataclass(frozen=True, slots=True)
class HeldImport:
    """An import of which something is held: how many opt-ins and opt-outs, why, and how many slots they would change.

    `slots` has a number for each way to approve it: "all", "optins", "optouts". `held_at` is in microseconds.
    """

    import_id: str
    name: str
    feed: str | None
    held_at: int
    optins: int
    optouts: int
    slots: Mapping[str, int]
    findings: tuple[Mapping[str, Any], ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as programs read it."""
        return {
            "import": self.import_id,
            "name": self.name,
            "feed": self.feed,
            "held_at": from_micros(self.held_at).isoformat(),
            "optins": self.optins,
            "optouts": self.optouts,
            "slots": dict(self.slots),
            "guards": [dict(one) for one in self.findings],
        }


def _held_import(tx: Connection, row: Row[Any]) -> HeldImport | None:
    count = held_changes(tx, row)
    if row.state != "held" and not sum(count.values()):
        return None
    slots = effects.slots_changed(tx, row.id, None, Action.OPTIN, Action.OPTOUT)
    return HeldImport(
        import_id=row.id,
        name=row.name,
        feed=row.feed,
        held_at=row.checked_at,
        optins=count[Action.OPTIN],
        optouts=count[Action.OPTOUT],
        slots=dict(zip(("all", "optins", "optouts"), slots, strict=True)),
        findings=tuple(json.loads(row.findings or "[]")),
    )
