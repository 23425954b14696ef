"""Whatever dumps repeat in whatever order, they end as the rule for newest changes says."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from consent.change import Action, ConsentChange
from consent.ledger.intake import noops
from consent.ledger.intake import publish as releasing
from consent.ledger.ledger import Ledger
from consent.ledger.merge import NoOp, Register, Superseded, Version, Wins, merge
from consent.reassert import Reassert, ReassertRules
from tests.support.examples import POSTGRESQL_IN_PROOFS, examples
from tests.support.ledgers import change_of, deliver, emptied, imported, moment

Spoken = tuple[str, str, Action, int, str, bool]
who, actions, minutes = st.sampled_from("12"), st.sampled_from(Action), st.integers(0, 8)
spoken = st.one_of(
    st.tuples(who, st.just("a"), actions, minutes, st.just(""), st.booleans()),
    st.tuples(who, st.just("holds"), actions, minutes, st.sampled_from("xy"), st.booleans()),
)
night = st.tuples(st.lists(spoken, max_size=6), st.booleans())
_number = count()


@pytest.mark.takes(50)
@POSTGRESQL_IN_PROOFS
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nights=st.lists(night, min_size=1, max_size=5), reassert=st.sampled_from(Reassert), at_once=st.integers(1, 4))
def test_files_end_as_the_rule_says(
    ledger: Ledger, nights: list[tuple[list[Spoken], bool]], reassert: Reassert, at_once: int
) -> None:
    """Whatever files say, in whatever order, the provider is told, and each slot holds, what the rule alone says."""
    ledger.reassert = ReassertRules(reassert)
    rule = _Rule(reassert)
    with emptied(ledger), pytest.MonkeyPatch.context() as patch:
        patch.setattr(noops, "CHUNK", at_once)
        patch.setattr(releasing, "CHUNK", at_once)
        for number, (statements, delivered) in enumerate(nights, 1):
            rule.hear(statements)
            changes = [_holding(*one) for one in statements]
            import_id = imported(ledger, *changes)
            if delivered:
                patch.setattr(ledger, "now", partial(_after, 2 * number))
                assert set(deliver(ledger)) == rule.deliver(_after(2 * number))
            found = ledger.queries.report(import_id)
            assert found is not None
            assert found.balanced
        assert _newest(ledger) == rule.newest()
        assert set(deliver(ledger)) == rule.deliver(_after(9))


def _after(minutes: int) -> int:
    """The moment at which a night's changes are delivered: words of some minutes are newer than that."""
    return moment(minutes) - 1


def _holding(who: str, slot: str, action: Action, minute: int, value: str, own_time: bool) -> ConsentChange:  # noqa: FBT001 - drawn
    """A row with a value of its own, which stands in its details, too."""
    return replace(change_of(who, str(action), minute, slot, holds=value), value=value, own_time=own_time)


class _Rule:
    """The rule alone: registers, and the slots whose newest change must be told."""

    def __init__(self, reassert: Reassert) -> None:
        self._reassert = reassert
        self._registers: dict[tuple[str, str], Register] = {}
        self._known: set[object] = set()
        self._standing: set[tuple[str, str]] = set()

    def hear(self, statements: list[Spoken]) -> None:
        """Judge what has not been heard before; and where all opt-outs are sent, what is the newest and confirmed."""
        again = {spoken for spoken in statements if self._is_to_be_sent_again(spoken)}
        for spoken in statements:
            if spoken[:-1] in self._known and spoken not in again:
                continue
            again.discard(spoken)
            self._known.add(spoken[:-1])
            who, slot, action, minute, value, own_time = spoken
            one = Version(moment(minute), action, next(_number), value, own_time)
            before = self._registers.get((who, slot), Register())
            self._registers[who, slot], verdict = merge(before, one, reassert=self._reassert)
            if isinstance(verdict, Wins) or (isinstance(verdict, Superseded) and verdict.resends):
                self._standing.add((who, slot))
            elif isinstance(verdict, NoOp):
                self._standing.discard((who, slot))

    def _is_to_be_sent_again(self, spoken: Spoken) -> bool:
        who, slot, action, minute, value, _ = spoken
        held = self._registers.get((who, slot), Register())
        same = held.newest is not None and (moment(minute), action) == held.newest[:2]
        out = self._reassert is Reassert.ALWAYS and action is Action.OPTOUT
        return out and same and held.confirmed == action + value

    def deliver(self, now: int) -> set[tuple[str, str]]:
        """Tell the provider what stands."""
        sent = {(who, f"{slot} {self._newest_of(who, slot).action}") for who, slot in self._standing}
        for slot in self._standing:
            self._registers[slot] = Register(self._newest_of(*slot), self._newest_of(*slot).slot_value, now)
        self._standing.clear()
        return sent

    def newest(self) -> dict[tuple[str, str], tuple[int, str]]:
        """What each slot's newest change says, and since when."""
        changes = {slot: self._newest_of(*slot) for slot in self._registers}
        return {slot: (change.effective_at, change.action.value) for slot, change in changes.items()}

    def _newest_of(self, who: str, slot: str) -> Version:
        newest = self._registers[who, slot].newest
        assert newest is not None
        return newest


def _newest(ledger: Ledger) -> dict[tuple[str, str], tuple[int, str]]:
    query = "SELECT t.address, s.slot, s.newest_at, s.newest_action FROM slots s JOIN targets t ON t.id = s.target_id"
    rows = ledger.database.read(lambda tx: tx.execute(text(query)).all())
    return {(row[0].split('"')[3], row[1]): (row[2], row[3]) for row in rows}
