"""The ways of a delivery in the model: whole, in steps, late, or stopped between its look and its call."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from consent.change import Bucket
from tests.model.changes import OVERLAPPING, Statement, changes, minds
from tests.model.producers import Producers
from tests.model.settlements import Settlements
from tests.model.world import BUCKET, BUCKETS, LEASE, STATISTICS
from tests.support.providers import blocklist

ANSWERS = (
    *("applied", "rejected", "try later", "busy", "unreachable"),
    *("committed, cut", "cut, still at it", "cut, still at it", "timed out", "timed out"),
)
ENDS = ("settled", "settled", "killed", "killed", "stopped")


class Deliveries(Settlements, Producers):
    """Deliveries as workers make them, and persons who change their mind meanwhile."""

    @rule(
        bucket=st.sampled_from(BUCKETS),
        limit=st.integers(1, 3),
        answers=st.lists(st.sampled_from(ANSWERS), min_size=3, max_size=3),
        end=st.sampled_from(ENDS),
        wait=st.sampled_from((0.0, 0.0, 6.0, 61.0)),
    )
    def delivery_works(self, bucket: Bucket, limit: int, answers: list[str], end: str, wait: float) -> None:
        """A delivery takes what is due, makes some calls, and settles, is killed or is stopped; time passes."""
        delivery = self._claim(limit, bucket)
        if delivery is None:
            return
        for name, answer in zip(self._may_call(delivery), answers, strict=False):
            self._call(delivery, name, answer, in_time=True)
        if end == "settled":
            self._settle(delivery)
        elif end == "killed":
            self._kill(delivery)
        self._pass(wait)

    @precondition(lambda self: any(self._may_call(one) for one in self.deliveries))
    @rule(data=st.data(), answer=st.sampled_from(ANSWERS))
    def delivery_calls(self, data: st.DataObject, answer: str) -> None:
        """A delivery calls the provider in time, and this is what becomes of it."""
        delivery = data.draw(st.sampled_from([one for one in self.deliveries if self._may_call(one)]))
        name = data.draw(st.sampled_from(sorted(self._may_call(delivery))))
        self._call(delivery, name, answer, in_time=True)

    @rule(
        statements=minds,
        in_order=st.booleans(),
        answers=st.lists(st.sampled_from(("applied", *ANSWERS)), min_size=4, max_size=4),
        end=st.sampled_from(ENDS),
    )
    def person_changes_her_mind(
        self,
        statements: list[Statement],
        in_order: bool,  # noqa: FBT001 - hypothesis draws it
        answers: list[str],
        end: str,
    ) -> None:
        """One person says this and that of slots that overlap, and is served in between; the last delivery may die."""
        if in_order:  # each change counts
            latest = self._latest(statements[0].customer)
            statements = [change._replace(minute=latest + n) for n, change in enumerate(statements, 1)]
        for change, answer in zip(statements, answers, strict=False):
            self.events_arrive([change], twice=False)
            self.delivery_works(blocklist.BUCKET, 3, [answer] * 3, "settled", 6.0)
            self.delivery_works(
                blocklist.BUCKET, 3, ["applied"] * 3, end if change is statements[-1] else "settled", 0.0
            )

    @rule(first=changes, then=changes, repeated=st.booleans(), gap=st.sampled_from((0.0, 6.0, 61.0)))
    def call_is_cut(self, first: Statement, then: Statement, repeated: bool, gap: float) -> None:  # noqa: FBT001 - drawn
        """A call is cut and may land later; it is repeated or not, and the person says something newer meanwhile."""
        self.refused.discard(first.customer)
        bucket = blocklist.BUCKET if first.customer in OVERLAPPING else BUCKET
        latest = self._latest(first.customer)
        self.events_arrive([first._replace(minute=latest + 1)], twice=False)
        self.delivery_works(bucket, 3, ["cut, still at it"] * 3, "settled", 6.0)
        if repeated:
            self.delivery_works(bucket, 3, ["applied"] * 3, "settled", 0.0)
        self.events_arrive([then._replace(customer=first.customer, slot=first.slot, minute=latest + 2)], twice=False)
        self._pass(gap)
        self.delivery_works(bucket, 3, ["applied"] * 3, "settled", 0.0)

    @rule(first=changes, then=changes, repeats=st.integers(0, 2))
    def stopped_worker_and_its_successor_are_cut(self, first: Statement, then: Statement, repeats: int) -> None:
        """A worker calls when its lease is long lost, and is cut; so is the one that sends what is newer."""
        self.refused.discard(name := first.customer)
        bucket = blocklist.BUCKET if name in OVERLAPPING else BUCKET
        latest = self._latest(name)
        self.events_arrive([first._replace(minute=latest + 1)], twice=False)
        stopped = self._claim(3, bucket)
        for _ in range(2):  # until the lease is over, and then until there is no doubt any more
            self._pass(LEASE + 1)
            self.delivery_works(bucket, 3, ["unreachable"] * 3, "settled", 0.0)
        self.events_arrive([then._replace(customer=name, slot=first.slot, minute=latest + 2)], twice=False)
        successor = self._claim(3, bucket)
        if stopped is not None and name in stopped.tasks and successor is not None and name in successor.tasks:
            self._call(stopped, name, "cut, still at it", in_time=False)
            self._call(successor, name, "cut, still at it", in_time=True)
            for delivery in (stopped, successor):
                self._settle(delivery)
            STATISTICS["calls of a stopped worker and its successor that were cut"] += 1
        for _ in range(repeats):
            self._pass(6.0)
            self.delivery_works(bucket, 3, ["applied"] * 3, "settled", 0.0)

    @rule(first=minds, meanwhile=minds)
    def delivery_is_stopped_after_its_look(self, first: list[Statement], meanwhile: list[Statement]) -> None:
        """A delivery sees what entries a person has, loses its lease, and writes what it would have written then."""
        self.events_arrive(first, twice=False)
        delivery = self._claim(3, blocklist.BUCKET)
        if delivery is None:
            return
        for name in self._may_look(delivery):
            self._look(name, self._errand(delivery, name))
        for _ in range(2):  # until the lease is over, and then until there is no doubt any more
            self._pass(LEASE + 1)
            self.delivery_works(blocklist.BUCKET, 3, ["applied"] * 3, "settled", 0.0)
        self.person_changes_her_mind(meanwhile, True, ["applied"] * 4, "settled")  # noqa: FBT003
        for name in set(delivery.tasks) - set(delivery.called):
            self._call(delivery, name, "applied", in_time=False)
        self._settle(delivery)

    @precondition(lambda self: any(self._may_look(one) for one in self.deliveries))
    @rule(data=st.data())
    def delivery_looks(self, data: st.DataObject) -> None:
        """A delivery sees what entries a person has; it writes later, perhaps when its lease is long lost."""
        delivery = data.draw(st.sampled_from([one for one in self.deliveries if self._may_look(one)]))
        name = data.draw(st.sampled_from(sorted(self._may_look(delivery))))
        before = self._known_under_way(delivery, name)
        assert all(call.cut for call in before), "a look while a write is under way"
        self._look(name, self._errand(delivery, name))
        STATISTICS["looks before a pause"] += 1

    @precondition(lambda self: any(set(one.tasks) - set(one.called) for one in self.deliveries))
    @rule(data=st.data(), answer=st.sampled_from(("applied", "applied", "cut, still at it")))
    def stopped_delivery_calls_late(self, data: st.DataObject, answer: str) -> None:
        """A worker is stopped for longer than its lease, goes on, and calls and settles at once."""
        delivery = data.draw(st.sampled_from([one for one in self.deliveries if set(one.tasks) - set(one.called)]))
        name = data.draw(st.sampled_from(sorted(set(delivery.tasks) - set(delivery.called))))
        self._call(delivery, name, answer, in_time=False)
        self._settle(delivery)
