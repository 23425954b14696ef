"""The rule in Python is the oracle of the rule in SQL: whatever is interleaved, the ledger's slots say what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from consent.change import Action
from consent.imports import ImportSource
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.intake import noops, publish, reassign
from consent.ledger.ledger import Ledger
from consent.outcome import Applied, PermanentFailure
from consent.reassert import Reassert, ReassertRules
from tests.consent.ledger.oracle import Claim, File, Oracle, Row
from tests.support.examples import examples
from tests.support.ledgers import BUCKET, emptied, moment, recorded, settlement

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


class Interleaving:
    """Does each step to the ledger and to the oracle."""

    def __init__(self, ledger: Ledger, reassert: Reassert) -> None:
        self.ledger, self.oracle = ledger, Oracle(reassert)
        self.claims: list[Claim] = []
        self.broken: list[File] = []
        self.run = ledger.intake.open_import(
            ImportSource("redis", "stream", f"run {next(_number)}", 0, None, stream=True)
        )

    def step(self, name: str, rows: Sequence[Row]) -> None:
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
        ways[name](*[rows] if rows else ())

    def _import(self, rows: Sequence[Row]) -> None:
        self._publish(self._record(rows))

    def _break_off(self, rows: Sequence[Row]) -> None:
        if self.oracle.reassert is Reassert.ALWAYS:  # what is sent once more is decided as it is read
            self._import(rows)
        else:
            self.broken.append(self._record(rows))

    def _go_on(self) -> None:
        if self.broken:
            self._publish(self.broken.pop(0))

    def _events(self, rows: Sequence[Row]) -> None:
        self.oracle.events([row._replace(own_time=True) for row in rows])
        changes = [replace(row.change(), own_time=True) for row in rows]
        self.ledger.intake.accept_events(self.run.import_id, changes, [])

    def _replay(self) -> None:
        self.oracle.replay()
        found = self.ledger.dead_letters.find(DeadLetterFilter())
        self.ledger.dead_letters.replay(found, who="test", why="")

    def _record(self, rows: Sequence[Row]) -> File:
        file = self.oracle.record(rows)
        file.import_id = recorded(self.ledger, *(row.change() for row in rows))
        return file

    def _publish(self, file: File) -> None:
        self.oracle.publish(file)
        self.ledger.intake.finish_reading(file.import_id)
        self.ledger.intake.publish(file.import_id)

    def _claim(self) -> None:
        token = f"token {next(_number)}"
        taken = self.oracle.claim(token)
        tasks = self.ledger.queue.claim(BUCKET, 100, token, 0.0)
        claimed = {
            ((task.address["user_id"], one.slot), one.action + one.value) for task in tasks for one in task.changes
        }
        assert claimed == {(slot, version.slot_value) for slot, version in taken.items()}
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


def _after(minutes: int) -> int:
    """The moment of a step: rows of some minutes are newer than that."""
    return moment(minutes) - 1


@pytest.mark.takes(25)
@pytest.mark.parametrize("reassert", Reassert)
@settings(
    max_examples=examples(67, share=13), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=st.lists(steps, min_size=5, max_size=14), at_once=st.integers(1, 4))
@example(
    history=[("import", [OUT]), ("claim", []), ("claim", []), ("settle", []), ("settle late", [])],
    at_once=4,
)
@example(
    history=[
        ("import", [OUT]),
        ("claim", []),
        ("settle", []),
        ("import", [OUT._replace(minute=9), OUT._replace(minute=12, own_time=False)]),
    ],
    at_once=4,
)
def test_sql_decides_as_the_rule_does(
    ledger: Ledger, history: list[tuple[str, list[Row]]], reassert: Reassert, at_once: int
) -> None:
    """Imports, files that break off and are gone on with or taken over, events, lost leases, late settlements, replays.

    After each step every slot on SQLite and on PostgreSQL says what `consent.ledger.merge` says.
    """
    with emptied(ledger), pytest.MonkeyPatch.context() as patch:
        for module in (noops, publish, reassign):
            patch.setattr(module, "CHUNK", at_once)
        ledger.reassert = ReassertRules(reassert)
        both = Interleaving(ledger, reassert)
        for number, (name, rows) in enumerate(history, 1):
            patch.setattr(ledger, "now", partial(_after, number))
            both.step(name, rows)
            both.compare()
