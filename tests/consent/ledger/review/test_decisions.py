"""Whatever is decided about imports, in whatever order, the ledger says what a plain list of what counts says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from consent.change import Action, to_micros
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.ledger import Ledger
from consent.ledger.review import undo as undoing
from consent.ledger.review.holds import Decision, NothingHeld
from consent.ledger.review.undo import Undone
from consent.outcome import PermanentFailure
from tests.support.examples import POSTGRESQL_IN_PROOFS, examples
from tests.support.ledgers import MORNING, change_of, counts, deliver, guarded, run_of


class Said(NamedTuple):
    """A row of a file or an event: known again by all that it says."""

    who: str
    action: Action
    minute: int


@dataclass(eq=False)
class File:
    """An import: what it was the first to say, and so owns; whether that is held, and whether it was undone.

    Of one that was `undone` its opt-ins do not count as what was before, of one that was undone `wholly` nothing does.
    """

    import_id: str = ""
    own: list[Said] = field(default_factory=list)
    held: list[Said] = field(default_factory=list)
    undone: bool = False
    wholly: bool = False
    gone: list[Said] = field(default_factory=list)


class Oracle:
    """Each person's state is the newest of all that counts, and on a tie the opt-out: nothing else is known of order.

    What is held or withdrawn does not count. Undoing adds what was before, one microsecond behind the mistake.
    """

    def __init__(self) -> None:
        self.counts: dict[tuple[str, int, Action], File | None] = {}
        self.undoing: set[tuple[str, int, Action]] = set()

    def stands(self) -> dict[str, str]:
        """What each person's slot holds."""
        return {who: self._newest(who)[2].value for who in {who for who, *_ in self.counts}}

    def _newest(self, who: str) -> tuple[str, int, Action]:
        its = [one for one in self.counts if one[0] == who]
        return max(its, key=_order)

    def would_return(self, file: File) -> bool:
        """Whether the file opts a person in again who stands at an opt-out."""
        standing = self.stands()
        best = {said.who: said for said in sorted(file.held, key=lambda said: (said.minute, said.action == _OUT))}
        return any(
            said.action == Action.OPTIN
            and standing.get(said.who) == _OUT
            and _order(_version(said)) > _order(self._newest(said.who))
            for said in best.values()
        )

    def publish(self, file: File | None, said: Sequence[Said]) -> None:
        """Let these count."""
        for one in said:
            self.counts.setdefault(_version(one), file)

    def undo(self, file: File, *, opt_in_again: bool) -> None:
        """Add what was before behind each mistake that stands, as far as that opts no person in unasked."""
        file.undone, file.wholly = True, file.wholly or opt_in_again
        for who in {who for (who, *_), owner in self.counts.items() if owner is file}:
            newest = self._newest(who)
            if not self._is_past(newest, file):
                continue
            before = self._before(who, file)
            wanted = _OUT if before is None else before[2]
            if wanted != newest[2] and (wanted == _OUT or opt_in_again):
                self._compensate(newest, wanted)

    def _is_past(self, said: tuple[str, int, Action], file: File) -> bool:
        """Whether this is of the file, of one that was undone, or undoes something."""
        owner = self.counts[said]
        if said in self.undoing or owner is file:
            return True
        return owner is not None and (owner.undone if said[2] == Action.OPTIN else owner.wholly)

    def _before(self, who: str, file: File) -> tuple[str, int, Action] | None:
        compensated = {(who, at - 1) for who, at, _ in self.undoing}
        its = [
            one for one in self.counts if one[0] == who and one[:2] not in compensated and not self._is_past(one, file)
        ]
        return max(its, key=_order, default=None)

    def _compensate(self, mistake: tuple[str, int, Action], wanted: Action) -> None:
        made = (mistake[0], mistake[1] + 1, wanted)
        self.counts[made] = None
        self.undoing.add(made)


_OUT = Action.OPTOUT
_CHECKED = "checked"
_number = count()


def _version(said: Said) -> tuple[str, int, Action]:
    return said.who, to_micros(MORNING + timedelta(minutes=said.minute)), said.action


def _order(version: tuple[str, int, Action]) -> tuple[int, bool]:
    return version[1], version[2] == _OUT


class Both:
    """Does each step to the ledger and to the oracle."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.oracle = ledger, Oracle()
        self.files: list[File] = []
        self.run = run_of(ledger, f"run {next(_number)}")

    def step(self, name: str, said: Sequence[Said], which: int) -> None:
        """Do one step; `which` file a decision is about."""
        if said:
            getattr(self, f"_{name}")(said)
        elif name in {"deliver", "fail", "replay"}:
            getattr(self, f"_{name}")()
        elif self.files:
            getattr(self, f"_{name.partition(' ')[0]}")(self.files[which % len(self.files)], name)

    def _import(self, said: Sequence[Said]) -> None:
        file = File()
        known = {one for other in self.files for one in other.own if one not in other.held and one not in other.gone}
        new = [one for one in dict.fromkeys(said) if _version(one) not in self.oracle.counts and one not in known]
        file.own, file.held = list(new), list(new)
        held = self.oracle.would_return(file)
        file.import_id = guarded(self.ledger, *map(_change, said), resurrects_most=0)
        report = self.ledger.queries.report(file.import_id)
        assert report is not None
        assert (report.state == "held") == held
        self.files.append(file)
        if not held:
            self._publish(file, None)

    def _dump(self, said: Sequence[Said]) -> None:
        """A file that is delivered, approved if it was held: what the next one repeats is a no-op."""
        self._import(said)
        self._approve(self.files[-1], "approve")
        self._deliver()

    def _publish(self, file: File, only: Action | None) -> None:
        meant = [one for one in file.held if only in (None, one.action)]
        file.held = [one for one in file.held if one not in meant]
        self._taken(meant, file)
        self.oracle.publish(file, meant)

    def _taken(self, said: Sequence[Said], by: File | None) -> None:
        """What is held elsewhere, or was withdrawn, is of the source that says it too."""
        for other in self.files:
            if other is not by:
                other.held = [one for one in other.held if one not in said]

    def _events(self, said: Sequence[Said]) -> None:
        self.ledger.intake.accept_events(self.run, [_change(one) for one in said], [])
        self._taken(said, None)
        self.oracle.publish(None, said)

    def _approve(self, file: File, name: str) -> None:
        only = {"approve": None, "approve in": Action.OPTIN, "approve out": _OUT}[name]
        decision = Decision("ann", _CHECKED, only)
        for _ in range(2):  # the second time changes nothing
            found = self.ledger.review.approve(file.import_id, decision)
            self.ledger.intake.publish(file.import_id)
        assert isinstance(found, NothingHeld)
        self._publish(file, only)

    def _withdraw(self, file: File, _: str) -> None:
        for _ in range(2):
            found = self.ledger.review.withdraw(file.import_id, Decision("ann", _CHECKED))
            self.ledger.intake.publish(file.import_id)
        assert isinstance(found, NothingHeld)
        file.gone += file.held
        file.held = []

    def _undo(self, file: File, name: str) -> None:
        again = name == "undo all"
        found = self.ledger.review.undo(file.import_id, Decision("ann", "wrong"), opt_in_again=again)
        if not isinstance(found, Undone):
            return
        self.oracle.undo(file, opt_in_again=again)
        before = self.compare()
        twice = self.ledger.review.undo(file.import_id, Decision("ann", "wrong"), opt_in_again=again)
        assert isinstance(twice, Undone)
        assert twice.undo_id is None
        assert self.compare() == before

    def _deliver(self) -> None:
        deliver(self.ledger)

    def _fail(self) -> None:
        deliver(self.ledger, PermanentFailure("no", "the provider will not have it"))

    def _replay(self) -> None:
        found = self.ledger.dead_letters.find(DeadLetterFilter())
        self.ledger.dead_letters.replay(found, who="test", why="")

    def compare(self) -> dict[str, str]:
        """Each person's slot says what the oracle says, each import's counts balance; return what the slots say."""
        found = {one.address["user_id"]: one.action.value for one in self.ledger.queries.current_values()}
        assert found == self.oracle.stands()
        for file in self.files:
            counts(self.ledger, file.import_id)
        assert not self.ledger.intake.unpublished()
        return found


def _change(said: Said):
    return change_of(said.who, said.action.value, said.minute)


said = st.lists(
    st.builds(Said, st.sampled_from("123"), st.sampled_from(Action), st.sampled_from((1, 2, 5, 9))),
    min_size=1,
    max_size=4,
)
DECISIONS = ("approve", "approve in", "approve out", "withdraw", "undo", "undo", "undo all")
steps = st.one_of(
    st.tuples(st.just("dump"), said, st.just(0)),
    st.tuples(st.sampled_from(["import", "dump", "events"]), said, st.just(0)),
    st.tuples(st.sampled_from(DECISIONS), st.just([]), st.integers(0, 5)),
    st.tuples(st.sampled_from(["deliver", "deliver", "fail", "replay"]), st.just([]), st.just(0)),
)
TABLES = (
    *("noop_changes", "pending_duplicates", "slots", "changes", "customer_tasks", "imports", "targets", "attempts"),
    *("dead_letters", "audit_log"),
)


@POSTGRESQL_IN_PROOFS
@settings(
    max_examples=examples(300, share=25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=st.lists(steps, min_size=4, max_size=12), at_once=st.integers(1, 3))
def test_the_newest_of_what_counts_stands(
    ledger: Ledger, history: list[tuple[str, list[Said], int]], at_once: int
) -> None:
    """Files that are held or not, events, approvals, withdrawals, undoing, deliveries, failures and replays.

    After each step the ledger's slots are the oracle's, and every import's counts balance. Approving, withdrawing and
    undoing a second time changes nothing; what is held or withdrawn supersedes nothing.
    """
    ledger.database.write(lambda tx: [tx.execute(text(f"DELETE FROM {name}")) for name in TABLES])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(undoing, "CHUNK", at_once)
        both = Both(ledger)
        for name, rows, which in history:
            both.step(name, rows, which)
            both.compare()
