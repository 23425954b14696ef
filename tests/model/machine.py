"""The machine: everything that can happen to a ledger, in any order, and what must hold after every step."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import ClassVar

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import func, select

from consent.change import Bucket, to_micros
from consent.errors import ImportUnderWay
from consent.imports import Checkpoint, ImportSource
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import BucketHealth
from consent.ledger.queue.tasks import Attempt, ClaimedChange, CustomerTask, Settlement
from consent.ledger.schema import changes, imports, slots, targets
from consent.outcome import Applied, Healthy, Outcome, PermanentFailure, Retry, State, Unauthorized, Unchanged
from tests.model.overlapping import UNDER_WIDER_BLOCK, is_part, must_be_dead, wrongs
from tests.model.provider import LATEST, TIMEOUT, Call, LateProvider
from tests.model.words import MORNING, OVERLAPPING, PLACES, Said, Slot, minds, newest, who, words
from tests.support.providers import blocklist
from tests.support.providers.blocklist import Errand
from worker.delivery import breaker
from worker.delivery.observations import Observations
from worker.delivery.retry import RetryPolicy
from worker.providers.contract import Reply

BUCKET = Bucket("capillary")
BUCKETS = (BUCKET, blocklist.BUCKET)
LEASE = 60.0
WINDOW = LEASE - TIMEOUT - 1.0
DOUBT = 3 * TIMEOUT
ANSWERS = ("applied", "rejected", "try later", "busy", "committed, cut", "timed out", "timed out", "unreachable")
POLICY = RetryPolicy(2, 1.0, 1.0)
ENDS = ("settled", "settled", "killed", "killed", "stopped")
STATISTICS: Counter[str] = Counter()
cuts = st.sampled_from((9, 9, 0, 1, 2, 3))


_STATES = select(changes.c.import_id, changes.c.state, func.count()).group_by(changes.c.import_id, changes.c.state)
_COUNTS = select(imports.c.id, imports.c.changes, imports.c.recorded, imports.c.duplicates, imports.c.noops)
_DEAD = (
    select(targets.c.address, slots.c.slot, changes.c.code, changes.c.id)
    .join_from(slots, targets, targets.c.id == slots.c.target_id)
    .join(changes, changes.c.id == slots.c.newest_id)
    .where(changes.c.state == State.DEAD.value)
)


class Cut(Exception):
    """The process is gone at this point."""


@dataclass
class File:
    """A file on its way into the ledger."""

    id: str
    name: str
    words: list[Said]
    stream: bool
    read: int = 0
    whole: bool = False


@dataclass
class Delivery:
    """A delivery as its worker holds it: its claim, the calls that it has made, and what it does at the blocklist."""

    bucket: Bucket
    token: str
    tasks: dict[str, CustomerTask]
    until: float
    called: dict[str, tuple[str, Call | None]] = field(default_factory=dict)
    errands: dict[str, Errand] = field(default_factory=dict)


class Consents(RuleBasedStateMachine):
    """Producers, deliveries, a provider and a person with dead letters, all at once on one ledger."""

    fresh: ClassVar[staticmethod[[object], Ledger]]

    def __init__(self) -> None:
        super().__init__()
        self.elapsed, self.offset = 0.0, 0.0
        self.ledger = type(self).fresh(self._micros)
        self.provider = LateProvider()
        self.files: list[File] = []
        self.deliveries: list[Delivery] = []
        self.sources: dict[Said, list[File | None]] = {}
        self.applied: dict[Slot, tuple[int, bool]] = {}
        self.killed: set[int] = set()
        self.refused: set[str] = set()
        self.refused_at: dict[str, tuple[float, int]] = {}
        self.served_at: dict[str, tuple[float, int]] = {}
        self.numbers = count()
        self.run = self._open("events", stream=True).id
        STATISTICS["examples"] += 1

    def _micros(self) -> int:
        return int((1_800_000_000 + self.elapsed + self.offset) * 1_000_000)

    def _open(self, kind: str, *, name: str = "", stream: bool = False) -> File:
        name = name or f"{kind} {next(self.numbers)}"
        progress = self.ledger.intake.open_import(ImportSource(kind, name, name, 1, None, stream=stream))
        return File(progress.import_id, name, [], stream)

    # Producers

    @rule(said=st.lists(words, min_size=1, max_size=6), stream=st.booleans(), until=cuts, steps=cuts)
    def file_arrives(self, said: list[Said], stream: bool, until: int, steps: int) -> None:  # noqa: FBT001 - drawn
        """A file comes; its importer may be killed anywhere."""
        file = self._open("csv", stream=stream)
        file.words = said
        self.files.append(file)
        self._import(file, until, steps)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), until=cuts, steps=cuts)
    def importer_runs_again(self, data: st.DataObject, until: int, steps: int) -> None:
        """A file is imported again; its importer may be killed anywhere."""
        self._import(data.draw(st.sampled_from(self.files)), until, steps)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), until=cuts, steps=cuts)
    def copy_arrives(self, data: st.DataObject, until: int, steps: int) -> None:
        """Another file says the same, perhaps while the first one has not been read whole; it may be cut too."""
        file = self._open("csv")
        file.words = data.draw(st.sampled_from(self.files)).words
        self.files.append(file)
        self._import(file, until, steps)

    def _import(self, file: File, until: int, steps: int) -> None:
        self._read(file, until)
        if file.read == len(file.words):
            self._release(file, steps)

    def _read(self, file: File, until: int) -> None:
        progress = self.ledger.intake.open_import(
            ImportSource("csv", file.name, file.name, 1, None, stream=file.stream)
        )
        assert progress.checkpoint.records == file.read
        while progress.state == "reading" and file.read < min(len(file.words), until):
            chunk = file.words[file.read : file.read + 2]
            after = file.read + len(chunk)
            changes_ = [word.change(file.read + n + 2) for n, word in enumerate(chunk)]
            done = self.ledger.intake.accept(file.id, changes_, [], Checkpoint(after, after + 1, 0, after))
            new = self._hear(file, chunk)  # more may be recorded: what a slot is confirmed to hold can be said again
            assert new <= done.recorded <= len(chunk)
            file.read = after
        if progress.state == "reading" and 0 < len(file.words) == file.read:
            self.ledger.intake.finish_reading(file.id)
            file.whole = True

    def _hear(self, source: File | None, said: list[Said]) -> int:
        """Note who said these words; return how many are new to the ledger, or kept back by files and now told."""
        new = 0
        for word in said:
            tells_at_once = source is None or (source.stream and word.action == "OPTOUT")
            new += not self._is_live(word) if tells_at_once else word not in self.sources
            self.sources.setdefault(word, []).append(source)
        return new

    def _is_live(self, word: Said) -> bool:
        """Whether someone said this word whose words must be told."""
        opts_out = word.action == "OPTOUT"  # the opt-ins of a stream wait until it has been read and checked
        return any(one is None or (one.stream and opts_out) or one.whole for one in self.sources.get(word, ()))

    def _release(self, file: File, steps: int) -> None:
        if not steps:
            event("release never begun")
            return
        left = count(1)

        def cut(_: int) -> None:
            if next(left) > steps:
                raise Cut

        try:
            self.ledger.intake.publish(file.id, cut)
        except Cut:
            event("release cut")

    @precondition(lambda self: any(0 < f.read < len(f.words) for f in self.files))
    @rule(data=st.data())
    def second_importer_comes_late(self, data: st.DataObject) -> None:
        """An importer that went on from an old checkpoint is refused and records nothing."""
        file = data.draw(st.sampled_from([f for f in self.files if 0 < f.read < len(f.words)]))
        try:
            self.ledger.intake.accept(file.id, [file.words[0].change(2)], [], Checkpoint(1, 2, 0, 1))
        except ImportUnderWay:
            return
        raise AssertionError("an importer with an old checkpoint was let in")

    @rule(said=st.lists(words, min_size=1, max_size=3), twice=st.booleans())
    def events_arrive(self, said: list[Said], twice: bool) -> None:  # noqa: FBT001 - hypothesis draws it
        """Events come, perhaps twice because the answer was lost on the way back to their source."""
        for _ in range(1 + twice):
            fresh = self._hear(None, said)
            done = self.ledger.intake.accept_events(self.run, [word.change(n) for n, word in enumerate(said)], [])
            assert (
                fresh <= sum(done.fresh) <= len(said)
            )  # more, if a file that is whole only repeated what another kept back

    @precondition(lambda self: any(is_out for _, is_out in self.applied.values()))
    @rule(data=st.data())
    def others_opt_a_person_in_who_unsubscribes(self, data: st.DataObject) -> None:
        """Another program writes to the provider, and then the person opts out: that must arrive."""
        out = sorted(slot for slot, (_, is_out) in self.applied.items() if is_out)
        self._others_write(data.draw(st.sampled_from(out)))

    def _others_write(self, where: Slot) -> None:
        """Opt a person in behind our back, who unsubscribes later than any confirmation, wherever the clock is."""
        name, slot = where
        if name in OVERLAPPING:
            self.provider.blocklists[name].entries.discard((*PLACES[slot], "CUSTOM"))
        else:
            self.provider.held[where] = "OPTIN"
        now = (self._micros() - to_micros(MORNING)) // 60_000_000
        said = Said(*where, "OPTOUT", max(now, self._latest(name)) + 60, f"click {next(self.numbers)}")
        self._hear(None, [said])
        assert self.ledger.intake.accept_events(self.run, [said.change(0)], []).fresh == (True,)
        STATISTICS["opt-outs since others wrote"] += 1

    def _latest(self, name: str) -> int:
        return max((word.minute for word in self.sources if word.customer == name), default=0)

    # Deliveries

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

    def _claim(self, limit: int, bucket: Bucket) -> Delivery | None:
        token = f"delivery {next(self.numbers)}"
        found = self.ledger.breakers.health_of(str(bucket))
        overlap = blocklist.OVERLAP if bucket == blocklist.BUCKET else None
        if breaker.is_probe(found):
            claimed = self.ledger.queue.claim(bucket, 1, token, LEASE, DOUBT, overlap=overlap, suspects=found.suspects)
            STATISTICS["probes"] += len(claimed)
        else:
            claimed = self.ledger.queue.claim(bucket, limit, token, LEASE, DOUBT, overlap=overlap)
        tasks = {who(task.address): task for task in claimed}
        held = {name for one in self.deliveries if one.until > self.elapsed + self.offset for name in one.tasks}
        assert not held & set(tasks), "two live leases for one target"
        if not tasks:
            return None
        self.deliveries.append(Delivery(bucket, token, tasks, self.elapsed + self.offset + LEASE))
        return self.deliveries[-1]

    def _may_call(self, delivery: Delivery) -> list[str]:
        in_time = self.elapsed + self.offset < delivery.until - LEASE + WINDOW
        return [name for name in delivery.tasks if name not in delivery.called] if in_time else []

    @precondition(lambda self: any(self._may_call(one) for one in self.deliveries))
    @rule(data=st.data(), answer=st.sampled_from(ANSWERS))
    def delivery_calls(self, data: st.DataObject, answer: str) -> None:
        """A delivery calls the provider in time, and this is what becomes of it."""
        delivery = data.draw(st.sampled_from([one for one in self.deliveries if self._may_call(one)]))
        name = data.draw(st.sampled_from(sorted(self._may_call(delivery))))
        self._call(delivery, name, answer, in_time=True)

    @rule(
        said=minds,
        in_order=st.booleans(),
        answers=st.lists(st.sampled_from(("applied", *ANSWERS)), min_size=4, max_size=4),
        end=st.sampled_from(ENDS),
    )
    def person_changes_her_mind(self, said: list[Said], in_order: bool, answers: list[str], end: str) -> None:  # noqa: FBT001
        """One person says this and that of slots that overlap, and is served in between; the last delivery may die."""
        if in_order:  # each change counts
            latest = self._latest(said[0].customer)
            said = [word._replace(minute=latest + n) for n, word in enumerate(said, 1)]
        for word, answer in zip(said, answers, strict=False):
            self.events_arrive([word], twice=False)
            self.delivery_works(blocklist.BUCKET, 3, [answer] * 3, "settled", 6.0)
            self.delivery_works(blocklist.BUCKET, 3, ["applied"] * 3, end if word is said[-1] else "settled", 0.0)

    @rule(first=minds, meanwhile=minds)
    def delivery_is_stopped_after_its_look(self, first: list[Said], meanwhile: list[Said]) -> None:
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
        assert not any(call.customer == name for call in self.provider.under_way), "a look while a write is under way"
        self._look(name, self._errand(delivery, name))
        STATISTICS["looks before a pause"] += 1

    def _may_look(self, delivery: Delivery) -> list[str]:
        return [name for name in self._may_call(delivery) if name in OVERLAPPING and name not in delivery.errands]

    def _errand(self, delivery: Delivery, name: str) -> Errand:
        return delivery.errands.setdefault(name, Errand.of(delivery.tasks[name]))

    def _look(self, name: str, errand: Errand) -> None:
        while (request := errand.next_call()) is not None and request.method == "GET":
            errand.answered(self.provider.blocklists[name](request))

    @precondition(lambda self: any(set(one.tasks) - set(one.called) for one in self.deliveries))
    @rule(data=st.data())
    def stopped_delivery_calls_late(self, data: st.DataObject) -> None:
        """A worker is stopped for longer than its lease, goes on, and calls and settles at once."""
        delivery = data.draw(st.sampled_from([one for one in self.deliveries if set(one.tasks) - set(one.called)]))
        name = data.draw(st.sampled_from(sorted(set(delivery.tasks) - set(delivery.called))))
        self._call(delivery, name, "applied", in_time=False)
        self._settle(delivery)

    def _call(self, delivery: Delivery, name: str, answer: str, *, in_time: bool) -> None:
        STATISTICS[f"calls: {answer}" if in_time else "calls after the lease was lost"] += 1
        task = delivery.tasks[name]
        alone = not any(call.customer == name for call in self.provider.under_way)
        if in_time:
            assert alone, "two calls for one target at once"
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

    def _arrive(self, call: Call, answer: str) -> None:
        if answer in {"applied", "committed, cut"}:
            self.provider.land(call)
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

    def _never_older(self, name: str, told: tuple[ClaimedChange, ...]) -> None:
        for change in told:
            was = self.applied.get((name, change.slot))
            now = (self._minute(change), change.action == "OPTOUT")
            assert was is None or now >= was, "an older change is sent after a newer one was settled"
            for (whose, wide), then in self.applied.items():
                if name in OVERLAPPING and whose == name and is_part(change.slot, wide):
                    # An opt-out within an opt-out changes nothing: it is sent if the wider one may not be known there.
                    harmless = now[1] and then[1]
                    assert harmless or now >= then, "an older change is sent after a newer one of a wider slot"

    def _minute(self, change: ClaimedChange) -> int:
        return (change.effective_at - to_micros(MORNING)) // 60_000_000

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
        lost = self.ledger.queue.settle(delivery.token, settlements)
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
        answer, _ = delivery.called[name]
        if answer == "refused":
            return self._refusal(task, watch, before)
        now, ids = self._micros(), tuple(change.id for change in task.changes)
        outcomes: dict[int, Outcome] = dict.fromkeys(ids, self._outcome(answer))
        if (errand := delivery.errands.get(name)) is not None:
            outcomes, ids = errand.outcomes, tuple(errand.asked)
        self._note(name, task, outcomes)
        put_off = now + 5_000_000 if any(isinstance(one, Retry) for one in outcomes.values()) else 0
        doubt = now + int(DOUBT * 1_000_000) if answer == "timed out" else 0
        attempt = Attempt(task.target_id, now, 1, "write", 200, "200", ids)
        return Settlement(task, outcomes, (attempt,), put_off, in_doubt_until=doubt)

    def _note(self, name: str, task: CustomerTask, outcomes: dict[int, Outcome]) -> None:
        for change in task.changes:
            match outcomes.get(change.id):
                case PermanentFailure(code):
                    self.killed.add(change.id)
                    STATISTICS[f"dead: {code}"] += 1
                case Applied() | Unchanged():
                    rank, where = (self._minute(change), change.action == "OPTOUT"), (name, change.slot)
                    self.applied[where] = max(rank, self.applied.get(where, rank))

    def _refusal(self, task: CustomerTask, watch: Observations, before: BucketHealth) -> Settlement:
        """Settle what the gateway refused: it counts only if another customer was served since it first was."""
        name, now = who(task.address), self._micros()
        ids = tuple(change.id for change in task.changes)
        call = Attempt(task.target_id, now, 1, "write", 403, "403", ids)
        later = Retry("403", "a gateway refuses this customer", counts=False)
        own = ids if breaker.is_its_own(self.ledger, before, watch, task, call, Unauthorized("no access")) else ()
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

    def _outcome(self, answer: str) -> Outcome:
        match answer:
            case "applied":
                return Applied()
            case "rejected":
                return PermanentFailure("1012", "Capillary cannot find this customer")
            case _:
                return Retry("500", "not now", counts=answer == "try later")

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data())
    def worker_is_killed(self, data: st.DataObject) -> None:
        """A worker is gone with all that it knew; what it had sent may still land."""
        self._kill(data.draw(st.sampled_from(self.deliveries)))

    def _kill(self, delivery: Delivery) -> None:
        self.deliveries.remove(delivery)
        STATISTICS["workers killed"] += 1

    # The world

    @precondition(lambda self: self.provider.under_way)
    @rule(data=st.data())
    def late_call_lands(self, data: st.DataObject) -> None:
        """The provider gets round to a call that its caller has given up."""
        self.provider.land(data.draw(st.sampled_from(self.provider.under_way)))
        STATISTICS["late landings"] += 1

    @rule(seconds=st.sampled_from((6.0, 21.0, 61.0, 61.0, 130.0)))
    def time_passes(self, seconds: float) -> None:
        """Time goes on."""
        self._pass(seconds)

    def _pass(self, seconds: float) -> None:
        self.elapsed += seconds
        self.provider.land_until(self.elapsed)

    @rule(name=st.sampled_from("ABC" + OVERLAPPING))
    def gateway_takes_against_a_customer(self, name: str) -> None:
        """A gateway before the provider begins to refuse one customer, or has done with it."""
        self.refused ^= {name}

    @precondition(lambda self: not self.provider.under_way)
    @rule(seconds=st.sampled_from((-90.0, -5.0, 5.0, 90.0)))
    def clock_jumps(self, seconds: float) -> None:
        """Someone sets the machine's clock: of the leases that were taken before no one knows how long they hold."""
        self.offset += seconds
        for delivery in self.deliveries:
            delivery.until = -inf

    @precondition(lambda self: any(file.whole for file in self.files))
    @rule()
    def sweep(self) -> None:
        """The sweep publishes what an importer that died had read whole."""
        for import_id in self.ledger.intake.unpublished():
            self.ledger.intake.publish(import_id)

    # A person

    @precondition(lambda self: self.killed or self._may_be_cut_off())
    @rule()
    def letters_are_replayed(self) -> None:
        """Someone replays every dead letter."""
        found = self.ledger.dead_letters.find(DeadLetterFilter())
        self.ledger.dead_letters.replay(found, who="ann", why="fixed")
        self.killed.difference_update(letter.id for letter in found)
        STATISTICS["replayed"] += len(found)

    def _may_be_cut_off(self) -> bool:
        return bool(must_be_dead([word for word in self.sources if word.customer in OVERLAPPING]))

    @precondition(lambda self: self.killed or self._may_be_cut_off())
    @rule()
    def a_letter_is_discarded(self) -> None:
        """Someone puts the oldest dead letter away."""
        found = self.ledger.dead_letters.find(DeadLetterFilter(), 1)
        self.ledger.dead_letters.discard(found, who="ann", why="account closed")
        STATISTICS["discarded"] += len(found)

    # What must hold

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
        live = newest(word for word in self.sources if self._is_live(word))
        out = [slot for slot, word in live.items() if word.action == "OPTOUT" and slot not in dead]
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
        live = [word for word in self.sources if self._is_live(word)]
        plain = newest(word for word in live if word.customer not in OVERLAPPING)
        for slot, word in plain.items():
            assert slot in dead or self.provider.held.get(slot) == word.action, (slot, word, self.provider.held)
        assert not set(self.provider.held) - set(plain)
        overlapping = [word for word in live if word.customer in OVERLAPPING]
        assert not (found := wrongs(overlapping, self.provider.blocklists, dead)), found
        STATISTICS["cut off at the end"] += len(must_be_dead(overlapping))

    def _calm_down(self) -> None:
        self.refused.clear()
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
            copy.words = file.words
            self._read(copy, len(copy.words))
            copy.whole = True
            self.ledger.intake.publish(copy.id)
            found = self.ledger.queries.report(copy.id)
            assert found is not None
            assert found.duplicates + found.unchanged + found.superseded == found.rows
        for bucket in BUCKETS:
            self._claim(100, bucket)
        assert not self.deliveries
        assert calls == self.provider.calls
