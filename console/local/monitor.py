"""Watching a delivery until nothing is pending, or nothing can be delivered."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import redis

from consent.change import Bucket
from consent.errors import BrokerUnavailable, LedgerUnavailable
from consent.ledger.queries import imports
from consent.ledger.queries.imports import ImportReport
from consent.ledger.queue import breakers
from consent.ledger.queue.breakers import Breaker, BucketHealth
from console.local.broker import LocalBroker
from console.local.worker import LocalWorker
from console.ui.limits import spoken_name
from console.ui.text import spoken
from worker.bootstrap import WorkerContext
from worker.breaker import openings_to_confirm
from worker.sweep import sweep

TICK_SECONDS = 0.25
_DEAF_SECONDS = 10.0
_NO_BROKER = "the broker cannot be reached: see OPTRELAY_BROKER_URL, then run this again"
_BROKER_SECONDS = 30.0  # for which a broker may take to answer for the first time
_AT_FIRST = 0.5  # seconds
_SHARE = 100  # of the time at most one in so many goes into looking
_ANSWERS = 8  # buckets of which the latest answer is told
_NEARLY_DONE = 2_000  # customers: from then on no one should wait for the end to be noticed


@dataclass(frozen=True, slots=True)
class Tick:
    """How things stand at one moment; `pending` counts customer tasks for each bucket, `elapsed` is in seconds."""

    reports: tuple[ImportReport, ...]
    pending: Mapping[Bucket, int]
    health: tuple[BucketHealth, ...]
    elapsed: float
    answers: Mapping[Bucket, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: 0 everything settled, 1 some rows rejected or dead, 4 or 5 unfinished for these reasons."""

    exit_code: int
    reasons: tuple[str, ...] = ()


@dataclass(slots=True)
class Rhythm:
    """When to look again at something that takes a while to count: seldom enough to cost little, `most` seconds apart.

    And yet, unless someone else does, no later than half way to the end that can be foreseen, so that no one waits for
    it to be noticed, and at every occasion once no more than `nearly_done` are left. Two looks must have been taken to
    foresee anything, so the second one comes soon.
    """

    most: float
    nearly_done: int = 0
    foresees: bool = True
    _next: float = 0.0
    _looked: float = 0.0
    _left: int = 0

    def is_due(self, now: float) -> bool:
        """Whether it is time; moments are of the monotonic clock, in seconds."""
        return now >= self._next

    def note(self, began: float, left: int) -> None:
        """Take in that one began to look then, and found so many left."""
        pause = min(_SHARE * (time.monotonic() - began), self.most)
        done = self._left - left
        if self.foresees and not self._looked:
            pause = min(pause, _AT_FIRST)
        elif self.foresees and done > 0:
            pause = min(pause, (began - self._looked) * left / done / 2)
        self._next = began + pause if left > self.nearly_done else began
        self._looked, self._left = began, left


@dataclass(slots=True)
class Running:
    """One run: the parts that it watches and what it has seen of them."""

    worker_context: WorkerContext
    imports: Sequence[str]
    patience: float
    broker: LocalBroker | None = None
    worker: LocalWorker | None = None
    started: float = field(default_factory=time.monotonic)
    swept: float = 0.0
    looking: Rhythm = field(default_factory=lambda: Rhythm(5.0, _NEARLY_DONE))
    counting: Rhythm = field(default_factory=lambda: Rhythm(60.0, foresees=False))
    closing: Rhythm = field(default_factory=lambda: Rhythm(5.0, foresees=False))
    reports: tuple[ImportReport, ...] = ()
    delivering: frozenset[Bucket] = frozenset()
    idle: str = "nothing has been settled"
    hint: str = ""
    lost_at: float | None = None
    reached: bool = False
    heard: float = field(default_factory=time.monotonic)
    moved: float = field(default_factory=time.monotonic)
    moved_at: dict[str, float] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    waiting_from: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        """Begin to look for what is pending at each import's first change."""
        self.waiting_from = dict.fromkeys(self.imports, 0)

    def watch(self) -> None:
        """Keep broker and worker alive, and sweep when it is time; what fails now is tried again at the next tick."""
        with suppress(LedgerUnavailable):
            try:
                self._watch()
            except (BrokerUnavailable, redis.RedisError):
                self.lost_at = self.lost_at or time.monotonic()

    def _watch(self) -> None:
        if self.broker is not None:
            self.broker.ensure()
        if self.worker is not None:
            self.worker.ensure()
        if time.monotonic() - self.swept >= self.worker_context.settings.sweep_seconds:
            self.swept = time.monotonic()
            sweep(self.worker_context)
            self._wake_the_deaf()
            self.lost_at, self.reached = None, True

    def _wake_the_deaf(self) -> None:
        """Start the worker anew if no one takes wake-ups: after a broker's restart a worker may be up and hear nothing.

        Known of Celery (celery/celery#8030, #8091): what counts is progress, not a process.
        """
        names = self.worker_context.settings.connections
        if is_busy(self.worker_context) or not any(self.worker_context.wakeups.waiting(name) for name in names):
            self.heard = time.monotonic()
        elif self.worker is not None and time.monotonic() - self.heard > _DEAF_SECONDS:
            self.heard = time.monotonic()
            self.worker.stop(0.0)

    def look(self) -> Tick:
        """Read how things stand.

        What became of an import's changes is counted more seldom than what is left, and whenever a bucket or they are
        done.
        """
        database, now = self.worker_context.ledger.database, time.monotonic()
        pending = imports.pending_by_bucket(database)
        rhythm = self.counting if pending else self.closing
        if self._are_done() or rhythm.is_due(now) or not self.delivering <= pending.keys():
            found = [imports.report(database, import_id) for import_id in self.imports]
            self.reports = tuple(one for one in found if one is not None)
            waiting = (one.import_id for one in self.reports if _is_waiting(one))
            self.waiting_from = {one: self.waiting_from.get(one, 0) for one in waiting}
            rhythm.note(now, sum(one.pending for one in self.reports))
        self.delivering = frozenset(pending)
        states = tuple(breakers.all_health(database))
        self._note_progress(self.reports, pending)
        answers = {one: breakers.latest_answer(database, one) for one in sorted(pending)[:_ANSWERS]}
        told = {one: answer for one, answer in answers.items() if answer is not None}
        return Tick(self.reports, pending, states, time.monotonic() - self.started, told)

    def _are_done(self) -> bool:
        """Whether nothing of the imports is pending any more, though some was when they were counted last."""
        database = self.worker_context.ledger.database
        first = {one: imports.first_pending(database, one, since) for one, since in self.waiting_from.items()}
        self.waiting_from = {one: number for one, number in first.items() if number is not None}
        return not self.waiting_from and any(map(_is_waiting, self.reports))

    def look_now_and_then(self) -> Tick | None:
        """Read how things stand; None if that was done just now. Raises LedgerUnavailable."""
        now = time.monotonic()
        if not self.looking.is_due(now):
            return None
        tick = self.look()
        self.looking.note(now, sum(tick.pending.values()))
        return tick

    def look_patiently(self) -> Tick | None:
        """Do the same, and return None while the database is away; raise LedgerUnavailable if it stays so."""
        try:
            return self.look_now_and_then()
        except LedgerUnavailable:
            if time.monotonic() - self.moved > self.patience:
                raise
            return None

    def ending(self, tick: Tick) -> Ending | None:
        """Say how the run ends, if it does now."""
        if not tick.pending and all(map(_is_over, tick.reports)):
            return Ending(1 if any(one.rejected or one.dead for one in tick.reports) else 0)
        states = {one.name: one for one in tick.health}
        reasons = [self._stuck(bucket, states.get(str(bucket)), left) for bucket, left in sorted(tick.pending.items())]
        if tick.pending and all(reasons):
            told = dict.fromkeys(reason for reason in (*reasons, self.hint) if reason)
            return Ending(5 if _NO_BROKER in told else 4, tuple(told))
        if not tick.pending and time.monotonic() - self.moved > self.patience:
            return Ending(4, ("changes are pending that no worker will deliver: please report this",))
        return None

    def _without_broker(self) -> bool:
        """Whether the broker has been away for too long: sooner, if it never answered in this run."""
        most = self.patience if self.reached else min(self.patience, _BROKER_SECONDS)
        return self.lost_at is not None and time.monotonic() - self.lost_at >= most

    def _note_progress(self, reports: Sequence[ImportReport], pending: Mapping[Bucket, int]) -> None:
        now = time.monotonic()
        seen = {"": sum(one.pending for one in reports)} | {str(bucket): left for bucket, left in pending.items()}
        turned = [name for name, left in seen.items() if left != self.seen.get(name)]
        self.moved_at.update(dict.fromkeys(turned, now))
        if turned or len(seen) != len(self.seen):
            self.seen, self.moved = seen, now

    def _stuck(self, bucket: Bucket, state: BucketHealth | None, pending: int) -> str | None:
        """Say why a bucket will not deliver what it has pending, or None if it still may."""
        settings = self.worker_context.settings
        if bucket.connection not in settings.connections:
            variables = f"OPTRELAY_CONNECTIONS__{bucket.connection.upper()}__…"
            return f"connection {bucket.connection!r} is not configured: set {variables}"
        name = spoken_name(settings, bucket)
        if state is not None and _is_refused(state, pending):
            return f"connection {name} refuses our credentials ({state.reason}): fix them and run again"
        waited = time.monotonic() - self.moved_at.get(str(bucket), self.started)
        to_wait = _asked_to_wait(state, self.worker_context.ledger.now())
        if waited + to_wait > self.patience and to_wait:
            return f"connection {name} asked us to wait for {spoken(to_wait)}, and that is too long: run again then"
        if self._without_broker():
            return _NO_BROKER
        if waited < self.patience:
            return None
        latest = breakers.latest_answer(self.worker_context.ledger.database, bucket)
        idle = self.idle if latest is None else f"the latest answer was {latest}"
        reason = state.reason if state is not None and state.reason else idle
        return f"connection {name} has been stuck for {spoken(waited)} ({reason}): run again later"


def _is_refused(state: BucketHealth, pending: int) -> bool:
    """Whether a refusal is the connection's: several customers drew it in a row, or all that are pending."""
    return state.breaker is Breaker.REFUSED and state.trips >= min(openings_to_confirm(state), pending)


def _is_waiting(one: ImportReport) -> bool:
    """Whether changes of an import are to be delivered; of one that is not released yet, words may wait for that."""
    return one.pending > 0 and one.state == "released"


def _is_over(one: ImportReport) -> bool:
    """Whether an import has nothing left to deliver, once no customer is pending any more."""
    return one.is_open or (one.state == "released" and not one.pending)


def _asked_to_wait(state: BucketHealth | None, now: int) -> float:
    """Return the seconds for which a provider wants no call in a bucket; `now` in microseconds."""
    return max(0.0, (state.throttled_until - now) / 1_000_000) if state is not None else 0.0


def is_busy(worker_context: WorkerContext) -> bool:
    """Whether a delivery is under way: it holds a place of the pool, or, if it lasts long, still its bucket's pace.

    Raises redis.RedisError and LedgerUnavailable.
    """
    return worker_context.deliveries() > 0 or any(
        worker_context.rate_limiter(bucket).deliveries() for bucket in buckets_of(worker_context)
    )


def buckets_of(worker_context: WorkerContext) -> list[Bucket]:
    """Return the buckets of the configured connections that have something to deliver."""
    return [bucket for name in worker_context.settings.connections for bucket in worker_context.ledger.buckets(name)]
