"""The monitor of a delivery: it watches until nothing is pending, or nothing can be delivered."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import redis

from consent.change import Bucket
from consent.errors import BrokerUnavailable, LedgerUnavailable
from consent.ledger.queries.imports import ImportReport
from consent.ledger.queue.breakers import Breaker, BucketHealth
from consent.ledger.review.pauses import Pause
from console.exit_codes import RunResult
from console.local.broker import LocalBroker
from console.local.last_customers import LastCustomers
from console.local.poll_interval import POLL_SECONDS, PollInterval
from console.local.worker import LocalWorker
from console.ui.bottleneck import Bottleneck, bottlenecks
from console.ui.limits import bucket_label
from console.ui.text import duration_text
from worker.bootstrap import WorkerContext
from worker.delivery.breaker import openings_to_confirm
from worker.sweep import sweep

_LOOK_SECONDS = 0.04
_STALLED_SECONDS = 10.0
_NO_BROKER = "the broker cannot be reached: see OPTRELAY_BROKER_URL, then run this again"
_BROKER_SECONDS = 30.0  # for which a broker may take to answer for the first time
_ANSWERS = 8  # buckets whose latest answer is shown
_NEARLY_DONE = 2_000  # customers: with so few left, every poll counts, so that the end is noticed at once


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How things stand at one moment; `pending` counts customer tasks for each bucket, `elapsed` is in seconds.

    `paused` has the buckets of which nothing is delivered because of a pause.
    """

    reports: tuple[ImportReport, ...]
    pending: Mapping[Bucket, int]
    health: tuple[BucketHealth, ...]
    elapsed: float
    answers: Mapping[Bucket, str] = field(default_factory=dict)
    limits: Mapping[Bucket, Bottleneck] = field(default_factory=dict)
    paused: Mapping[Bucket, Pause] = field(default_factory=dict)


@dataclass(slots=True)
class Monitor:
    """One run: the parts that it watches, and what it has seen of them. Its moments are of the monotonic clock."""

    worker_context: WorkerContext
    imports: Sequence[str]
    patience: float
    broker: LocalBroker | None = None
    worker: LocalWorker | None = None
    started: float = field(default_factory=time.monotonic)
    swept: float = 0.0
    polling: PollInterval = field(default_factory=lambda: PollInterval(5.0, _NEARLY_DONE))
    counting: PollInterval = field(default_factory=lambda: PollInterval(60.0, predicts=False))
    closing: PollInterval = field(default_factory=lambda: PollInterval(5.0, predicts=False))
    reports: tuple[ImportReport, ...] = ()
    delivering: frozenset[Bucket] = frozenset()
    idle: str = "nothing has been settled"
    hint: str = ""
    lost_at: float | None = None
    reached: bool = False
    active_at: float = field(default_factory=time.monotonic)
    progress_at: float = field(default_factory=time.monotonic)
    progress_of: dict[str, float] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    last: LastCustomers = field(init=False)
    waiting_from: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        """Begin to look for what is pending at each import's first change."""
        self.waiting_from = dict.fromkeys(self.imports, 0)
        self.last = LastCustomers(self.worker_context.ledger)

    def watch(self) -> None:
        """Keep broker and worker alive, and sweep when it is time; what fails is tried again at the next call."""
        with suppress(LedgerUnavailable):
            try:
                self._watch()
            except (BrokerUnavailable, redis.RedisError):
                self.lost_at = self.lost_at or time.monotonic()

    def _watch(self) -> None:
        if self.broker is not None:
            self.broker.ensure()
        if self.worker is None or self.worker.ensure():
            self.active_at = time.monotonic()  # one that was just started has not stalled
        if time.monotonic() - self.swept >= self.worker_context.settings.sweep_seconds:
            self.swept = time.monotonic()
            sweep(self.worker_context)
            self._restart_stalled_worker()
            self.lost_at, self.reached = None, True

    def _restart_stalled_worker(self) -> None:
        """Restart the worker if no wake-up is taken: after a broker's restart a worker may be up and receive nothing.

        Known of Celery (celery/celery#8030, #8091): what counts is progress, not a process.
        """
        names = self.worker_context.settings.connections
        if is_busy(self.worker_context) or not any(self.worker_context.wakeups.waiting(name) for name in names):
            self.active_at = time.monotonic()
        elif self.worker is not None and time.monotonic() - self.active_at > _STALLED_SECONDS:
            self.active_at = time.monotonic()
            self.worker.stop(0.0)

    def snapshot(self) -> Snapshot:
        """Read how things stand; raises LedgerUnavailable.

        What became of an import's changes is counted less often than what is left, and whenever a bucket or an import
        is done.
        """
        ledger, now = self.worker_context.ledger, time.monotonic()
        pending = ledger.queries.pending_by_bucket()
        interval = self.counting if pending else self.closing
        if self._are_done() or interval.is_due(now) or not self.delivering <= pending.keys():
            found = [ledger.queries.report(import_id) for import_id in self.imports]
            self.reports = tuple(one for one in found if one is not None)
            waiting = (one.import_id for one in self.reports if _is_waiting(one))
            self.waiting_from = {one: self.waiting_from.get(one, 0) for one in waiting}
            interval.note(now, sum(one.pending for one in self.reports))
        self.delivering = frozenset(pending)
        states = tuple(ledger.breakers.all_health())
        self._note_progress(self.reports, pending)
        answers = {one: ledger.breakers.latest_answer(one) for one in sorted(pending)[:_ANSWERS]}
        known = {one: answer for one, answer in answers.items() if answer is not None}
        limits = bottlenecks(self.worker_context.settings, ledger, pending, states)
        paused, elapsed = ledger.pauses.stopping(pending), time.monotonic() - self.started
        return Snapshot(self.reports, pending, states, elapsed, known, limits, paused)

    def _are_done(self) -> bool:
        """Whether nothing of the imports is pending any more, though some was when they were counted last."""
        queries = self.worker_context.ledger.queries
        first = {one: queries.first_pending(one, since) for one, since in self.waiting_from.items()}
        self.waiting_from = {one: number for one, number in first.items() if number is not None}
        return not self.waiting_from and any(map(_is_waiting, self.reports))

    def poll(self) -> Snapshot | None:
        """Read how things stand; None if that was done a moment ago. Raises LedgerUnavailable."""
        now = time.monotonic()
        if not self.polling.is_due(now):
            return None
        snapshot = self.snapshot()
        self.polling.note(now, sum(snapshot.pending.values()))
        return snapshot

    def rest(self) -> None:
        """Wait until the next poll, or until the imports are done: with little left, that is looked for often."""
        ends = time.monotonic() + POLL_SECONDS
        if not self.polling.is_nearly_done or time.monotonic() - self.progress_at > _STALLED_SECONDS:
            time.sleep(POLL_SECONDS)
            return
        while (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_SECONDS))
            with suppress(LedgerUnavailable):
                if self._are_done():
                    return

    def poll_through_outages(self) -> Snapshot | None:
        """Do the same, and return None while the database is away; raise LedgerUnavailable if it stays so."""
        try:
            return self.poll()
        except LedgerUnavailable:
            if time.monotonic() - self.progress_at > self.patience:
                raise
            return None

    def result(self, snapshot: Snapshot) -> RunResult | None:
        """Return how the run ends, None if it goes on."""
        if not snapshot.pending and all(map(_is_over, snapshot.reports)):
            return RunResult(0)
        states = {one.name: one for one in snapshot.health}
        reasons = [
            self._paused(bucket, snapshot) or self._stuck(bucket, states.get(str(bucket)), left)
            for bucket, left in sorted(snapshot.pending.items())
        ]
        if snapshot.pending and all(reasons):
            if time.monotonic() - self.progress_at >= self.patience and (failure := self._write_failure()):
                return RunResult(5, (failure,))
            distinct = dict.fromkeys(reason for reason in (*reasons, self.hint) if reason)
            return RunResult(5 if _NO_BROKER in distinct else 4, tuple(distinct))
        if not snapshot.pending and time.monotonic() - self.progress_at > self.patience:
            return RunResult(4, ("changes are pending that no worker will deliver: please report this",))
        return None

    def _write_failure(self) -> str | None:
        """Say why nothing can be settled, such as a full disk: else the connection would be blamed for it."""
        try:
            self.worker_context.ledger.maintenance.try_write()
        except LedgerUnavailable as error:
            return f"{error}: see OPTRELAY_LEDGER_URL and `optrelay doctor`, then run this again"
        return None

    def _without_broker(self) -> bool:
        """Whether the broker has been away for too long: sooner, if it never answered in this run."""
        most = self.patience if self.reached else min(self.patience, _BROKER_SECONDS)
        return self.lost_at is not None and time.monotonic() - self.lost_at >= most

    def _note_progress(self, reports: Sequence[ImportReport], pending: Mapping[Bucket, int]) -> None:
        now = time.monotonic()
        seen = {"": sum(one.pending for one in reports)} | {str(bucket): left for bucket, left in pending.items()}
        changed = [name for name, left in seen.items() if left != self.seen.get(name)]
        self.progress_of.update(dict.fromkeys(changed, now))
        if changed or len(seen) != len(self.seen):
            self.seen, self.progress_at = seen, now
            self.last.most = max(self.last.most, sum(pending.values()))

    def _paused(self, bucket: Bucket, snapshot: Snapshot) -> str | None:
        """Say which pause keeps a bucket from delivering anything, or None."""
        pause = snapshot.paused.get(bucket)
        return (
            None
            if pause is None
            else f"connection {bucket_label(self.worker_context.settings, bucket)}: {pause.message}"
        )

    def _stuck(self, bucket: Bucket, state: BucketHealth | None, pending: int) -> str | None:
        """Say why a bucket will not deliver what it has pending, or None if it still may."""
        settings = self.worker_context.settings
        if bucket.connection not in settings.connections:
            variables = f"OPTRELAY_CONNECTIONS__{bucket.connection.upper()}__…"
            return f"connection {bucket.connection!r} is not configured: set {variables}"
        name = bucket_label(settings, bucket)
        if state is not None and _is_refused(state, pending):
            return f"connection {name} refuses our credentials ({state.reason}): fix them and run again"
        waited = time.monotonic() - self.progress_of.get(str(bucket), self.started)
        to_wait = _asked_to_wait(state, self.worker_context.ledger.now())
        if waited + to_wait > self.patience and to_wait:
            return (
                f"connection {name} asked us to wait for {duration_text(to_wait)}, and that is too long: run again then"
            )
        if self._without_broker():
            return _NO_BROKER
        if state is not None and state.is_open:
            self.last.forget(bucket)
        elif waiting := self.last.waiting(bucket, pending, self.progress_of.get(str(bucket), 0.0)):
            return f"{pending} of the customers of connection {name} {waiting}"
        return None if waited < self.patience else self._idle(bucket, name, state, waited)

    def _idle(self, bucket: Bucket, name: str, state: BucketHealth | None, waited: float) -> str:
        latest = self.worker_context.ledger.breakers.latest_answer(bucket)
        idle = self.idle if latest is None else f"the latest answer was {latest}"
        reason = state.reason if state is not None and state.reason else idle
        return f"connection {name} has been stuck for {duration_text(waited)} ({reason}): run again later"


def _is_refused(state: BucketHealth, pending: int) -> bool:
    """Whether a refusal is the connection's: several customers met it in a row, or all that are pending."""
    return state.breaker is Breaker.REFUSED and state.trips >= min(openings_to_confirm(state), pending)


def _is_waiting(one: ImportReport) -> bool:
    """Whether changes of an import wait for delivery; before an import is published they do not."""
    return one.pending > one.held and one.state == "released"


def _is_over(one: ImportReport) -> bool:
    """Whether an import has nothing left to deliver, once no customer is pending any more."""
    return one.is_open or one.state == "held" or one.is_settled


def _asked_to_wait(state: BucketHealth | None, now: int) -> float:
    """Return for how many seconds a provider wants no call in a bucket; `now` is in microseconds."""
    return max(0.0, (state.throttled_until - now) / 1_000_000) if state is not None else 0.0


def is_busy(worker_context: WorkerContext) -> bool:
    """Whether a delivery is under way: it has a place in the pool or, if it lasts long, reservations in its bucket.

    Raises redis.RedisError and LedgerUnavailable.
    """
    return worker_context.deliveries() > 0 or any(
        worker_context.rate_limiter(bucket).deliveries() for bucket in buckets_of(worker_context)
    )


def buckets_of(worker_context: WorkerContext) -> list[Bucket]:
    """Return the buckets of the configured connections that have something to deliver."""
    return [
        bucket for name in worker_context.settings.connections for bucket in worker_context.ledger.queries.buckets(name)
    ]
