"""Whatever is decided about imports, in whatever order, the ledger says what a plain list of what counts says."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from consent.change import Action
from consent.guards.fuse import FuseRules, FuseState, FuseWay
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.ledger import Ledger
from consent.ledger.review import guard_checks
from consent.ledger.review import undo as undoing
from consent.ledger.review.corrections import Corrected
from consent.ledger.review.fuse_counts import FuseCounter
from consent.ledger.review.holds import Decision, NothingHeld
from consent.ledger.review.undo import Undone
from consent.outcome import Applied, Outcome, PermanentFailure
from tests.model.decisions import OUT, File, Oracle, Statement, version
from tests.support.examples import POSTGRESQL_IN_PROOFS, examples
from tests.support.ledgers import BUCKET, change_of, counts, guarded, run_of, settlement

_CHECKED = "checked"
RULES = FuseRules(in_a_row=2, share_from=0)
"""Two customers in a row trip a fuse."""

_number = count()


class Both:
    """Does each step to the ledger and to the oracle."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.oracle = ledger, Oracle()
        self.files: list[File] = []
        self.run = run_of(ledger, f"run {next(_number)}")

    def step(self, name: str, statements: Sequence[Statement], which: int) -> None:
        """Do one step; `which` file a decision is about."""
        if statements:
            getattr(self, f"_{name}")(statements)
        elif name in {"deliver", "fail", "replay"}:
            getattr(self, f"_{name}")()
        elif name.startswith(("pause", "resume", "reset")):
            what, _, how = name.partition(" ")
            getattr(self, f"_{what}")(how)
        elif self.files:
            getattr(self, f"_{name.partition(' ')[0]}")(self.files[which % len(self.files)], name)

    def _import(self, statements: Sequence[Statement]) -> None:
        file = File()
        known = {one for other in self.files for one in other.own if one not in other.held and one not in other.gone}
        new = [one for one in dict.fromkeys(statements) if version(one) not in self.oracle.counts and one not in known]
        file.own, file.held = list(new), list(new)
        held = self.oracle.would_return(file)
        file.import_id = guarded(self.ledger, *map(_change, statements), resurrects_most=0)
        report = self.ledger.queries.report(file.import_id)
        assert report is not None
        assert (report.state == "held") == held
        self.files.append(file)
        if not held:
            self._publish(file, None)

    def _dump(self, statements: Sequence[Statement]) -> None:
        """A file that is delivered, approved if it was held: what the next one repeats is a no-op."""
        self._import(statements)
        self._approve(self.files[-1], "approve")
        self._deliver()

    def _publish(self, file: File, only: Action | None) -> None:
        meant = [one for one in file.held if only in (None, one.action)]
        file.held = [one for one in file.held if one not in meant]
        self._taken(meant, file)
        self.oracle.publish(file, meant)

    def _taken(self, statements: Sequence[Statement], by: File | None) -> None:
        """What is held elsewhere, or was withdrawn, is of the source that says it too."""
        for other in self.files:
            if other is not by:
                other.held = [one for one in other.held if one not in statements]

    def _events(self, statements: Sequence[Statement]) -> None:
        self.ledger.intake.accept_events(self.run, [_change(one) for one in statements], [])
        self._taken(statements, None)
        self.oracle.publish(None, statements)

    def _approve(self, file: File, name: str) -> None:
        only = {"approve": None, "approve in": Action.OPTIN, "approve out": OUT}[name]
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

    def _deliver(self, outcome: Outcome | None = None, limit: int = 100) -> int:
        """Deliver all that may be, nothing that is paused or that a fuse holds; return how many customers that were."""
        held = {one.import_id: one.state for one in self.ledger.fuses.tripped()}
        paused = [one.only_optins for one in self.ledger.pauses.current()]
        tasks = self.ledger.queue.claim(BUCKET, limit, "delivery", 60)
        for change in (change for task in tasks for change in task.changes):
            assert not paused or (all(paused) and change.action == OUT)
            assert held.get(change.import_id) in (None, *([FuseState.OPTOUTS] if change.action == OUT else []))
        settled = [settlement(task, outcome or Applied(), self.ledger.now()) for task in tasks]
        self.ledger.queue.settle("delivery", settled, FuseCounter(BUCKET, RULES))
        return len(tasks)

    def _fail(self) -> None:
        self._deliver(PermanentFailure("no", "the provider will not have it", ours=True), 2)

    def _replay(self) -> None:
        found = self.ledger.dead_letters.find(DeadLetterFilter())
        self.ledger.dead_letters.replay(found, who="test", why="")

    def _correct(self, statements: Sequence[Statement]) -> None:
        """A person finds that the first dead letter was about someone else."""
        found = self.ledger.dead_letters.search(DeadLetterFilter())
        if not found:
            return
        letter, sent = min(found, key=lambda one: one.id), [_change(statements[0])]
        done = self.ledger.review.correct(letter.id, sent, columns=["user_id"], who="ann", why="a slip")
        if isinstance(done, Corrected):
            mine = (statements[0].who, letter.effective_at, letter.action)
            for file in self.files:
                file.held = [one for one in file.held if version(one) != mine]
            self.oracle.counts.setdefault(mine, None)

    def _pause(self, how: str) -> None:
        self.ledger.pauses.pause("capillary", None, only_optins=how == "in", who="ann", why=_CHECKED)

    def _resume(self, how: str) -> None:
        self.ledger.pauses.resume("capillary", None, only_optouts=how == "out", who="ann", why=_CHECKED)
        self.ledger.fuses.work_off()

    def _reset(self, how: str) -> None:
        for _ in range(2):  # the second time changes nothing
            self.ledger.fuses.reset("capillary", FuseWay(how), Decision("ann", _CHECKED))
            self.ledger.fuses.work_off()

    def end(self) -> None:
        """Once nothing is paused or held by a fuse, all is delivered that no guard holds."""
        self._resume("")
        self._reset("off")
        while self._deliver():
            pass
        self.ledger.fuses.close_those_over()
        assert self.ledger.fuses.held_customers() == {}
        assert self.ledger.queue.left(BUCKET, 1) == 0
        assert self.ledger.deadlines.wrong_cells() == 0
        for report in filter(None, map(self.ledger.queries.report, self.ledger.queries.recent_imports(1_000))):
            assert report.pending == report.held, report

    def compare(self) -> dict[str, str]:
        """Each person's slot says what the oracle says, each import's counts balance; return what the slots say."""
        found = {one.address["user_id"]: one.action.value for one in self.ledger.queries.current_values()}
        assert found == self.oracle.stands()
        for file in self.files:
            counts(self.ledger, file.import_id)
        assert not self.ledger.intake.unpublished()
        return found


def _change(statement: Statement):
    return change_of(statement.who, statement.action.value, statement.minute)


some_statements = st.lists(
    st.builds(Statement, st.sampled_from("123"), st.sampled_from(Action), st.sampled_from((1, 2, 5, 9))),
    min_size=1,
    max_size=4,
)
BRAKES = (
    *("pause", "pause in", "resume", "resume out"),
    *("reset resume", "reset resume", "reset optouts", "reset let-die", "reset off"),
)
DECISIONS = ("approve", "approve in", "approve out", "withdraw", "undo", "undo", "undo all")
steps = st.one_of(
    st.tuples(st.just("dump"), some_statements, st.just(0)),
    st.tuples(st.sampled_from(["import", "dump", "events", "correct"]), some_statements, st.just(0)),
    st.tuples(st.sampled_from(DECISIONS), st.just([]), st.integers(0, 5)),
    st.tuples(st.sampled_from(["deliver", "deliver", "fail", "fail", "replay"]), st.just([]), st.just(0)),
    st.tuples(st.sampled_from(BRAKES), st.just([]), st.just(0)),
)
TABLES = (
    *("noop_changes", "pending_duplicates", "slots", "changes", "customer_tasks", "imports", "targets", "attempts"),
    *("dead_letters", "audit_log", "fuses", "pauses"),
)


@pytest.mark.takes(30)
@pytest.mark.parametrize("at_once", [1, 2, 3])
@POSTGRESQL_IN_PROOFS
@settings(
    max_examples=examples(100, share=50), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=st.lists(steps, min_size=4, max_size=14))
def test_the_newest_of_what_counts_stands(
    ledger: Ledger, history: list[tuple[str, list[Statement], int]], at_once: int
) -> None:
    """Files that are held or not, events, approvals, withdrawals, undoing, deliveries, failures, replays, corrections.

    After each step the ledger's slots are the oracle's, and every import's counts balance. Approving, withdrawing and
    undoing a second time changes nothing; what is held or withdrawn supersedes nothing. Pauses and fuses change nothing
    of what stands: nothing is delivered meanwhile that they hold, and all is once they have ended.
    """
    ledger.database.write(lambda tx: [tx.execute(text(f"DELETE FROM {name}")) for name in TABLES])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(undoing, "CHUNK", at_once)
        patch.setattr(guard_checks, "MOVED_AT_ONCE", at_once)
        both = Both(ledger)
        for name, rows, which in history:
            both.step(name, rows, which)
            both.compare()
        both.end()
        both.compare()
