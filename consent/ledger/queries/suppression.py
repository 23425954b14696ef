"""Who may not be contacted: every opt-out that stands, also one that waits, is held, or died on its way.

An opt-out stands unless the same person opted in later, in the same slot or in one that covers it, and that opt-in has
been published: an opt-in of a held file lifts nothing. Whether the provider has been told makes no difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import BigInteger, Column, Connection, Integer, Table, Text, func, select

from consent.change import Action
from consent.identifiers.identity import identity_of
from consent.identifiers.suppression import Question, StandingOptOut, SuppressionCheck, SuppressionRules
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.statements import Row, among, bulk, plain_rows
from consent.ledger.keys import Form, Keys, aliases_of, form_columns, form_of, known_forms, read_form
from consent.ledger.review.guard_checks import PARTLY_HELD
from consent.ledger.schema import changes, dead_letters, imports, metadata, noop_changes, slots, targets
from consent.outcome import State

T = TypeVar("T")

suppression_checks = Table(
    "suppression_checks",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("who", "source", "sha256", "channel", "priority")),
    *(Column(name, Text, nullable=False) for name in ("connections", "unknown")),
    *(Column(name, BigInteger, nullable=False) for name in ("clean", "stopped")),
)
"""Every check of an audience: who asked, what of which bytes, and how many may be contacted. It names none of them."""

_OUT, _IN = Action.OPTOUT.value, Action.OPTIN.value
_UNMERGED = (State.PENDING.value, State.HELD.value, State.DEAD.value)
_TARGETS = "id, connection, target_key FROM targets WHERE target_key"
_UNPUBLISHED = ("reading", "read", "held")


_IMPORTS = select(imports.c.id).where(imports.c.state.in_(_UNPUBLISHED) | imports.c.id.in_(PARTLY_HELD))
_NEW = (changes.c.action == _OUT) & ~(
    select(slots.c.newest_id)
    .where(slots.c.target_id == changes.c.target_id, slots.c.slot == changes.c.slot, slots.c.newest_id == changes.c.id)
    .exists()
)
_WAITING = (
    _NEW & changes.c.import_id.in_(_IMPORTS) & changes.c.state.in_((State.PENDING.value, State.HELD.value)),
    _NEW & changes.c.id.in_(select(dead_letters.c.change_id)) & (changes.c.state == State.DEAD.value),
)
"""Opt-outs that no register knows: of files that are not published, or not wholly, and those that died before."""


class OptOutCount(NamedTuple):
    """How many opt-outs there are of this slot, by addresses of this form."""

    connection: str
    form: Form
    slot: str
    optouts: int


class Suppression(LedgerPart):
    """Whether people may be contacted, and the record of who asked."""

    def look(self, work: Callable[[SuppressionView], T]) -> T:
        """Do work on one view of the ledger, which holds all that was recorded before; raises LedgerUnavailable."""
        secret = self.database.hash_key
        return self.database.read(lambda tx: work(SuppressionView(tx, secret)), by_key=True)

    def count_optouts(self) -> list[OptOutCount]:
        """Count the opt-outs by connection, form of address and slot; it reads all of them."""

        def work(tx: Connection) -> list[OptOutCount]:
            counts: list[Row] = []
            for table, which in ((slots, slots.c.newest_action == _OUT), *((changes, one) for one in _WAITING)):
                terms = [column.label(f"c{n}") for n, column in enumerate((*form_columns(tx), table.c.slot))]
                held = select(targets.c.connection, *terms).join_from(table, targets, targets.c.id == table.c.target_id)
                one = held.where(which).subquery()
                counts += plain_rows(tx.execute(select(*one.c, func.count()).group_by(*one.c)))
            return [OptOutCount(row[0], read_form(*row[1:4]), row[4], row[5]) for row in counts]

        return self.database.read(work)

    def record(self, check: SuppressionCheck) -> int:
        """Record a check that was made; return its number."""
        values = {
            "at": self.core.now(),
            **{name: getattr(check, name) for name in ("who", "source", "sha256", "clean", "stopped")},
            **check.question._asdict(),
            "connections": " ".join(check.connections),
            "unknown": check.unknown or "",
        }
        insert = suppression_checks.insert().values(**values).returning(suppression_checks.c.id)
        return self.database.write(lambda tx: int(tx.execute(insert).scalar_one()))

    def checks(self, most: int = 100) -> list[dict[str, Any]]:
        """Return the newest checks, the newest first."""
        query = select(suppression_checks).order_by(suppression_checks.c.id.desc()).limit(most)
        return self.database.read(lambda tx: [dict(row) for row in tx.execute(query).mappings()])


class SuppressionView:
    """One view of the ledger, in which people are looked up by key."""

    def __init__(self, tx: Connection, secret: bytes) -> None:
        self._tx = tx
        self._keys = Keys(secret)
        self.forms = known_forms(tx)
        self._unsaid = _noops_to_come(tx)
        self._places: dict[tuple[Any, ...], list[Form]] = {}

    def keys(self, connection: str, address: Mapping[str, str]) -> list[bytes]:
        """Return the keys that a person of this address may have, wherever the name is looked up."""
        form = form_of(address)
        named = (connection, *form.items())
        if (places := self._places.get(named)) is None:
            places = self._places[named] = [one for one in self.forms.get(connection, ()) if _fits(form, one)]
        if not places:
            return []
        identity, key = identity_of(address), self._keys.identity  # a place says nothing of how a name is spelled
        return [key(connection, {**place, **identity}) for place in places]

    def standing(
        self, keys: Sequence[bytes], rules: Mapping[str, SuppressionRules], question: Question
    ) -> dict[bytes, StandingOptOut]:
        """Return of the people with these keys those who may not be contacted, each with the oldest reason."""
        aliases = aliases_of(self._tx, keys)
        found = bulk(self._tx).select_by_key(_TARGETS, [*keys, *(main for main, _ in aliases)])
        by_key = {key: (number, connection) for number, connection, key in found}
        by_key |= {alias: by_key[main] for main, alias in aliases}
        connections = {number: name for number, name in by_key.values() if name in rules}
        reasons = self._reasons(connections, rules, question)
        return {key: reasons[number] for key, (number, _) in by_key.items() if number in reasons}

    def _reasons(
        self, connections: Mapping[int, str], rules: Mapping[str, SuppressionRules], question: Question
    ) -> dict[int, StandingOptOut]:
        if not connections:
            return {}
        outs, ins = self._statements(list(connections))
        oldest: dict[int, Row] = {}
        for whose, optouts in outs.items():
            mine = rules[connections[whose]]
            stands = [
                one
                for one in optouts
                if mine.stops(one[0], question)
                and not any(since > one[1] and mine.covers(wide, one[0]) for wide, since in ins.get(whose, ()))
            ]
            if stands:
                oldest[whose] = min(stands, key=lambda one: one[1])
        facts = self._facts([one[2] for one in oldest.values()])
        return {
            whose: StandingOptOut(connections[whose], slot, since, *facts[number])
            for whose, (slot, since, number) in oldest.items()
        }

    def _statements(self, numbers: Sequence[int]) -> tuple[dict[int, list[Row]], dict[int, list[Row]]]:
        """Return the opt-outs of targets (slot, since when, the change), and the opt-ins that may lift them."""
        outs: dict[int, list[Row]] = defaultdict(list)
        ins: dict[int, list[Row]] = defaultdict(list)
        names = ("target_id", "slot", "newest_action", "newest_at", "newest_id")
        registers = select(*(slots.c[name] for name in names)).where(among(slots.c.target_id, numbers))
        for whose, slot, action, since, number in plain_rows(self._tx.execute(registers)):
            (outs if action == _OUT else ins)[whose].append((slot, since, number) if action == _OUT else (slot, since))
        which = (changes.c.action == _OUT, changes.c.state.in_(_UNMERGED))
        waiting = select(*(changes.c[name] for name in ("target_id", "slot", "effective_at", "id")))
        waiting = waiting.where(among(changes.c.target_id, numbers), *which)
        for whose, *facts in plain_rows(self._tx.execute(waiting)):
            outs[whose].append(tuple(facts))
        for whose in self._unsaid.keys() & set(numbers) if self._unsaid else ():
            outs[whose] += self._unsaid[whose]
        return outs, ins

    def _facts(self, numbers: Iterable[int]) -> dict[int, Row]:
        """Return the state of changes, and where they came from."""
        query = select(changes.c.id, changes.c.state, changes.c.import_id)
        rows = plain_rows(self._tx.execute(query.where(among(changes.c.id, list(numbers)))))
        return {number: (state, import_id) for number, state, import_id in rows}


def _fits(named: Form, form: Form) -> bool:
    """Whether an address of this form can be one that is named so, but for where it is looked up."""
    place = form.keys() - named.keys()
    return place <= {"source", "source_account_id"} and named.items() <= form.items()


def _noops_to_come(tx: Connection) -> dict[int, list[Row]]:
    """Return the opt-outs that files which are not published yet only repeat, where an older opt-in stands now.

    They repeat what stood when they were read. If an opt-in from before them has come since, they will overrule it.
    """
    some = select(imports.c.id).where(imports.c.state.in_(_UNPUBLISHED), imports.c.noops > 0)
    waiting = list(tx.execute(some).scalars())
    if not waiting:
        return {}
    noops, lifted, own = noop_changes.c, slots.alias(), slots.alias()
    query = (
        select(noops.target_id, noops.slot, noops.effective_at, own.c.newest_id)
        .join_from(noop_changes, lifted, (lifted.c.target_id == noops.target_id) & (lifted.c.newest_action == _IN))
        .join(own, (own.c.target_id == noops.target_id) & (own.c.slot == noops.slot))
        .where(noops.import_id.in_(waiting), noops.action == _OUT, lifted.c.newest_at <= noops.effective_at)
        .distinct()
    )
    found: dict[int, list[Row]] = defaultdict(list)
    for whose, *facts in plain_rows(tx.execute(query)):
        found[whose].append(tuple(facts))
    return found
