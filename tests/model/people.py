"""What people decide in the model: pauses, dead letters, corrections, imports that are undone, and fuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from sqlalchemy import select

from consent.change import Action, Bucket
from consent.guards.fuse import FuseState, FuseWay
from consent.ledger import schema
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.review.corrections import Corrected
from consent.ledger.review.fuses import TrippedFuse
from consent.ledger.review.holds import Decision
from consent.ledger.review.undo import Undone
from consent.times import from_micros
from tests.model.changes import MORNING, OVERLAPPING, Statement, changes, who
from tests.model.deliveries import ANSWERS, Deliveries
from tests.model.overlapping import must_be_dead
from tests.model.world import BUCKET, BUCKETS, STATISTICS, File

CONNECTIONS = sorted({bucket.connection for bucket in BUCKETS})
_CHANGES = select(
    *(schema.changes.c[name] for name in ("slot", "action", "effective_at", "details")), schema.targets.c.address
).join(schema.targets, schema.targets.c.id == schema.changes.c.target_id)


class People(Deliveries):
    """Persons at the command line, beside producers, deliveries and the provider."""

    def _may_be_cut_off(self) -> bool:
        return bool(must_be_dead([change for change in self.sources if change.customer in OVERLAPPING]))

    @precondition(lambda self: self.killed or self._may_be_cut_off())
    @rule()
    def letters_are_replayed(self) -> None:
        """Someone replays every dead letter."""
        found = self.ledger.dead_letters.find(DeadLetterFilter())
        self.ledger.dead_letters.replay(found, who="ann", why="fixed")
        self.killed.difference_update(letter.id for letter in found)
        STATISTICS["replayed"] += len(found)

    @precondition(lambda self: self.killed or self._may_be_cut_off())
    @rule()
    def a_letter_is_discarded(self) -> None:
        """Someone puts the oldest dead letter away."""
        found = self.ledger.dead_letters.find(DeadLetterFilter(), 1)
        self.ledger.dead_letters.discard(found, who="ann", why="account closed")
        STATISTICS["discarded"] += len(found)

    @precondition(lambda self: self.killed)
    @rule(name=st.sampled_from("ABC"), reason=st.sampled_from(("x", "fixed")))
    def a_letter_is_corrected(self, name: str, reason: str) -> None:
        """Someone finds that a letter was about another customer, or gives it another reason."""
        letters = self.ledger.dead_letters.find(DeadLetterFilter(connection="capillary"))
        for letter in letters[:1]:
            statement = self._statement(letter.address, letter.slot, letter.action, letter.effective_at, reason)
            statement = statement._replace(customer=name)
            done = self.ledger.review.correct(
                letter.id, [statement.change(1)], columns=["user"], who="ann", why="a slip"
            )
            if isinstance(done, Corrected):
                self._hear(None, [statement])
                self.corrected.add(letter.id)
                STATISTICS["corrected"] += 1

    def _statement(self, address: Mapping[str, str], slot: str, action: str, since: int, reason: str) -> Statement:
        late = from_micros(since) - MORNING
        minute = late // timedelta(minutes=1)
        rest = (late - timedelta(minutes=minute)) // timedelta(microseconds=1)
        return Statement(who(address), slot, Action(action).value, minute, reason, rest)

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
        self.ledger.fuses.work_off()
        if not only_optouts:
            del self.paused[connection]
        else:
            self.paused[connection] = {Action.OPTIN}

    @precondition(lambda self: any(file.whole for file in self.files))
    @rule(data=st.data(), again=st.booleans())
    def a_file_is_undone(self, data: st.DataObject, again: bool) -> None:  # noqa: FBT001 - drawn
        """Someone undoes a file: what brings back what was before is said by an import of its own."""
        self._undo(data.draw(st.sampled_from([file for file in self.files if file.whole])), opt_in_again=again)

    @rule(
        statements=st.lists(changes, min_size=1, max_size=4),
        answer=st.sampled_from(ANSWERS),
        meanwhile=st.lists(changes, max_size=1),
        again=st.booleans(),
    )
    def a_wrong_file_is_undone(
        self,
        statements: list[Statement],
        answer: str,
        meanwhile: list[Statement],
        again: bool,  # noqa: FBT001 - hypothesis draws it
    ) -> None:
        """A file comes, is delivered in part, and turns out to be wrong; something may be said in between."""
        latest = max(self._latest(one.customer) for one in statements)
        self.file_arrives([one._replace(minute=latest + 1) for one in statements], stream=False, until=9, steps=9)
        file = self.files[-1]
        for bucket in BUCKETS:
            self.delivery_works(bucket, 2, [answer] * 3, "settled", 0.0)
        if meanwhile:
            self.events_arrive([meanwhile[0]._replace(minute=latest + 2)], twice=False)
        self._undo(file, opt_in_again=again)

    def _undo(self, file: File, *, opt_in_again: bool) -> None:
        done = self.ledger.review.undo(file.id, Decision("ann", "an old export"), opt_in_again=opt_in_again)
        if not isinstance(done, Undone) or done.undo_id is None:
            return
        mine = _CHANGES.where(schema.changes.c.import_id == done.undo_id)
        rows = self.ledger.database.read(lambda tx: tx.execute(mine).all())
        assert len(rows) == done.plan.undone
        statements = [
            self._statement(json.loads(address), slot, action, since, json.loads(details).get("reason", ""))
            for slot, action, since, details, address in rows
        ]
        undoing = File(done.undo_id, f"undo of {file.name}", statements, stream=False, read=len(statements), whole=True)
        for one in statements:
            self.sources.setdefault(one, []).append(undoing)
        self.undone.append(undoing)
        STATISTICS["undone slots"] += len(statements)

    @rule(
        actions=st.lists(st.sampled_from(("OPTIN", "OPTOUT")), min_size=3, max_size=3),
        from_file=st.booleans(),
        way=st.none() | st.sampled_from(FuseWay),
        corrected=st.booleans(),
    )
    def all_customers_draw_one_failure(
        self,
        actions: list[str],
        from_file: bool,  # noqa: FBT001
        way: FuseWay | None,
        corrected: bool,  # noqa: FBT001
    ) -> None:
        """An account is wrong: two customers die alike, and a fuse holds the third, until someone goes on with it."""
        latest = max(map(self._latest, "ABC"))
        statements = [
            Statement(name, "EMAIL", action, latest + 1, "x") for name, action in zip("ABC", actions, strict=True)
        ]
        self.refused.difference_update("ABC")
        if from_file:
            self.file_arrives(statements, stream=False, until=9, steps=9)
        else:
            self.events_arrive(statements, twice=False)
        for _ in range(3):
            self.delivery_works(BUCKET, 1, ["rejected"], "settled", 6.0)
        self.delivery_works(BUCKET, 3, ["applied"] * 3, "settled", 6.0)
        if way is not None:
            for one in self.ledger.fuses.tripped():
                self._reset(one, way)
            self.work_off()
            self.delivery_works(BUCKET, 3, ["applied"] * 3, "settled", 0.0)
        if corrected and self.killed:
            self.a_letter_is_corrected("A", "fixed")

    @precondition(lambda self: self.tripped())
    @rule(data=st.data(), way=st.sampled_from(FuseWay), steps=st.booleans())
    def a_fuse_is_reset(self, data: st.DataObject, way: FuseWay, steps: bool) -> None:  # noqa: FBT001 - drawn
        """Someone goes on with what a fuse holds, in one of the ways; the sweep may have to do the rest."""
        one = data.draw(st.sampled_from(self.ledger.fuses.tripped()))
        self._reset(one, way)
        if steps:
            self.work_off()

    def _reset(self, one: TrippedFuse, way: FuseWay) -> None:
        self.ledger.fuses.reset(one.origin, way, Decision("ann", "checked"), bucket=one.bucket)
        STATISTICS[f"fuses reset: {way.value}"] += 1

    @rule()
    def work_off(self) -> None:
        """The sweep carries out what was decided about fuses, and closes those with nothing left."""
        before = {letter.id for letter in self.ledger.dead_letters.find(DeadLetterFilter())}
        self.ledger.fuses.work_off()
        self.ledger.fuses.close_those_over()
        self.killed |= {letter.id for letter in self.ledger.dead_letters.find(DeadLetterFilter())} - before

    @precondition(lambda self: any(self.ledger.fuses.asks_for_read(bucket) for bucket in BUCKETS))
    @rule(data=st.data(), well=st.booleans())
    def a_harmless_read_is_made(self, data: st.DataObject, well: bool) -> None:  # noqa: FBT001 - drawn
        """Two origins fail alike: a read shows whether all of the bucket is at fault."""
        asking = [bucket for bucket in BUCKETS if self.ledger.fuses.asks_for_read(bucket)]
        bucket: Bucket = data.draw(st.sampled_from(asking))
        asked = self.ledger.fuses.asks_for_read(bucket)
        assert asked is not None
        self.ledger.fuses.note_read(bucket, asked, well=well)
        STATISTICS["harmless reads"] += 1

    def _let_all_go_on(self) -> None:
        """Nothing is paused or held any more, whatever is answered."""
        for connection in list(self.paused):
            self._resume(connection, only_optouts=False)
        for one in self.ledger.fuses.tripped():
            if one.state is not FuseState.DYING:
                self.ledger.fuses.reset(one.origin, FuseWay.OFF, Decision("ann", "checked"), bucket=one.bucket)
        self.work_off()
