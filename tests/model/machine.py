"""The machine: everything that can happen to a ledger, in any order, and what must hold after every step."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from sqlalchemy import func, select

from consent.change import Action
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.schema import changes, imports, slots, targets
from consent.outcome import State
from tests.model.changes import OVERLAPPING, Slot, newest, who
from tests.model.deliveries import Deliveries
from tests.model.overlapping import UNDER_WIDER_BLOCK, must_be_dead, wrongs
from tests.model.provider import LATEST
from tests.model.world import BUCKETS, LEASE, STATISTICS

CONNECTIONS = sorted({bucket.connection for bucket in BUCKETS})
_STATES = select(changes.c.import_id, changes.c.state, func.count()).group_by(changes.c.import_id, changes.c.state)
_COUNTS = select(imports.c.id, imports.c.changes, imports.c.recorded, imports.c.duplicates, imports.c.noops)
_DEAD = (
    select(targets.c.address, slots.c.slot, changes.c.code, changes.c.id)
    .join_from(slots, targets, targets.c.id == slots.c.target_id)
    .join(changes, changes.c.id == slots.c.newest_id)
    .where(changes.c.state == State.DEAD.value)
)


class Consents(Deliveries):
    """Producers, deliveries, a provider and a person with dead letters, all at once on one ledger."""

    @precondition(lambda self: self.killed or self._may_be_cut_off())
    @rule()
    def letters_are_replayed(self) -> None:
        """Someone replays every dead letter."""
        found = self.ledger.dead_letters.find(DeadLetterFilter())
        self.ledger.dead_letters.replay(found, who="ann", why="fixed")
        self.killed.difference_update(letter.id for letter in found)
        STATISTICS["replayed"] += len(found)

    def _may_be_cut_off(self) -> bool:
        return bool(must_be_dead([change for change in self.sources if change.customer in OVERLAPPING]))

    @precondition(lambda self: self.killed or self._may_be_cut_off())
    @rule()
    def a_letter_is_discarded(self) -> None:
        """Someone puts the oldest dead letter away."""
        found = self.ledger.dead_letters.find(DeadLetterFilter(), 1)
        self.ledger.dead_letters.discard(found, who="ann", why="account closed")
        STATISTICS["discarded"] += len(found)

    @rule(connection=st.sampled_from(CONNECTIONS), only_optins=st.booleans())
    def connection_is_paused(self, connection: str, only_optins: bool) -> None:  # noqa: FBT001 - hypothesis draws it
        """Someone pauses a connection, or its opt-ins alone; what is paused already stays so."""
        self.ledger.pauses.pause(connection, None, only_optins=only_optins, who="ann", why="a change there")
        actions = set(Action) if not only_optins else {Action.OPTIN}
        self.paused[connection] = actions | self.paused.get(connection, set())
        STATISTICS["pauses"] += 1

    @precondition(lambda self: self.paused)
    @rule(data=st.data(), only_optouts=st.booleans())
    def connection_is_resumed(self, data: st.DataObject, only_optouts: bool) -> None:  # noqa: FBT001 - drawn
        """Someone resumes it, or its opt-outs alone."""
        self._resume(data.draw(st.sampled_from(sorted(self.paused))), only_optouts=only_optouts)

    def _resume(self, connection: str, *, only_optouts: bool) -> None:
        self.ledger.pauses.resume(connection, None, only_optouts=only_optouts, who="ann", why="it is done")
        if not only_optouts:
            del self.paused[connection]
        else:
            self.paused[connection] = {Action.OPTIN}

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
        for connection in list(self.paused):
            self._resume(connection, only_optouts=False)
        for delivery in list(self.deliveries):
            self._settle(delivery)
        for _ in range(12):
            self._pass(LATEST + LEASE)
            self.sweep()
            for bucket in BUCKETS:
                self._claim(100, bucket)
            for delivery in list(self.deliveries):
                for name in delivery.tasks:
                    self._call(delivery, name, "applied", in_time=True)
                self._settle(delivery)

    def _dead_slots(self) -> dict[Slot, str]:
        """Return the slots whose newest change is dead, and why."""
        rows = self.ledger.database.read(lambda tx: tx.execute(_DEAD).all())
        dead = {(who(json.loads(address)), slot): code for address, slot, code, _ in rows}
        given_up = {number for *_, code, number in rows if code != UNDER_WIDER_BLOCK}
        assert not given_up or self.killed, "a change died that no one rejected"
        return dead

    def _nothing_is_left(self) -> None:
        for file in [file for file in self.files if file.whole]:
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
