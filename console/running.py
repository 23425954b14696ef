"""The `run` use case: deliver until nothing is pending, on a broker and a worker of our own if none is configured."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis

from consent.bucket import Bucket
from consent.errors import BrokerUnavailable, LedgerUnavailable, RunUnderWay
from consent.ledger import health, report
from consent.ledger.health import Breaker, BucketHealth
from consent.ledger.report import ImportReport
from consent.settings import Settings
from console.durations import spoken
from console.embedded import EmbeddedBroker, EmbeddedWorker
from console.naming import spoken_name
from worker.sweep import sweep
from worker.wiring import Wiring

TICK_SECONDS = 0.25
_GRACE_SECONDS = 30.0
_DEAF_SECONDS = 10.0
_QUIET_GRACE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Tick:
    """How things stand at one moment; `pending` counts customer tasks for each bucket, `elapsed` is in seconds."""

    reports: tuple[ImportReport, ...]
    pending: Mapping[Bucket, int]
    health: tuple[BucketHealth, ...]
    elapsed: float


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: 0 everything settled, 1 some rows rejected or dead, 4 unfinished for these reasons."""

    exit_code: int
    reasons: tuple[str, ...] = ()


@dataclass(slots=True)
class Running:
    """One run: the parts that it watches and what it has seen of them."""

    wiring: Wiring
    imports: Sequence[str]
    patience: float
    broker: EmbeddedBroker | None = None
    worker: EmbeddedWorker | None = None
    started: float = field(default_factory=time.monotonic)
    swept: float = 0.0
    heard: float = field(default_factory=time.monotonic)
    moved: float = field(default_factory=time.monotonic)
    moved_at: dict[str, float] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def watch(self) -> None:
        """Keep broker and worker alive, and sweep when it is time; what fails now is tried again at the next tick."""
        with suppress(BrokerUnavailable, LedgerUnavailable, redis.RedisError):
            if self.broker is not None:
                self.broker.ensure()
            if self.worker is not None:
                self.worker.ensure()
            if time.monotonic() - self.swept >= self.wiring.settings.sweep_seconds:
                self.swept = time.monotonic()
                sweep(self.wiring)
                self._wake_the_deaf()

    def _wake_the_deaf(self) -> None:
        """Start the worker anew if nobody takes wake-ups: after a broker's restart a worker may be up and hear nothing.

        Known of Celery (celery/celery#8030, #8091): what counts is progress, not a process.
        """
        names = self.wiring.settings.connections
        busy = any(self.wiring.pacer(bucket).strokes() for bucket in _buckets(self.wiring))
        if busy or not any(self.wiring.wakeups.waiting(name) for name in names):
            self.heard = time.monotonic()
        elif self.worker is not None and time.monotonic() - self.heard > _DEAF_SECONDS:
            self.heard = time.monotonic()
            self.worker.stop(0.0)

    def look(self) -> Tick:
        """Read how things stand."""
        database = self.wiring.ledger.database
        found = [report.report(database, import_id) for import_id in self.imports]
        reports = tuple(one for one in found if one is not None)
        pending = report.pending_by_bucket(database)
        states = tuple(health.all_health(database))
        self._note_progress(reports, pending)
        return Tick(reports, pending, states, time.monotonic() - self.started)

    def look_patiently(self) -> Tick | None:
        """Read how things stand, or None while the database is away; raise LedgerUnavailable if it stays so."""
        try:
            return self.look()
        except LedgerUnavailable:
            if time.monotonic() - self.moved > self.patience:
                raise
            return None

    def ending(self, tick: Tick) -> Ending | None:
        """Say how the run ends, if it does now."""
        if not tick.pending and all(one.state == "released" and not one.pending for one in tick.reports):
            return Ending(1 if any(one.rejected or one.dead for one in tick.reports) else 0)
        states = {one.name: one for one in tick.health}
        reasons = [self._stuck(bucket, states.get(str(bucket))) for bucket in sorted(tick.pending)]
        if tick.pending and all(reasons):
            return Ending(4, tuple(reason for reason in reasons if reason))
        if not tick.pending and time.monotonic() - self.moved > self.patience:
            return Ending(4, ("changes are pending that nobody will deliver: please report this",))
        return None

    def _note_progress(self, reports: Sequence[ImportReport], pending: Mapping[Bucket, int]) -> None:
        now = time.monotonic()
        seen = {"": sum(one.pending for one in reports)} | {str(bucket): left for bucket, left in pending.items()}
        turned = [name for name, left in seen.items() if left != self.seen.get(name)]
        self.moved_at.update(dict.fromkeys(turned, now))
        if turned or len(seen) != len(self.seen):
            self.seen, self.moved = seen, now

    def _stuck(self, bucket: Bucket, state: BucketHealth | None) -> str | None:
        """Say why a bucket will not deliver what it has pending, or None if it still may."""
        settings = self.wiring.settings
        if bucket.connection not in settings.connections:
            variables = f"OPTRELAY_CONNECTIONS__{bucket.connection.upper()}__…"
            return f"connection {bucket.connection!r} is not configured: set {variables}"
        name = spoken_name(settings, bucket)
        if state is not None and state.breaker is Breaker.REFUSED and state.trips:
            return f"connection {name} refuses our credentials ({state.reason}): mend them and run again"
        waited = time.monotonic() - self.moved_at.get(str(bucket), self.started)
        to_wait = _asked_to_wait(state, self.wiring.ledger.now())
        if waited + to_wait > self.patience and to_wait:
            return f"connection {name} asked us to wait for {spoken(to_wait)}, and that is too long: run again then"
        if waited < self.patience:
            return None
        reason = state.reason if state is not None and state.reason else "nothing has been settled"
        return f"connection {name} has been stuck for {spoken(waited)} ({reason}): run again later"


def deliver(
    settings: Settings,
    *,
    workers: int,
    patience: float,
    imports: Sequence[str],
    on_tick: Callable[[Tick], None],
) -> Ending:
    """Deliver until nothing is pending, or nothing can be; everything that is left stays pending.

    `patience` is how many seconds a bucket may be stuck. Raises BrokerUnavailable, LedgerUnavailable and
    ConfigurationError; may be interrupted at any moment, and run again.
    """
    with _alone(settings), _parts(settings, workers) as (wiring, broker, worker):
        for name in {bucket.connection for bucket in report.pending_by_bucket(wiring.ledger.database)}:
            if name in settings.connections:
                wiring.check(name)
        health.probe_soon(wiring.ledger.database, now=wiring.ledger.now())
        running = Running(wiring, imports, patience, broker, worker)
        while True:
            running.watch()
            looked = time.monotonic()
            if (tick := running.look_patiently()) is not None:
                on_tick(tick)
                if (ending := running.ending(tick)) is not None:
                    return ending
            # Counting a million rows takes a while: look more seldom then, so that looking costs a tenth at most.
            time.sleep(max(TICK_SECONDS, 10 * (time.monotonic() - looked)))


def _asked_to_wait(state: BucketHealth | None, now: int) -> float:
    """Return the seconds for which a provider wants no call in a bucket; `now` in microseconds."""
    return max(0.0, (state.throttled_until - now) / 1_000_000) if state is not None else 0.0


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Keep a second run out while this one has a broker of its own: two brokers would be two paces for one limit."""
    folder = run_folder(settings)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("w") as lock:
        try:
            if not settings.broker_url:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"another run is at work in {folder.parent}: wait until it has finished, then run this again"
            raise RunUnderWay(message) from None
        yield


@contextmanager
def _parts(settings: Settings, workers: int) -> Iterator[tuple[Wiring, EmbeddedBroker | None, EmbeddedWorker | None]]:
    """Start what is not there: a broker if none is configured, and workers."""
    folder = run_folder(settings)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    broker = None if settings.broker_url else EmbeddedBroker(folder)
    url = settings.broker_url or (broker.url if broker else "")
    wiring = Wiring(settings, url)
    worker = EmbeddedWorker(folder, url, workers, settings.ledger_url)
    try:
        if broker is not None:
            broker.ensure()
            _prime(wiring)
        worker.ensure()
        yield wiring, broker, worker
    finally:
        worker.stop(_grace(wiring))
        wiring.close()
        if broker is not None:
            broker.stop()


def run_folder(settings: Settings) -> Path:
    """Return where a run keeps its socket and its worker's log: beside the ledger's file, or here."""
    path = settings.ledger_url.removeprefix("sqlite:///") if settings.ledger_url.startswith("sqlite:///") else ""
    return (Path(path).parent if path else Path()) / ".optrelay"


def _prime(wiring: Wiring) -> None:
    for bucket in _buckets(wiring):
        wiring.pacer(bucket).prime()


def _grace(wiring: Wiring) -> float:
    """Return how long the worker may take to end: without a stroke under way there is nothing to wait for."""
    with suppress(redis.RedisError):
        if not any(wiring.pacer(bucket).strokes() for bucket in _buckets(wiring)):
            return _QUIET_GRACE_SECONDS
    return _GRACE_SECONDS


def _buckets(wiring: Wiring) -> list[Bucket]:
    return [bucket for name in wiring.settings.connections for bucket in wiring.ledger.buckets(name)]
