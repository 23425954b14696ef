"""A batch of incoming changes: as rows of the ledger, held against what the ledger has, and recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from operator import itemgetter
from typing import NamedTuple, Self

from sqlalchemy import Connection

from consent.change import Action, ConsentChange, Origin
from consent.deadlines.rules import DeadlineRules
from consent.ledger.dialects.locks import RecordingLock
from consent.ledger.dialects.statements import Row, bulk
from consent.ledger.keys import KEY_BYTES, Keys, note_forms, parse_public_id, public_id, timed_key, under_main_keys
from consent.ledger.merge import may_be_noop, restates
from consent.ledger.schema import changes, noop_changes, targets
from consent.outcome import State
from consent.reassert import Reassert, ReassertRules

_TARGET_COLUMNS = ("target_key", "connection", "bucket", "address")
_ROW_COLUMNS = (*("dedupe_key", "line", "target_id", "slot", "action", "value", "effective_at", "details", "own_time"),)
_CHANGE_COLUMNS = (*_ROW_COLUMNS, "recorded_at", "due_at", "rule", "import_id", "origin", "state")
_NOOP_COLUMNS = (
    *("import_id", "number", "target_id", "line", "dedupe_key", "slot", "action", "effective_at", "details"),
    *("own_time", "due_at", "rule"),
)
_OUT, _IN = Action.OPTOUT.value, Action.OPTIN.value
_NO_DEADLINE = (None, None)
KEY, LINE, TARGET, SLOT, ACTION, VALUE, SINCE, DETAILS, OWN_TIME = range(9)
"""Where a row holds what; its target is named by key."""


class _Alias(NamedTuple):
    """Another key of a change; with `exactly`, only if the recorded one that has it says all the same."""

    key: bytes
    exactly: bool


@dataclass(slots=True)
class IncomingBatch:
    """The changes of a chunk or of some events, in the order of arrival, and their targets by key.

    `numbers` holds those of the targets that the ledger has, and `known` the keys of the changes that it has, so this
    belongs to one transaction: the numbers that it adds are gone if it fails. `named` holds the keys of changes with a
    change id: that is the producer's own word for sameness, so such a key must be looked up among all changes and is
    never a no-op. `aliases` holds for some changes another key under which the ledger may have them, if it has them at
    the same time (and, if so asked, exactly as they are).
    """

    rows: list[Row]
    targets: Mapping[bytes, Row]
    named: frozenset[bytes] = frozenset()
    aliases: Mapping[bytes, _Alias] = field(default_factory=dict)
    numbers: dict[bytes, int] = field(default_factory=dict)
    known: set[bytes] = field(default_factory=set)

    @classmethod
    def of(cls, secret: bytes, incoming: Sequence[ConsentChange], now: int, deadlines: DeadlineRules) -> Self:
        """Return these changes as a batch, each opt-out with its deadline; nothing has been looked up yet."""
        keys, rows = Keys(secret), []
        named: set[bytes] = set()
        aliases: dict[bytes, _Alias] = {}
        found: dict[bytes, Row] = {}
        for change in incoming:
            since = change.effective_at
            target, address, key, details = keys.of(change, since)
            if target not in found:
                found[target] = (target, change.connection, change.bucket, address)
            out = change.action is Action.OPTOUT
            what = (change.slot, _OUT if out else _IN, change.value, since, details, int(change.own_time), now)
            due = deadlines.of(change.connection, change.slot, since, now) if out else _NO_DEADLINE
            if change.change_id is not None or change.recorded_as is not None:
                named.add(key)
                if (alias := _alias(keys, target, change)) is not None:
                    aliases[key] = alias
            rows.append((key, change.line, target, *what, *due))
        return cls(rows, found, frozenset(named), aliases)

    def split_rows(self, action: Action) -> tuple[IncomingBatch, list[Row]]:
        """Return the rows with this action as a batch that knows what this one knows, and the other rows."""
        mine = [row for row in self.rows if row[ACTION] == action.value]
        return replace(self, rows=mine), [row for row in self.rows if row[ACTION] != action.value]

    @property
    def keys(self) -> list[bytes]:
        """The dedupe keys."""
        return [row[KEY] for row in self.rows]

    @property
    def public_ids(self) -> tuple[str, ...]:
        """The ids under which outsiders know these changes."""
        return tuple(public_id(row[TARGET], row[KEY]) for row in self.rows)

    @property
    def target_of(self) -> dict[bytes, int]:
        """The dedupe keys of those changes whose targets the ledger has, each with its target's number."""
        return {row[KEY]: self.numbers[row[TARGET]] for row in self.rows if row[TARGET] in self.numbers}

    @property
    def target_of_aliases(self) -> list[tuple[bytes, int]]:
        """The other keys of those changes whose targets the ledger has, each with its target's number."""
        return [(self.aliases[key].key, number) for key, number in self.target_of.items() if key in self.aliases]

    def own_times(self, rows: int) -> list[int]:
        """Since when the rows hold that say so themselves, so many rows in all; one may make several changes."""
        if rows >= len(self.rows):
            return [row[SINCE] for row in self.rows if row[OWN_TIME]]
        first_of_rows = {row[LINE]: row for row in reversed(self.rows)}.values()
        return [row[SINCE] for row in first_of_rows if row[OWN_TIME]]

    def lookup_existing(self, tx: Connection) -> None:
        """Find the targets and the changes that the ledger has."""
        self.lookup_targets(tx)
        self.lookup_changes(tx)

    def lookup_targets(self, tx: Connection) -> None:
        """Find the targets that the ledger has."""
        self.rows, self.targets = under_main_keys(tx, self.rows, self.targets, TARGET)
        self.numbers = dict(bulk(tx).select_by_key("target_key, id FROM targets WHERE target_key", list(self.targets)))

    def lookup_changes(self, tx: Connection) -> None:
        """Find the changes that the ledger has of the targets that were found."""
        if not self.named:
            self.known = {key for (key,) in bulk(tx).select_changes("dedupe_key", self.target_of.items())}
            return
        since_of: dict[bytes, int] = dict(bulk(tx).select_changes("dedupe_key, effective_at", self.target_of.items()))
        self.known = set(since_of)
        if self.aliases and (others := bulk(tx).select_changes(_ALIAS_FACTS, self.target_of_aliases)):
            recorded = {(key, target): tuple(facts) for key, target, *facts in others}
            self.rows = [self._by_its_alias(row, recorded) for row in self.rows]
            since_of |= {key: facts[3] for (key, _), facts in recorded.items()}
        self._tell_apart(tx, since_of)

    def _by_its_alias(self, row: Row, recorded: Mapping[tuple[bytes, int | None], Row]) -> Row:
        """Return a row under the key that the ledger has it by, if that is its alias."""
        alias = self.aliases.get(row[KEY])
        if alias is None or row[KEY] in self.known:
            return row
        found = recorded.get((alias.key, self.numbers.get(row[TARGET])))
        if found is None:
            return row
        if found != row[SLOT:OWN_TIME] if alias.exactly else found[3] != row[SINCE]:
            return row
        self.known.add(alias.key)
        return (alias.key, *row[1:])

    def _tell_apart(self, tx: Connection, since_of: dict[bytes, int]) -> None:
        """Make another change of one whose id is known with another time, if its own time is its sender's word.

        So a retry, which says the same time, is a duplicate, and a number that is used twice loses nothing.
        """
        apart: dict[bytes, int] = {}
        for place, row in enumerate(self.rows):
            key, since = row[KEY], row[SINCE]
            if key in self.named and since_of.setdefault(key, since) != since and row[OWN_TIME]:
                own = timed_key(key, since)
                self.rows[place] = (own, *row[1:])
                if (number := self.numbers.get(row[TARGET])) is not None:
                    apart[own] = number
        self.known.update(key for (key,) in bulk(tx).select_changes("dedupe_key", apart.items()))

    def set_noops_aside(self, lock: RecordingLock, import_id: str, first: int, rules: ReassertRules) -> int:
        """Look the batch up; take duplicates of newest changes out of it, and no-ops, which are kept; return how many.

        No-ops are numbered from `first`. No opt-out is one where they are always sent.
        """
        tx, aside, again, always = lock.tx, [], [], self._always_sent(rules)
        rows, self.targets = under_main_keys(tx, self.rows, self.targets, TARGET)
        self.rows = []
        registers = bulk(tx).select_registers([row[TARGET] for row in rows], [row[SLOT] for row in rows])
        for place, row in enumerate(rows):
            if (held := registers.get(place)) is None:
                self.rows.append(row)
                continue
            key, line, target, slot, action, value, since, details, own, _, *due = row
            number, newest_at, newest_action, newest_key, confirmed = held
            self.numbers[target] = number
            if action == _OUT and target in always:
                if _is_restated(row, held):
                    again.append(len(self.rows))
                self.rows.append(row)
            elif newest_key == key:
                continue
            elif (
                not value and key not in self.named and may_be_noop(action, since, newest_at, newest_action, confirmed)
            ):
                aside.append((number, line, key, slot, action, since, details, own, *due))
            else:
                self.rows.append(row)
        aside.sort(key=itemgetter(0))  # by target, as ordinary changes
        self.lookup_changes(tx)
        self.rename_known(tx, again, import_id)
        noops = [(import_id, number, *noop) for number, noop in enumerate(aside, first)]
        bulk(tx).insert(noop_changes, _NOOP_COLUMNS, noops)
        return len(noops)

    def _always_sent(self, rules: ReassertRules) -> set[bytes]:
        """Return the targets whose opt-outs are sent whatever is confirmed."""
        if Reassert.ALWAYS not in (rules.default, *rules.by_connection.values()):
            return set()
        return {key for key, (_, connection, *_) in self.targets.items() if rules.of(connection) is Reassert.ALWAYS}

    def resend_known_optouts(self, tx: Connection, import_id: str, rules: ReassertRules) -> None:
        """Let the known opt-outs be sent once more that a file says again to targets whose opt-outs are always sent.

        To be called after `lookup_existing`.
        """
        always = self._always_sent(rules)
        out = [
            place
            for place, row in enumerate(self.rows)
            if row[ACTION] == _OUT and row[TARGET] in always and row[KEY] in self.known
        ]
        if not out:
            return
        rows = [self.rows[place] for place in out]
        registers = bulk(tx).select_registers([row[TARGET] for row in rows], [row[SLOT] for row in rows])
        again = [out[number] for number, held in registers.items() if _is_restated(rows[number], held)]
        self.rename_known(tx, again, import_id)

    def places_of(self, tx: Connection, import_id: str) -> list[int]:
        """Return where the changes stand that the ledger has from this import. To be called after a lookup."""
        found = bulk(tx).select_changes("dedupe_key, import_id", self.target_of.items())
        its = {key for key, owner in found if owner == import_id}
        return [place for place, row in enumerate(self.rows) if row[KEY] in its]

    def rename_known(self, tx: Connection, places: Sequence[int], import_id: str) -> None:
        """Make new changes of the known ones at these places: the file has them sent once more.

        Each has a key of its own in this import, so that the same row further down is a duplicate.
        """
        known = [place for place in places if self.rows[place][KEY] in self.known]
        if not known:
            return
        for place in known:
            key, *rest = self.rows[place]
            own = blake2b(key + import_id.encode(), digest_size=KEY_BYTES).digest()
            self.rows[place] = (own, *rest)
        self.lookup_changes(tx)

    def record(self, lock: RecordingLock, import_id: str, origin: Origin, state: State = State.PENDING) -> int:
        """Record the changes that are new, with their targets; return how many. To be called after a lookup."""
        rows = self._new_rows(lock.tx, import_id, origin, state)
        bulk(lock.tx).insert(changes, _CHANGE_COLUMNS, rows)
        return len(rows)

    def record_numbered(self, lock: RecordingLock, import_id: str, origin: Origin) -> Sequence[int]:
        """Do the same, and return their numbers."""
        rows = self._new_rows(lock.tx, import_id, origin, State.PENDING)
        return list(bulk(lock.tx).insert_numbered(changes, _CHANGE_COLUMNS, rows).values())

    def _new_rows(self, tx: Connection, import_id: str, origin: Origin, state: State) -> list[Row]:
        """Return the changes that are new, and record their targets.

        They are laid down target by target, so that neighbours, which are merged, claimed and settled together, lie
        together.
        """
        self._add_targets(tx)
        fresh: dict[bytes, Row] = {}
        for row in self.rows:
            if row[KEY] not in self.known:
                fresh.setdefault(row[KEY], row)
        constant, numbers = (import_id, origin.value, state.value), self.numbers
        rows = [(key, line, numbers[target], *rest, *constant) for key, line, target, *rest in fresh.values()]
        rows.sort(key=itemgetter(TARGET))  # of one target they stay as they arrived: that decides ties
        return rows

    def _add_targets(self, tx: Connection) -> None:
        """Make the targets that the ledger does not have, numbered in the order of arrival."""
        new = [key for key in dict.fromkeys(row[TARGET] for row in self.rows) if key not in self.numbers]
        if not new:
            return
        self.numbers |= bulk(tx).insert_numbered(targets, _TARGET_COLUMNS, [self.targets[key] for key in new])
        note_forms(tx, ((self.targets[key][1], self.targets[key][3]) for key in new))


_ALIAS_FACTS = "dedupe_key, target_id, slot, action, changes.value, effective_at, details"


def _is_restated(row: Row, held: Row) -> bool:
    """Whether a row restates its slot's newest change, which the provider is confirmed to hold (`merge.restates`)."""
    _, newest_at, newest_action, _, confirmed = held
    return restates((row[SINCE], row[ACTION], row[VALUE]), newest_at, newest_action, confirmed)


def _alias(keys: Keys, target: bytes, change: ConsentChange) -> _Alias | None:
    if change.recorded_as is not None:
        parsed = parse_public_id(change.recorded_as)
        return None if parsed is None else _Alias(parsed[1], exactly=True)
    return _Alias(keys.without_sender(target, change), exactly=False) if change.sender else None
