"""One change, or each slot's newest, as an outsider may ask about it: what became of it and where it came from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Row, case, cast, false, select

from consent.change import Action, ConsentChange
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.statements import among, portions
from consent.ledger.keys import (
    KEY_BYTES,
    dedupe_key,
    former_ids,
    is_known_as,
    parse_public_id,
    public_id,
    target_aliases,
    target_key,
)
from consent.ledger.schema import audit_log, changes, imports, info, slots, targets
from consent.outcome import State

CORRECTED = "corrected: "
"""How `audit_log.what` begins where a person put another change in a dead letter's place; names of columns follow."""


@dataclass(frozen=True, slots=True)
class ChangeReport:
    """What became of a change. Moments are in microseconds; `superseded_by` is the public id of the newer change.

    An opt-out is due at `due_at`, by this `rule`; None if it has no deadline. `corrected` says that it was a dead
    letter, and that `superseded_by` is what a person put in its place.

    `details` are the further columns of its row, which may name a person.
    """

    id: str
    state: State
    superseded_by: str | None
    code: str | None
    reason: str | None
    connection: str
    slot: str
    action: str
    effective_at: int
    recorded_at: int
    settled_at: int | None
    attempts: int
    discarded: bool
    import_id: str
    import_kind: str
    import_name: str
    number: int | None
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)
    due_at: int | None = None
    rule: str | None = None
    corrected: bool = False


class ChangeQueries(LedgerPart):
    """Changes, by their public ids."""

    def public_ids(self, asked: Sequence[ConsentChange]) -> list[str]:
        """Return the ids under which changes are known to outsiders, whether they have been recorded or not."""
        secret = self.database.hash_key
        keyed = ((target_key(secret, change.connection, change.address), change) for change in asked)
        return [public_id(target, dedupe_key(secret, target, change)) for target, change in keyed]

    def current_opt_in(self, asked: Sequence[ConsentChange]) -> tuple[str, int] | None:
        """Return the change of the latest opt-in at which one of these slots stands: its public id, and since when.

        The moment is in microseconds. None if there is no such slot.
        """
        secret, latest = self.database.hash_key, None
        for change in asked:
            key = target_key(secret, change.connection, change.address)
            own = (is_known_as(key), slots.c.slot == change.slot, slots.c.newest_action == Action.OPTIN.value)
            newest = select(changes.c.dedupe_key, slots.c.newest_at).join(slots, slots.c.newest_id == changes.c.id)
            query = newest.join(targets, targets.c.id == slots.c.target_id).where(*own)
            found = self.database.read(lambda tx, query=query: tx.execute(query).first())  # type: ignore[misc]
            if found is not None and (latest is None or found.newest_at > latest[1]):
                latest = public_id(key, found.dedupe_key), found.newest_at
        return latest

    def find_change(self, id_: str) -> ChangeReport | None:
        """Return what became of the change with this public id, or None if there is none; raise LedgerUnavailable."""
        if (parsed := parse_public_id(id_)) is None:
            return None
        former = changes.c.id.in_(select(former_ids.c.change_id).where(former_ids.c.key == parsed[1]))

        def work(tx: Connection) -> Row[*tuple[Any, ...]] | None:
            return (
                tx.execute(_REPORTED.where(former)).first() or tx.execute(_REPORTED.where(*_which(tx, *parsed))).first()
            )

        row = self.database.read(work)
        return None if row is None else _report(row)

    def current_values(self) -> Iterator[CurrentValue]:
        """Give the newest change of every slot; all of them are held in memory."""
        query = (
            select(targets.c.connection, targets.c.address, slots.c.slot, slots.c.newest_action, changes.c.state)
            .join(targets, targets.c.id == slots.c.target_id)
            .join(changes, changes.c.id == slots.c.newest_id)
            .order_by(slots.c.target_id, slots.c.slot)
        )
        for row in self.database.read(lambda tx: tx.execute(query).all()):
            yield CurrentValue(row[0], json.loads(row[1]), row[2], Action(row[3]), State(row[4]))


def changes_of(tx: Connection, target_id: int, latest: int | None = None) -> list[ChangeReport]:
    """Return the changes about a target, all or the latest; each slot's by itself, in the order of what was said."""
    mine = changes.c.target_id == target_id
    some = select(changes.c.id).where(mine).order_by(changes.c.id.desc()).limit(latest)
    query = _REPORTED.where(mine if latest is None else among(changes.c.id, list(tx.execute(some).scalars())))
    return [_report(row) for row in tx.execute(query.order_by(changes.c.slot, changes.c.effective_at, changes.c.id))]


def reports_by_number(tx: Connection, numbers: Sequence[int]) -> dict[int, ChangeReport]:
    """Return what became of these changes, by their numbers in the ledger."""
    query = _REPORTED.add_columns(changes.c.id)
    return {
        row.id: _report(row) for some in portions(numbers) for row in tx.execute(query.where(among(changes.c.id, some)))
    }


def _report(row: Row[*tuple[Any, ...]]) -> ChangeReport:
    return ChangeReport(
        id=public_id(row.target_key, row.dedupe_key),
        state=State(row.state),
        superseded_by=None if row.winner_key is None else public_id(row.winner_target_key, row.winner_key),
        code=row.code,
        reason=row.reason,
        connection=row.connection,
        slot=row.slot,
        action=row.action,
        effective_at=row.effective_at,
        recorded_at=row.recorded_at,
        settled_at=row.settled_at,
        attempts=row.attempts,
        discarded=row.discarded_at is not None,
        import_id=row.import_id,
        import_kind=row.kind,
        import_name=row.name,
        number=row.line,
        details=json.loads(row.details),
        due_at=row.due_at,
        rule=row.rule,
        corrected=bool(row.corrected),
    )


def _which(tx: Connection, hint: bytes, key: bytes) -> tuple[ColumnElement[bool], ...]:
    """Say that it is the change with this key: of a target that the hint means; without a hint, one of before."""
    if not hint:
        # No index knows it: all changes of that time are read.
        return changes.c.dedupe_key == key, changes.c.id <= _FORMER
    first, last = hint.ljust(KEY_BYTES, b"\0"), hint.ljust(KEY_BYTES, b"\xff")
    near = list(tx.execute(select(targets.c.id).where(targets.c.target_key.between(first, last))).scalars())
    aliases = select(target_aliases.c.target_id).where(target_aliases.c.target_key.between(first, last))
    near += tx.execute(aliases).scalars()
    return among(changes.c.target_id, near), changes.c.dedupe_key == key


_FORMER = select(cast(info.c.value, BigInteger)).where(info.c.name == "known_by_key_alone_to").scalar_subquery()
_OWN = (
    *("dedupe_key", "import_id", "line", "slot", "action", "effective_at", "recorded_at"),
    *("state", "code", "reason", "settled_at", "attempts", "discarded_at", "details", "due_at", "rule"),
)
_winner = changes.alias("winner")
_winners = targets.alias("winners")
_corrections = select(audit_log.c.id).where(
    audit_log.c.change_id == changes.c.id, audit_log.c.what.startswith(CORRECTED)
)
_REPORTED = (
    select(
        *(changes.c[name] for name in _OWN),
        _winner.c.dedupe_key.label("winner_key"),
        _winners.c.target_key.label("winner_target_key"),
        targets.c.target_key,
        targets.c.connection,
        imports.c.kind,
        imports.c.name,
        case((changes.c.state == State.SUPERSEDED.value, _corrections.exists()), else_=false()).label("corrected"),
    )
    .join(targets, targets.c.id == changes.c.target_id)
    .join(imports, imports.c.id == changes.c.import_id)
    .outerjoin(_winner, _winner.c.id == changes.c.superseded_by)
    .outerjoin(_winners, _winners.c.id == _winner.c.target_id)
)
"""The newer change may be about another target: a dead letter was corrected."""


@dataclass(frozen=True, slots=True)
class CurrentValue:
    """The newest change of one slot."""

    connection: str
    address: Mapping[str, str] = field(repr=False)
    slot: str
    action: Action
    state: State
