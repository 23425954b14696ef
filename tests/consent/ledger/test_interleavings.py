"""The rule in Python is the oracle of the rule in SQL: whatever is interleaved, the ledger's slots say what it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from itertools import count
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from consent.change import Action, ConsentChange, to_micros
from consent.imports import ImportSource
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.intake import noops, publish, reassign
from consent.ledger.ledger import Ledger
from consent.ledger.merge import NoOp, Register, Superseded, Version, Wins, may_be_noop, merge
from consent.ledger.queue.tasks import CustomerTask
from consent.outcome import Applied, PermanentFailure
from consent.reassert import Reassert, ReassertRules
from tests.support.examples import examples
from tests.support.ledgers import BUCKET, MORNING, recorded, settlement, word

Slot = tuple[str, str]


class Row(NamedTuple):
    """A row of a file, or an event."""

    who: str
    slot: str
    action: Action
    minute: int
    value: str
    own_time: bool

    @property
    def place(self) -> Slot:
        """Whose slot it is about."""
        return self.who, self.slot

    @property
    def key(self) -> Row:
        """What it says, by which it is known again."""
        return self._replace(own_time=True)

    def change(self) -> ConsentChange:
        """The row as a change."""
        said = word(self.who, str(self.action), self.minute, self.slot, holds=self.value)
        return replace(said, value=self.value, own_time=self.own_time)


who, actions, minutes = st.sampled_from("1112"), st.sampled_from(Action), st.sampled_from((1, 1, 2, 5, 9))
rows = st.one_of(
    st.builds(Row, who, st.just("a"), actions, minutes, st.just(""), st.booleans()),
    st.builds(Row, who, st.just("holds"), actions, minutes, st.sampled_from("xy"), st.booleans()),
)
OUT = Row("1", "holds", Action.OPTOUT, 1, "x", own_time=True)
files = st.lists(rows, min_size=1, max_size=5)
steps = st.one_of(
    st.tuples(st.just("import"), files),
    st.tuples(st.just("break off"), files),
    st.tuples(st.just("go on"), st.just([])),
    st.tuples(st.just("events"), st.lists(rows, min_size=1, max_size=2)),
    st.tuples(st.sampled_from(["claim", "claim", "settle", "settle", "settle late", "reject", "replay"]), st.just([])),
)


@dataclass
class File:
    """An import that has been recorded: its ordinary changes that are kept back, and what may be a no-op."""

    import_id: str = ""
    kept: dict[Row, Version] = field(default_factory=dict)
    noops: list[tuple[Row, Version]] = field(default_factory=list)
    known: list[Row] = field(default_factory=list)


@dataclass
class Claim:
    """What a worker has taken: versions by slot, and the tasks of the ledger."""

    token: str
    tasks: list[CustomerTask]
    taken: dict[Slot, Version]


class Oracle:
    """Registers that only `merge.merge` has decided, and who has been told what."""

    def __init__(self, reassert: Reassert) -> None:
        self.reassert = reassert
        self.registers: dict[Slot, Register] = {}
        self.pending: set[Slot] = set()
        self.dead: set[Slot] = set()
        self.leases: dict[str, str] = {}
        self.resend: set[str] = set()
        self.owners: dict[Row, File | None] = {}
        self._arrivals = count()

    def record(self, said: Sequence[Row]) -> File:
        """Record a file; nothing of it counts yet."""
        file = File()
        again = {row for row in said if self._is_sent_again(row)}
        for row in said:
            version = Version(_moment(row.minute), row.action, next(self._arrivals), row.value, row.own_time)
            if row in again:
                again.discard(row)
                file.noops.append((row, version))
            elif self._may_be_noop(row):
                file.noops.append((row, version))
            elif row.key in self.owners:
                file.known.append(row.key)
            else:
                self.owners[row.key] = file
                file.kept[row.key] = version
        return file

    def publish(self, file: File) -> None:
        """Merge what a file says, and what it takes over of files that broke off."""
        for key in file.known:
            self._take_over(key, file)
        for row, version in file.noops:
            if row.key in self.owners and not (self._always and row.action is Action.OPTOUT):
                self._take_over(row.key, file)
            else:
                self.owners.setdefault(row.key, None)
                self._merge(row.place, version)
        for key, version in file.kept.items():
            self.owners[key] = None
            self._merge(key.place, version)
        file.kept = {}

    def events(self, said: Sequence[Row]) -> None:
        """Merge events at once, and what files that broke off keep back of them."""
        for row in said:
            if row.key in self.owners:
                self._take_over(row.key, None)
                continue
            self.owners[row.key] = None
            version = Version(_moment(row.minute), row.action, next(self._arrivals), row.value)
            self._merge(row.place, version)

    def claim(self, token: str) -> dict[Slot, Version]:
        """Take everything that is due or under a lease that is over; what is confirmed of it is unknown."""
        taken = {slot: self._newest(slot) for slot in self.pending}
        self.registers |= {slot: Register(version) for slot, version in taken.items()}
        self.leases = {slot[0]: token for slot in taken}
        self.resend.clear()
        return taken

    def settle(self, claim: Claim, *, applied: bool, now: int) -> None:
        """Confirm what was applied, under a lease that is held; else let the newest be sent once more."""
        for one in {slot[0] for slot in claim.taken}:
            its = {slot: version for slot, version in claim.taken.items() if slot[0] == one}
            if self.leases.get(one) != claim.token:
                self._settle_late(one, its)
                continue
            del self.leases[one]
            if one in self.resend:
                self.resend.discard(one)
                continue
            for slot, version in its.items():
                self._settle(slot, version, applied=applied, now=now)

    def replay(self) -> None:
        """Send dead letters again that are still the newest of their slots."""
        self.pending |= self.dead
        self.dead.clear()

    @property
    def _always(self) -> bool:
        return self.reassert is Reassert.ALWAYS

    def _newest(self, slot: Slot) -> Version:
        newest = self.registers[slot].newest
        assert newest is not None
        return newest

    def _may_be_noop(self, row: Row) -> bool:
        held = self.registers.get(row.place, Register())
        if held.newest is None or row.value or (self._always and row.action is Action.OPTOUT):
            return False
        if (held.newest.effective_at, held.newest.action) == (_moment(row.minute), row.action):
            return False  # it is the very newest one, or of the same moment and known by its key
        return may_be_noop(row.action, _moment(row.minute), *held.newest[:2], held.confirmed)

    def _is_sent_again(self, row: Row) -> bool:
        held = self.registers.get(row.place, Register())
        same = held.newest is not None and (_moment(row.minute), row.action) == held.newest[:2]
        return self._always and row.action is Action.OPTOUT and same and held.confirmed == row.action + row.value

    def _take_over(self, key: Row, file: File | None) -> None:
        owner = self.owners.get(key)
        if owner is not None and owner is not file:
            self.owners[key] = None
            self._merge(key.place, owner.kept.pop(key))

    def _merge(self, slot: Slot, version: Version) -> None:
        before = self.registers.get(slot, Register())
        self.registers[slot], result = merge(before, version, reassert=self.reassert)
        match result:
            case Wins():
                self.pending.add(slot)
                self.dead.discard(slot)
            case NoOp():
                self.pending.discard(slot)
                self.dead.discard(slot)
            case Superseded(_, resends=True):
                self.pending.add(slot)

    def _settle(self, slot: Slot, version: Version, *, applied: bool, now: int) -> None:
        newest = self._newest(slot)
        if applied:
            self.registers[slot] = Register(newest, version.says, now)
        if newest == version:
            self.pending.discard(slot)
            if not applied:
                self.dead.add(slot)

    def _settle_late(self, one: str, its: dict[Slot, Version]) -> None:
        for slot in its:
            self.registers[slot] = Register(self._newest(slot))
            if slot not in self.dead:
                self.pending.add(slot)
        if one in self.leases and self.pending & set(its):
            self.resend.add(one)


class Interleaving:
    """Does each step to the ledger and to the oracle."""

    def __init__(self, ledger: Ledger, reassert: Reassert) -> None:
        self.ledger, self.oracle = ledger, Oracle(reassert)
        self.claims: list[Claim] = []
        self.broken: list[File] = []
        self.run = ledger.intake.open_import(
            ImportSource("redis", "stream", f"run {next(_number)}", 0, None, stream=True)
        )

    def step(self, name: str, said: Sequence[Row]) -> None:
        """Do one step."""
        ways = {
            "import": self._import,
            "break off": self._break_off,
            "go on": self._go_on,
            "events": self._events,
            "claim": self._claim,
            "settle": partial(self._settle, -1, applied=True),
            "reject": partial(self._settle, -1, applied=False),
            "settle late": partial(self._settle, 0, applied=True),
            "replay": self._replay,
        }
        ways[name](*[said] if said else ())

    def _import(self, said: Sequence[Row]) -> None:
        self._publish(self._record(said))

    def _break_off(self, said: Sequence[Row]) -> None:
        if self.oracle.reassert is Reassert.ALWAYS:  # what is sent once more is decided as it is read
            self._import(said)
        else:
            self.broken.append(self._record(said))

    def _go_on(self) -> None:
        if self.broken:
            self._publish(self.broken.pop(0))

    def _events(self, said: Sequence[Row]) -> None:
        self.oracle.events([row._replace(own_time=True) for row in said])
        changes = [replace(row.change(), own_time=True) for row in said]
        self.ledger.intake.accept_events(self.run.import_id, changes, [])

    def _replay(self) -> None:
        self.oracle.replay()
        found = self.ledger.dead_letters.find(DeadLetterFilter())
        self.ledger.dead_letters.replay(found, who="test", why="")

    def _record(self, said: Sequence[Row]) -> File:
        file = self.oracle.record(said)
        file.import_id = recorded(self.ledger, *(row.change() for row in said))
        return file

    def _publish(self, file: File) -> None:
        self.oracle.publish(file)
        self.ledger.intake.finish_reading(file.import_id)
        self.ledger.intake.publish(file.import_id)

    def _claim(self) -> None:
        token = f"token {next(_number)}"
        taken = self.oracle.claim(token)
        tasks = self.ledger.queue.claim(BUCKET, 100, token, 0.0)
        told = {((task.address["user_id"], one.slot), one.says) for task in tasks for one in task.changes}
        assert told == {(slot, version.says) for slot, version in taken.items()}
        if tasks:
            self.claims.append(Claim(token, tasks, taken))

    def _settle(self, which: int, *, applied: bool) -> None:
        if not self.claims:
            return
        claim, now = self.claims.pop(which), self.ledger.now()
        outcome = Applied() if applied else PermanentFailure("no", "the provider will not have it")
        self.ledger.queue.settle(claim.token, [settlement(task, outcome, now) for task in claim.tasks])
        self.oracle.settle(claim, applied=applied, now=now)

    def compare(self) -> None:
        """Every slot says what the oracle says, and what is pending is what the oracle would deliver."""
        expected = {
            slot: (
                *(one.newest.effective_at, one.newest.action.value, one.newest.value, one.confirmed, one.confirmed_at),
                slot in self.oracle.pending,
            )
            for slot, one in self.oracle.registers.items()
            if one.newest
        }
        found = self.ledger.database.read(lambda tx: tx.execute(text(_SLOTS)).all())
        assert {(row[0].split('"')[3], row[1]): (*row[2:7], row[7] == "pending") for row in found} == expected


_SLOTS = """
SELECT address, slots.slot, newest_at, newest_action, changes.value, confirmed, confirmed_at, state
FROM slots JOIN targets ON targets.id = slots.target_id JOIN changes ON changes.id = newest_id
"""
_number = count()


def _moment(minute: int) -> int:
    return to_micros(MORNING + timedelta(minutes=minute))


def _after(minutes: int) -> int:
    """The moment of a step: rows of some minutes are newer than that."""
    return _moment(minutes) - 1


@contextmanager
def empty(ledger: Ledger) -> Iterator[None]:
    """Forget everything that an earlier example left behind."""
    tables = ("noop_changes", "pending_duplicates", "slots", "changes", "customer_tasks", "imports", "targets")
    tables += ("attempts", "dead_letters", "audit_log")
    ledger.database.write(lambda tx: [tx.execute(text(f"DELETE FROM {name}")) for name in tables])
    yield


@settings(
    max_examples=examples(200, share=12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(told=st.lists(steps, min_size=5, max_size=14), reassert=st.sampled_from(Reassert), at_once=st.integers(1, 4))
@example(
    told=[("import", [OUT]), ("claim", []), ("claim", []), ("settle", []), ("settle late", [])],
    reassert=Reassert.FRESH,
    at_once=4,
)
@example(
    told=[
        ("import", [OUT]),
        ("claim", []),
        ("settle", []),
        ("import", [OUT._replace(minute=9), OUT._replace(minute=12, own_time=False)]),
    ],
    reassert=Reassert.FRESH,
    at_once=4,
)
def test_sql_decides_as_the_rule_does(
    ledger: Ledger, told: list[tuple[str, list[Row]]], reassert: Reassert, at_once: int
) -> None:
    """Imports, files that break off and are gone on with or taken over, events, lost leases, late settlements, replays.

    After each step every slot on SQLite and on PostgreSQL says what `consent.ledger.merge` says.
    """
    with empty(ledger), pytest.MonkeyPatch.context() as patch:
        for module in (noops, publish, reassign):
            patch.setattr(module, "CHUNK", at_once)
        ledger.reassert = ReassertRules(reassert)
        both = Interleaving(ledger, reassert)
        for number, (name, said) in enumerate(told, 1):
            patch.setattr(ledger, "now", partial(_after, number))
            both.step(name, said)
            both.compare()
