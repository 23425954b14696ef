"""Guards of events: opt-outs are never held, and opt-ins are where one sender overrules too many opt-outs.

An event cannot wait for the end of a file, so what is looked at is the last hour of one sender, an API key or an event
source, at one connection. What is too much is recorded in an import of its own, which is held: `review.approve` lets it
be published, `review.withdraw` gives it up, as with a file. Until then the sender's further opt-ins follow.

A burst of opt-outs is only told: a scanner of mails may have followed unsubscribe links.
"""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from math import ceil
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Column, Connection, Integer, Row, Table, Text, delete, func, literal_column, select
from sqlalchemy import update as update_of

from consent.change import Action, ConsentChange, Origin
from consent.guards.findings import Finding
from consent.guards.rules import Guard, GuardRules, GuardsOf
from consent.imports import ImportSource
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.locks import RecordingLock, lock_tallies
from consent.ledger.dialects.statements import among, bulk, portions
from consent.ledger.intake.batch import ACTION, KEY, SINCE, SLOT, TARGET, IncomingBatch
from consent.ledger.intake.imports import begin_import
from consent.ledger.intake.reassign import ASIDE
from consent.ledger.review import effects
from consent.ledger.review.guard_checks import OPTRELAY, note_decision
from consent.ledger.schema import changes, imports, metadata, slots, targets
from consent.ledger.telemetry.tallies import SEEN_TO, add, tallies
from consent.outcome import State

MOST_OPTOUTS, TIMES_USUAL = 200, 20
"""Opt-outs by events within ten minutes, and how many times those of the busiest usual hour: more are a burst."""

HELD_OPTINS = "held opt-ins"
"""The kind of an import that holds opt-ins of events."""

_HOUR, _MINUTE = 3_600_000_000, 60_000_000
_WINDOW_MINUTES, _HOUR_MINUTES, _DAYS = 10, 60, 14
_HOURS = _DAYS * 24
_USUAL_SHARE = 0.95
_AT_ONCE = 50_000
_IN, _OUT = Action.OPTIN.value, Action.OPTOUT.value

event_guards = Table(
    "event_guards",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("sender", "connection")),
    *(Column(name, BigInteger, nullable=False) for name in ("since", "overruled", "look_at")),
    Column("import_id", Text),
)
"""How many opt-outs a sender's opt-ins have overruled within the hour that began at `since`.

They are compared with the standing opt-outs, which have to be counted, once there are `look_at`. `import_id` is the
import that holds its opt-ins, if one does.
"""

event_optouts = Table(
    "event_optouts",
    metadata,
    Column("connection", Text, primary_key=True),
    Column("minute", BigInteger, primary_key=True, autoincrement=False),
    Column("optouts", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""The opt-outs by events of each minute (since 1970) that had any, for two weeks."""


class SetAside(NamedTuple):
    """The import that holds opt-ins of a batch: how many of it there are, and how many are new to the ledger."""

    import_id: str
    changes: int
    recorded: int


@dataclass(slots=True)
class _Sender:
    """The opt-ins of one sender for one connection in a batch: where they stand, and how many overrule an opt-out."""

    name: str
    connection: str
    places: list[int]
    overruling: int


def set_optins_aside(
    lock: RecordingLock,
    run_id: str,
    batch: IncomingBatch,
    incoming: Sequence[ConsentChange],
    now: int,
    guards_of: GuardsOf,
) -> list[SetAside]:
    """Record the opt-ins of a looked up batch whose sender is held, or is to be from now on; leave the rest in it.

    `incoming` are the batch's changes, in its order. The caller counts what was set aside. What a person has withdrawn
    is a duplicate when its sender tells it again.
    """
    optins = [place for place, row in enumerate(batch.rows) if row[ACTION] == _IN]
    if not optins:
        return []
    tx, gone, aside = lock.tx, set[int](), list[SetAside]()
    for sender in _senders(tx, run_id, batch, incoming, optins):
        rules = guards_of(sender.connection)
        if (import_id := _holding(lock, sender, rules, now)) is None:
            gone.update(_withdrawn(tx, batch, sender))
        else:
            mine = replace(batch, rows=[batch.rows[place] for place in sender.places])
            new = mine.record(lock, import_id, Origin.EVENT, State.HELD)
            batch.known.update(row[KEY] for row in mine.rows)
            gone.update(sender.places)
            aside.append(SetAside(import_id, len(sender.places), new))
            _explain(tx, import_id, sender, rules)
    batch.rows = [row for place, row in enumerate(batch.rows) if place not in gone]
    return aside


def _senders(
    tx: Connection, run_id: str, batch: IncomingBatch, incoming: Sequence[ConsentChange], optins: Sequence[int]
) -> Iterator[_Sender]:
    new = [place for place in optins if batch.rows[place][KEY] not in batch.known]
    overruling = _overruling(tx, batch, new)
    lifted = _lifted(tx, batch, [place for place in new if incoming[place].overlaps])
    kind, run = tx.execute(select(imports.c.kind, imports.c.name).where(imports.c.id == run_id)).one()
    source = f"{kind} {source_of(run)}"
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place in optins:
        places[incoming[place].sent_by or source, incoming[place].connection].append(place)
    for (name, connection), its in sorted(places.items()):
        # Each opt-out once, however often its opt-in is told.
        overruled = {(batch.rows[place][TARGET], batch.rows[place][SLOT]) for place in overruling.intersection(its)}
        overruled.update(*(lifted.get(place, ()) for place in its))
        yield _Sender(name, connection, its, len(overruled))


def source_of(run: str) -> str:
    """Return what the runs of an event source have in common: each is named after its consumer as well."""
    return run.rpartition(", as ")[0] or run


def _withdrawn(tx: Connection, batch: IncomingBatch, sender: _Sender) -> set[int]:
    """Return where opt-ins stand that a person has withdrawn, told again by the sender that was held."""
    known = {batch.rows[place][KEY] for place in sender.places} & batch.known
    target_of = [(key, number) for key, number in batch.target_of.items() if key in known]
    found = bulk(tx).select_changes("dedupe_key, import_id, state", target_of)
    aside = {key: import_id for key, import_id, state in found if state in ASIDE}
    if not aside:
        return set()
    mine = (imports.c.kind == HELD_OPTINS, imports.c.importers == sender.name)
    its = set(tx.execute(select(imports.c.id).where(imports.c.id.in_(sorted(set(aside.values()))), *mine)).scalars())
    return {place for place in sender.places if aside.get(batch.rows[place][KEY]) in its}


def _overruling(tx: Connection, batch: IncomingBatch, new: Sequence[int]) -> set[int]:
    """Return which of the new opt-ins, named by their places, are newer than the opt-out of their slot."""
    rows = [batch.rows[place] for place in new]
    held = bulk(tx).select_registers([row[TARGET] for row in rows], [row[SLOT] for row in rows]) if rows else {}
    return {
        new[place]
        for place, (_, newest_at, newest_action, *_) in held.items()
        if newest_action == _OUT and rows[place][SINCE] > newest_at
    }


def _lifted(tx: Connection, batch: IncomingBatch, wide: Sequence[int]) -> dict[int, set[tuple[bytes, str]]]:
    """Return which older opt-outs of other slots the opt-ins at these places would lift, since they mean those too."""
    target_of = {batch.numbers[key]: key for place in wide if (key := batch.rows[place][TARGET]) in batch.numbers}
    held: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
    for some in portions(list(target_of)):
        query = select(slots.c.target_id, slots.c.slot, slots.c.newest_at).where(slots.c.newest_action == _OUT)
        for number, slot, since in tx.execute(query.where(among(slots.c.target_id, some))):
            held[target_of[number]].append((slot, since))
    found: dict[int, set[tuple[bytes, str]]] = defaultdict(set)
    for place, row in ((place, batch.rows[place]) for place in wide):
        for slot, since in held[row[TARGET]]:
            if row[SINCE] > since and effects.covers_by_text(row[SLOT], slot):
                found[place].add((row[TARGET], slot))
    return found


def _holding(lock: RecordingLock, sender: _Sender, rules: GuardRules, now: int) -> str | None:
    """Return the import that holds a sender's opt-ins, which is begun if it is time; None if they are not held."""
    tx = lock.tx
    mine = (event_guards.c.sender == sender.name, event_guards.c.connection == sender.connection)
    row = tx.execute(select(event_guards).where(*mine).with_for_update()).first()
    if row is not None and row.import_id is not None and _is_held(tx, row.import_id):
        return str(row.import_id)
    if not sender.overruling or Guard.OVERRULING_OPTINS in rules.switched_off:
        return None
    since, before, look_at = now, 0, rules.overruling_from + 1
    if row is not None and row.import_id is None and now - row.since <= _HOUR:
        since, before, look_at = row.since, row.overruled, row.look_at
    overruled, import_id = before + sender.overruling, None
    if overruled >= look_at:
        share = rules.overruling_share
        enough = ceil(round(overruled / share, 6)) if share else 0
        if not share or effects.standing_optouts(tx, sender.connection, enough) < enough:
            import_id = _begin(tx, sender, now)
        look_at = 2 * overruled
    facts = (sender.name, sender.connection, since, overruled, look_at, import_id)
    tx.execute(delete(event_guards).where(*mine))
    bulk(tx).insert(event_guards, [column.name for column in event_guards.c], [facts])
    return import_id


def _is_held(tx: Connection, import_id: str) -> bool:
    return tx.execute(select(imports.c.state).where(imports.c.id == import_id)).scalar() == "held"


def _begin(tx: Connection, sender: _Sender, now: int) -> str:
    """Begin the import that holds a sender's opt-ins; return its id."""
    mark = sha256(f"{HELD_OPTINS} {sender.name} {sender.connection} {secrets.token_hex(8)}".encode()).hexdigest()
    source = ImportSource(
        HELD_OPTINS, f"opt-ins of {sender.name} at {sender.connection}", mark, 0, None, importer=sender.name
    )
    import_id = begin_import(tx, source, now)
    tx.execute(update_of(imports).where(imports.c.id == import_id).values(state="held", read_at=now, checked_at=now))
    note_decision(tx, import_id, OPTRELAY, "held", Guard.OVERRULING_OPTINS.value, now)
    return import_id


def _explain(tx: Connection, import_id: str, sender: _Sender, rules: GuardRules) -> None:
    """Write down why the opt-ins are held, with the first of them, unless that is done."""
    if tx.execute(select(imports.c.findings).where(its := imports.c.id == import_id)).scalar() is not None:
        return
    lifts = effects.returning(tx, import_id) or effects.returning_by_wider(tx, import_id, [sender.connection])
    examples = [one for found in lifts for one in found.examples]
    message = (
        f"within an hour opt-ins of {sender.name} would overrule more than {rules.overruling_from} opt-outs of "
        f"{sender.connection}, and more than {rules.overruling_share:.2%} of those that stand: "
        "its opt-ins wait, its opt-outs go on"
    )
    found = Finding(Guard.OVERRULING_OPTINS, holds=True, message=message, examples=tuple(examples))
    tx.execute(update_of(imports).where(its).values(findings=json.dumps([found.as_json()])))


@dataclass(frozen=True, slots=True)
class Burst:
    """So many opt-outs by events within ten minutes, where an hour usually has `usual` at most."""

    connection: str
    optouts: int
    usual: int


class EventGuards(LedgerPart):
    """Bursts of opt-outs; for the sweep. Each method raises LedgerUnavailable."""

    def bursts(self) -> list[Burst]:
        """Count what has come since, and return the connections with a burst of opt-outs at this moment."""
        minute = self.core.now() // _MINUTE
        while self.database.write(_count_next):
            pass
        old = delete(event_optouts).where(event_optouts.c.minute < minute - (_DAYS + 1) * 24 * _HOUR_MINUTES)
        self.database.write(lambda tx: tx.execute(old))
        return self.database.read(lambda tx: list(_bursts(tx, minute)))


def _count_next(tx: Connection) -> bool:
    """Count the opt-outs among the next changes; return whether there may be more. Those from before count as known."""
    lock_tallies(tx)
    position = tallies.c.name == SEEN_TO
    last = tx.execute(select(func.coalesce(func.max(changes.c.id), 0))).scalar_one()
    seen = tx.execute(select(tallies.c.value).where(position)).scalar()
    if seen is None or seen >= last:
        if seen is None:
            add(tx, {(SEEN_TO, ()): last})
        return False
    until = min(last, seen + _AT_ONCE)
    minute = changes.c.recorded_at.op("/")(literal_column(str(_MINUTE)))
    mine = (changes.c.id > seen, changes.c.id <= until, changes.c.origin == Origin.EVENT.value)
    query = select(targets.c.connection, minute, func.count()).join(targets, targets.c.id == changes.c.target_id)
    query = query.where(*mine, changes.c.action == _OUT).group_by(targets.c.connection, minute)
    rows: Collection[Row[Any]] = tx.execute(query).all()
    renew = "ON CONFLICT (connection, minute) DO UPDATE SET optouts = event_optouts.optouts + excluded.optouts"
    bulk(tx).insert(event_optouts, ("connection", "minute", "optouts"), [tuple(row) for row in rows], renew)
    add(tx, {(SEEN_TO, ()): until - seen})
    return bool(until < last)


def _bursts(tx: Connection, minute: int) -> Iterator[Burst]:
    its, begins = event_optouts.c, minute - _WINDOW_MINUTES
    lately = select(its.connection, func.sum(its.optouts)).where(its.minute > begins).group_by(its.connection)
    for connection, count in tx.execute(lately.having(func.sum(its.optouts) > MOST_OPTOUTS)).all():
        hour = its.minute.op("/")(literal_column(str(_HOUR_MINUTES)))
        since = begins - _HOURS * _HOUR_MINUTES
        hours = select(func.sum(its.optouts)).where(its.connection == connection, its.minute > since)
        found = sorted(tx.execute(hours.where(its.minute <= begins).group_by(hour)).scalars())
        usual = int(([0] * (_HOURS - len(found)) + found)[int(_USUAL_SHARE * _HOURS) - 1])
        if count > TIMES_USUAL * usual:
            yield Burst(connection, int(count), usual)
