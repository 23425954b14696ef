"""Who delivers what was recorded: workers that `run` starts for itself, or workers elsewhere (`import --wait`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from consent.errors import ConfigurationError, LedgerError, LedgerUnavailable, OptrelayError
from consent.ledger.ledger import Ledger
from consent.settings import Settings
from console.exit_codes import RunResult
from console.local.broker import LocalBroker
from console.local.monitor import Monitor, Snapshot, buckets_of, is_busy
from console.local.notifier import send_wake_ups
from console.local.run_lease import exclusive_run
from console.local.worker import LocalWorker, PreforkedWorker
from worker.bootstrap import WorkerContext
from worker.ratelimit.write_ahead import end_reservations_of
from worker.sweep import wake_all

_GRACE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class LocalParts:
    """What a run has on this machine: a worker, and a broker if none is configured."""

    worker_context: WorkerContext
    broker: LocalBroker | None
    worker: LocalWorker


@dataclass(slots=True)
class LocalDelivery:
    """What a run starts for itself, and ends with itself.

    `patience` is how many seconds a bucket may be stuck.
    """

    workers: int
    patience: float
    _parts: LocalParts | None = None
    _open: ExitStack = field(default_factory=ExitStack)
    _preforked: PreforkedWorker | None = None

    def get_ready(self, settings: Settings, connections: Collection[str], *, is_news: bool) -> None:
        """Start now what is needed later, so that it comes up while files are read; a failure now is reported then.

        Raises ConfigurationError if the broker, or one of these connections, cannot be used as it is configured.
        """
        try:
            parts = self._start(settings)
            if is_news:
                parts.worker.ensure()
        except ConfigurationError:
            raise
        except (OptrelayError, OSError):
            return
        for name in sorted(connections):
            parts.worker_context.check(name)

    def begin(self, settings: Settings, ledger: Ledger) -> bool:  # noqa: ARG002 - it has its own
        """Have what is due delivered by its own worker; return whether there is anything to deliver.

        Raises BrokerUnavailable, and ConfigurationError if one of the connections cannot be called: then none is.
        """
        if self._parts is None or not (buckets := buckets_of(self._parts.worker_context)):
            return False
        for name in {bucket.connection for bucket in buckets}:
            self._parts.worker_context.check(name)
        if self._parts.broker is not None:
            _prime(self._parts.worker_context)
        wake_all(self._parts.worker_context)
        return True

    def deliver(self, settings: Settings, imports: Sequence[str], on_snapshot: Callable[[Snapshot], None]) -> RunResult:
        """Deliver until nothing is pending, or nothing can be delivered; what is left stays pending.

        Raises BrokerUnavailable, LedgerUnavailable, RunUnderWay and ConfigurationError; may be interrupted at any
        moment, and run again.
        """
        parts = self._start(settings)
        worker_context = parts.worker_context
        if parts.broker is not None:
            _prime(worker_context)
        pending = worker_context.ledger.queries.pending_by_bucket()
        for name in {bucket.connection for bucket in pending}:
            if name in settings.connections:
                worker_context.check(name)
        worker_context.ledger.breakers.probe_soon()
        is_needed = bool(pending or worker_context.ledger.intake.unpublished())
        monitor = Monitor(worker_context, imports, self.patience, parts.broker, parts.worker if is_needed else None)
        while True:
            monitor.watch()
            if (snapshot := monitor.poll_through_outages()) is not None:
                on_snapshot(snapshot)
                if snapshot.pending:
                    monitor.worker = parts.worker
                if (result := monitor.result(snapshot)) is not None:
                    return self._ended(parts, monitor, result)
            monitor.rest()

    def _ended(self, parts: LocalParts, monitor: Monitor, result: RunResult) -> RunResult:
        """Let the workers end; of those that may hold something, wait for it, so that the last snapshot counts it."""
        if not result.reasons:
            parts.worker.ask_to_end()  # while the run is summed up
            return result
        parts.worker.stop(_GRACE_SECONDS, busy=lambda: _busy(parts.worker_context))
        with suppress(LedgerUnavailable):
            return monitor.result(monitor.snapshot()) or result
        return result

    def _start(self, settings: Settings) -> LocalParts:
        if self._parts is None:
            with ExitStack() as opened:
                opened.enter_context(exclusive_run(settings))
                self._parts = opened.enter_context(started(settings, self.workers, self._preforked))
                self._open = opened.pop_all()
        return self._parts

    def __enter__(self) -> Self:
        if PreforkedWorker.is_possible():
            self._preforked = PreforkedWorker()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parts = None
        try:
            self._open.close()
        finally:
            if self._preforked is not None:
                self._preforked.kill()


@contextmanager
def started(settings: Settings, workers: int, preforked: PreforkedWorker | None = None) -> Iterator[LocalParts]:
    """Start a broker, if none is configured, and end it behind the worker, which settles first what it holds.

    The worker is started by the caller, when there is something to do.
    """
    folder = run_folder(settings)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    broker = None if settings.broker_url else LocalBroker(folder)
    url = settings.broker_url or (broker.url if broker else "")
    worker_context = WorkerContext(settings, url)
    worker = LocalWorker(folder, url, workers, settings.ledger_url, preforked)
    try:
        worker_context.redis  # noqa: B018 - raises ConfigurationError, before a worker is started
        if broker is not None:
            broker.ensure()
        yield LocalParts(worker_context, broker, worker)
    finally:
        worker.stop(_GRACE_SECONDS, busy=lambda: _busy(worker_context))
        if broker is not None:
            with suppress(redis.RedisError, LedgerError):  # then the next run waits a few seconds longer
                end_reservations_of(worker_context.redis, worker_context.ledger)
        worker_context.close()
        if broker is not None:
            broker.stop()


def run_folder(settings: Settings) -> Path:
    """Return where a run keeps its socket and its worker's log: beside the ledger's file, or here."""
    file = Ledger(settings.ledger_url).maintenance.file
    return (file.parent if file else Path()) / ".optrelay"


def _prime(worker_context: WorkerContext) -> None:
    with suppress(redis.RedisError):  # then a broker that has just started makes the first calls wait for a moment
        for bucket in buckets_of(worker_context):
            worker_context.rate_limiter(bucket).prime()


def _busy(worker_context: WorkerContext) -> bool:
    """Whether a delivery may be under way; if not, there is nothing to wait for."""
    try:
        return is_busy(worker_context)
    except (redis.RedisError, LedgerUnavailable, ConfigurationError):
        return True


@dataclass(frozen=True, slots=True)
class RemoteDelivery:
    """Only watches until imports are settled, or cannot be within `patience` seconds."""

    patience: float

    def get_ready(self, settings: Settings, connections: Collection[str], *, is_news: bool) -> None:
        """Do nothing: the workers run elsewhere."""

    def begin(self, settings: Settings, ledger: Ledger) -> bool:
        """Wake them; return whether anything is due. Raises BrokerUnavailable."""
        return send_wake_ups(settings, ledger)

    def deliver(self, settings: Settings, imports: Sequence[str], on_snapshot: Callable[[Snapshot], None]) -> RunResult:
        """Watch until it ends; return how it ended."""
        worker_context = WorkerContext(settings, settings.broker_url or "")
        try:
            hint = "" if settings.broker_url else _NO_WAKE_UP
            return _watch(Monitor(worker_context, imports, self.patience, idle=_IDLE, hint=hint), on_snapshot)
        finally:
            worker_context.ledger.close()


_IDLE = "nothing has been settled: is `optrelay worker` running with this ledger and this broker?"
_NO_WAKE_UP = (
    "OPTRELAY_BROKER_URL is not set here: is a worker running? If not, `optrelay run` delivers what is pending"
)


def _watch(monitor: Monitor, on_snapshot: Callable[[Snapshot], None]) -> RunResult:
    while True:
        if (snapshot := monitor.poll()) is not None:
            on_snapshot(snapshot)
            if all(one.is_settled for one in snapshot.reports):
                return RunResult(0)
            if (result := monitor.result(snapshot)) is not None:
                return result
        monitor.rest()
