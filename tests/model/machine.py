"""The machine: everything that can happen to a ledger, in any order, and what must hold after every step."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

from hypothesis.stateful import invariant
from sqlalchemy import func, select

from consent.ledger.schema import changes, imports, slots, targets
from consent.outcome import State
from tests.model.changes import OVERLAPPING, Slot, newest, who
from tests.model.overlapping import UNDER_WIDER_BLOCK, must_be_dead, wrongs
from tests.model.people import People
from tests.model.provider import LATEST
from tests.model.world import BUCKETS, LEASE, STATISTICS

_STATES = select(changes.c.import_id, changes.c.state, func.count()).group_by(changes.c.import_id, changes.c.state)
_COUNTS = select(imports.c.id, imports.c.changes, imports.c.recorded, imports.c.duplicates, imports.c.noops)
_DEAD = (
    select(targets.c.address, slots.c.slot, changes.c.code, changes.c.id, changes.c.state)
    .join_from(slots, targets, targets.c.id == slots.c.target_id)
    .join(changes, changes.c.id == slots.c.newest_id)
    .where(changes.c.state.in_((State.DEAD.value, State.SUPERSEDED.value)))
)


class Consents(People):
    """Producers, deliveries, a provider and a person with dead letters, all at once on one ledger."""

    @invariant()
    def every_row_is_counted_once(self) -> None:
        """The counts of every import balance, and no word that was acknowledged is missing."""
        STATISTICS["steps"] += 1
        states: dict[str, Counter[str]] = defaultdict(Counter)
        rows, counted = self.ledger.database.read(lambda tx: (tx.execute(_STATES).all(), tx.execute(_COUNTS).all()))
        for import_id, state, number in rows:
            states[import_id][state] += number
        read = {file.id: file.read for file in self.files}
        for import_id, held, recorded, duplicates, repeated in counted:
            assert held == recorded + duplicates
            assert recorded == states[import_id].total() + repeated
            assert held == read.get(import_id, held)
        kept = sum(number for *_, number in rows) + sum(repeated for *_, repeated in counted)
        assert kept >= len(self.sources)

    def teardown(self) -> None:
        """When everybody has calmed down, the provider holds every newest change, and files again call no one."""
        self._calm_down()
        dead = self._dead_slots()
        self._newest_holds(dead)
        self._nothing_is_left()
        live = newest(change for change in self.sources if self._is_live(change))
        out = [slot for slot, change in live.items() if change.action == "OPTOUT" and slot not in dead]
        for slot in out:
            self._others_write(slot)
        self._calm_down()
        held = {self.provider.held[slot] for slot in out if slot[0] not in OVERLAPPING}
        assert held <= {"OPTOUT"}, "an opt-out since others wrote was not sent"
        self._newest_holds(self._dead_slots())
        self._again()
        STATISTICS["provider calls"] += self.provider.calls
        self.ledger.close()

    def _newest_holds(self, dead: dict[Slot, str]) -> None:
        """Hold what is held against what was said: of plain slots each by itself, of others all that cover a place."""
        live = [change for change in self.sources if self._is_live(change)]
        plain = newest(change for change in live if change.customer not in OVERLAPPING)
        for slot, change in plain.items():
            assert slot in dead or self.provider.held.get(slot) == change.action, (slot, change, self.provider.held)
        assert not set(self.provider.held) - set(plain)
        overlapping = [change for change in live if change.customer in OVERLAPPING]
        assert not (found := wrongs(overlapping, self.provider.blocklists, dead)), found
        STATISTICS["cut off at the end"] += len(must_be_dead(overlapping))

    def _calm_down(self) -> None:
        self.refused.clear()
        self._let_all_go_on()
        for delivery in list(self.deliveries):
            self._settle(delivery)
        for _ in range(12):
            self._pass(LATEST + LEASE)
            self.sweep()
            self._let_all_go_on()
            for bucket in BUCKETS:
                self._claim(100, bucket)
            for delivery in list(self.deliveries):
                for name in delivery.tasks:
                    self._call(delivery, name, "applied", in_time=True)
                self._settle(delivery)

    def _dead_slots(self) -> dict[Slot, str]:
        """Return the slots whose newest change is dead, and why."""
        rows = self.ledger.database.read(lambda tx: tx.execute(_DEAD).all())
        rows = [row for row in rows if row.state == State.DEAD.value or row.id in self.corrected]
        dead = {(who(json.loads(address)), slot): code or "" for address, slot, code, *_ in rows}
        given_up = {row.id for row in rows if row.code != UNDER_WIDER_BLOCK and row.state == State.DEAD.value}
        assert not given_up or self.killed, "a change died that no one rejected"
        return dead

    def _nothing_is_left(self) -> None:
        for file in [file for file in (*self.files, *self.undone) if file.whole]:
            found = self.ledger.queries.report(file.id)
            assert found is not None
            assert found.sealed, found

    def _again(self) -> None:
        calls = self.provider.calls
        for file in [file for file in self.files if file.whole]:
            copy = self._open("csv")
            copy.changes = file.changes
            self._read(copy, len(copy.changes))
            copy.whole = True
            self.ledger.intake.publish(copy.id)
            found = self.ledger.queries.report(copy.id)
            assert found is not None
            assert found.duplicates + found.unchanged + found.superseded == found.rows
        for bucket in BUCKETS:
            self._claim(100, bucket)
        assert not self.deliveries
        assert calls == self.provider.calls
