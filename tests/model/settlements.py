"""How a delivery of the model ends: settled in time or late, or its worker is killed."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from consent.ledger.queue.breakers import BucketHealth
from consent.ledger.queue.tasks import Attempt, CustomerTask, Settlement
from consent.ledger.review.fuse_counts import FuseCounter
from consent.outcome import Applied, Healthy, Outcome, PermanentFailure, Retry, Unauthorized, Unchanged
from tests.model.calls import DOUBT, Calls
from tests.model.changes import OVERLAPPING, who
from tests.model.provider import TIMEOUT
from tests.model.world import FUSE, STATISTICS, Delivery
from worker.delivery import breaker, evidence
from worker.delivery.breaker import Observations
from worker.delivery.results import RetryPolicy

POLICY = RetryPolicy(2, 1.0, 1.0)


class Settlements(Calls):
    """Writes down what became of calls, with the product's breaker and retry policy."""

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data())
    def delivery_settles(self, data: st.DataObject) -> None:
        """A delivery writes down what became of its calls, in time or after its lease."""
        self._settle(data.draw(st.sampled_from(self.deliveries)))

    def _settle(self, delivery: Delivery) -> None:
        if any(answer == "timed out" for answer, _ in delivery.called.values()):
            self._pass(TIMEOUT)
        self.deliveries.remove(delivery)
        late = self.elapsed + self.offset >= delivery.until
        STATISTICS["settled late" if late else "settled in time"] += 1
        watch, before = self._watch(delivery), self.ledger.breakers.health_of(str(delivery.bucket))
        settlements = [self._settlement(delivery, name, watch, before) for name in delivery.tasks]
        lost = self.ledger.queue.settle(delivery.token, settlements, FuseCounter(delivery.bucket, FUSE))
        STATISTICS["settled while a fuse holds"] += bool(self.tripped())
        breaker.conclude(self.ledger, before, watch)
        assert late or not lost

    def _watch(self, delivery: Delivery) -> Observations:
        """Take in what a delivery has seen, as a worker does."""
        watch, now = Observations(), self._micros()
        for name, (answer, _) in delivery.called.items():
            target = delivery.tasks[name].target_id
            if answer == "refused":
                watch.note(Unauthorized("no access"), (target,))
            elif answer in {"applied", "rejected"}:
                watch.note(Healthy(), (target,), served=(target,), at=now)
                self.served_at[name] = (self.elapsed, now)
        return watch

    def _settlement(self, delivery: Delivery, name: str, watch: Observations, before: BucketHealth) -> Settlement:
        task = delivery.tasks[name]
        if name not in delivery.called:
            return Settlement(task, {}, tried=False)
        answer, call = delivery.called[name]
        if answer == "refused":
            return self._refusal(task, watch, before)
        now, ids = self._micros(), tuple(change.id for change in task.changes)
        outcomes: dict[int, Outcome] = dict.fromkeys(ids, self._outcome(answer))
        if (errand := delivery.errands.get(name)) is not None:
            outcomes, ids = errand.outcomes, tuple(errand.asked)
        self._note(name, task, outcomes)
        put_off = now + 5_000_000 if any(isinstance(one, Retry) for one in outcomes.values()) else 0
        cut, doubt = answer == "cut, still at it", 0
        if cut or answer == "timed out":
            doubt = now + int(DOUBT * 1_000_000)
            ids = tuple(call.asked) if call is not None else ids
        attempt = Attempt(task.target_id, now, 1, "write", 200, "200", ids)
        return Settlement(task, outcomes, (attempt,), put_off, in_doubt_until=doubt, may_repeat=cut)

    def _note(self, name: str, task: CustomerTask, outcomes: dict[int, Outcome]) -> None:
        for change in task.changes:
            match outcomes.get(change.id):
                case PermanentFailure(code):
                    self.killed.add(change.id)
                    STATISTICS[f"dead: {code}"] += 1
                case Applied() | Unchanged():
                    rank, where = (self._since(change), change.action == "OPTOUT"), (name, change.slot)
                    self.applied[where] = max(rank, self.applied.get(where, rank))

    def _refusal(self, task: CustomerTask, watch: Observations, before: BucketHealth) -> Settlement:
        """Settle what the gateway refused: it counts only if another customer was served since it first was."""
        name, now = who(task.address), self._micros()
        ids = tuple(change.id for change in task.changes)
        call = Attempt(task.target_id, now, 1, "write", 403, "403", ids)
        later = Retry("403", "a gateway refuses this customer", counts=False)
        own = ids if evidence.is_its_own(self.ledger, before, watch, task, call, Unauthorized("no access")) else ()
        outcomes = POLICY.decide(task, dict.fromkeys(ids, later), healthy=False, own=own)
        dead = {number for number, outcome in outcomes.items() if isinstance(outcome, PermanentFailure)}
        self.killed |= dead
        if own:
            STATISTICS["refusals that count"] += 1
            served = self.served_at.items()
            others = [at for other, at in served if other != name and (other in OVERLAPPING) == (name in OVERLAPPING)]
            since = self.refused_at[
                name
            ]  # in time that passed, and by the clock: either may say so if the clock jumped
            later = any(elapsed >= since[0] or clock >= since[1] for elapsed, clock in others)
            assert later, "it counts, and no one else was served"
            watch.excuse(task.target_id)
        return Settlement(task, outcomes, (call,), now + 5_000_000)

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data())
    def worker_is_killed(self, data: st.DataObject) -> None:
        """A worker is gone with all that it knew; what it had sent may still land."""
        self._kill(data.draw(st.sampled_from(self.deliveries)))

    def _kill(self, delivery: Delivery) -> None:
        self.deliveries.remove(delivery)
        STATISTICS["workers killed"] += 1
