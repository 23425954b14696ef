"""The rule in Python over whole histories: what each slot must say after files, events, claims and late settlements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import NamedTuple

from consent.change import Action, ConsentChange
from consent.ledger.merge import NoOp, Register, Superseded, Version, Wins, may_be_noop, merge
from consent.ledger.queue.tasks import CustomerTask
from consent.reassert import Reassert
from tests.support.ledgers import change_of, moment

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
        made = change_of(self.who, str(self.action), self.minute, self.slot, holds=self.value)
        return replace(made, value=self.value, own_time=self.own_time)


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

    def record(self, rows: Sequence[Row]) -> File:
        """Record a file; nothing of it counts yet."""
        file = File()
        again = {row for row in rows if self._is_sent_again(row)}
        for row in rows:
            version = Version(moment(row.minute), row.action, next(self._arrivals), row.value, row.own_time)
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

    def events(self, rows: Sequence[Row]) -> None:
        """Merge events at once, and what files that broke off keep back of them."""
        for row in rows:
            if row.key in self.owners:
                self._take_over(row.key, None)
                continue
            self.owners[row.key] = None
            version = Version(moment(row.minute), row.action, next(self._arrivals), row.value)
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
        if (held.newest.effective_at, held.newest.action) == (moment(row.minute), row.action):
            return False  # it is the very newest one, or of the same moment and known by its key
        return may_be_noop(row.action, moment(row.minute), *held.newest[:2], held.confirmed)

    def _is_sent_again(self, row: Row) -> bool:
        held = self.registers.get(row.place, Register())
        same = held.newest is not None and (moment(row.minute), row.action) == held.newest[:2]
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
            self.registers[slot] = Register(newest, version.slot_value, now)
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
