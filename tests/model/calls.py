"""How a delivery of the model claims and calls, and what becomes of a call; nothing older is ever sent."""

from __future__ import annotations

from collections.abc import Iterable

from consent.change import Action, Bucket
from consent.guards.fuse import FuseState
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from consent.outcome import Applied, Outcome, PermanentFailure, Retry
from consent.times import to_micros
from tests.model.changes import MORNING, OVERLAPPING, who
from tests.model.overlapping import is_part
from tests.model.provider import TIMEOUT, Call
from tests.model.world import EVENTS, LEASE, STATISTICS, Delivery, World
from tests.support.providers import blocklist
from tests.support.providers.blocklist import Errand
from worker.providers.contract import Reply

WINDOW = LEASE - TIMEOUT - 1.0
DOUBT = 3 * TIMEOUT


class Calls(World):
    """Claims, looks and calls, each with an answer that is drawn."""

    def _claim(self, limit: int, bucket: Bucket) -> Delivery | None:
        token = f"delivery {next(self.numbers)}"
        found = self.ledger.breakers.health_of(str(bucket))
        overlap = blocklist.OVERLAP if bucket == blocklist.BUCKET else None
        if found.is_open:
            claimed = self.ledger.queue.claim(bucket, 1, token, LEASE, DOUBT, overlap=overlap, suspects=found.suspects)
            STATISTICS["probes"] += len(claimed)
        else:
            claimed = self.ledger.queue.claim(bucket, limit, token, LEASE, DOUBT, overlap=overlap)
        tasks = {who(task.address): task for task in claimed}
        held = {name for one in self.deliveries if one.until > self.elapsed + self.offset for name in one.tasks}
        assert not held & set(tasks), "two live leases for one target"
        actions = {change.action for task in claimed for change in task.changes}
        assert not (actions & self.paused.get(bucket.connection, set())), "what is paused was claimed"
        self._nothing_is_held(tasks.values(), bucket)
        if not tasks:
            return None
        until = self.elapsed + self.offset + LEASE
        self.deliveries.append(Delivery(bucket, token, tasks, until, self.provider.calls))
        return self.deliveries[-1]

    def _nothing_is_held(self, tasks: Iterable[CustomerTask], bucket: Bucket) -> None:
        """Say that no change was claimed which a fuse holds: its import's, its event source's, or all."""
        if not (held := self.tripped().get(str(bucket), {})):
            return
        STATISTICS["claims beside a fuse"] += 1
        for change in (change for task in tasks for change in task.changes):
            origin = EVENTS if change.import_id == self.run else change.import_id
            stops = {held[one] for one in ("", origin) if one in held}
            assert stops <= ({FuseState.OPTOUTS} if change.action is Action.OPTOUT else set()), "what a fuse holds"

    def _may_call(self, delivery: Delivery) -> list[str]:
        in_time = self.elapsed + self.offset < delivery.until - LEASE + WINDOW
        return [name for name in delivery.tasks if name not in delivery.called] if in_time else []

    def _may_look(self, delivery: Delivery) -> list[str]:
        return [name for name in self._may_call(delivery) if name in OVERLAPPING and name not in delivery.errands]

    def _errand(self, delivery: Delivery, name: str) -> Errand:
        return delivery.errands.setdefault(name, Errand.of(delivery.tasks[name]))

    def _look(self, name: str, errand: Errand) -> None:
        while (request := errand.next_call()) is not None and request.method == "GET":
            errand.answered(self.provider.blocklists[name](request))

    def _call(self, delivery: Delivery, name: str, answer: str, *, in_time: bool) -> None:
        STATISTICS[f"calls: {answer}" if in_time else "calls after the lease was lost"] += 1
        task = delivery.tasks[name]
        if in_time:
            asked = {change.id for change in task.changes}
            before = self._known_under_way(delivery, name)
            assert all(call.cut for call in before), "two calls for one target at once"
            assert all(asked <= call.asked for call in before), "something else is sent while a call may land"
            STATISTICS["calls repeated while one is under way"] += bool(before)
            self._never_older(name, task.changes)
        if name in self.refused:
            answer = "refused"
            STATISTICS["calls: refused by the gateway"] += 1
            self.refused_at.setdefault(name, (self.elapsed, self._micros()))
        if name in OVERLAPPING:
            delivery.called[name] = self._deal(name, self._errand(delivery, name), answer)
            return
        call = self.provider.receive(name, task.changes, self.elapsed)
        self._arrive(call, answer)
        delivery.called[name] = (answer, call if call in self.provider.under_way else None)

    def _known_under_way(self, delivery: Delivery, name: str) -> list[Call]:
        """Return a customer's calls that are under way, but for those that stopped workers made since the claim."""
        under_way = self.provider.under_way
        return [call for call in under_way if call.customer == name and call.number <= delivery.calls_before]

    def _arrive(self, call: Call, answer: str) -> None:
        if answer in {"applied", "committed, cut"}:
            self.provider.land(call)
        elif answer == "cut, still at it":
            call.cut, call.lands_by = True, self.elapsed + DOUBT
        elif answer != "timed out":
            self.provider.lose(call)

    def _deal(self, name: str, errand: Errand, answer: str) -> tuple[str, Call | None]:
        """Look and write at the blocklist; what happens, happens to the first call that writes, if there is one."""
        if answer not in {"refused", "busy", "unreachable"}:
            self._look(name, errand)
        while (request := errand.next_call()) is not None:
            call = self.provider.receive(name, request.changes, self.elapsed, request)
            self._arrive(call, answer)
            STATISTICS[f"blocklist: {request.purpose}"] += 1
            if answer != "applied":
                errand.failed(self._outcome(answer))
                return answer, call if call in self.provider.under_way else None
            errand.answered(Reply(202, ""))
            self._look(name, errand)
        return "applied", None

    def _never_older(self, name: str, changes: tuple[ClaimedChange, ...]) -> None:
        for change in changes:
            was = self.applied.get((name, change.slot))
            now = (self._since(change), change.action == "OPTOUT")
            assert was is None or now >= was, "an older change is sent after a newer one was settled"
            for (whose, wide), then in self.applied.items():
                if name in OVERLAPPING and whose == name and is_part(change.slot, wide):
                    # An opt-out within an opt-out changes nothing: it is sent if the wider one may not be known there.
                    harmless = now[1] and then[1]
                    assert harmless or now >= then, "an older change is sent after a newer one of a wider slot"

    def _since(self, change: ClaimedChange) -> int:
        return change.effective_at - to_micros(MORNING)

    def _outcome(self, answer: str) -> Outcome:
        match answer:
            case "applied":
                return Applied()
            case "rejected":
                return PermanentFailure("1012", "Capillary cannot find this customer", ours=True)
            case _:
                return Retry("500", "not now", counts=answer == "try later")
