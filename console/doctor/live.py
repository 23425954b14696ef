"""The doctor's live look: one harmless read at each connection, under its rate limit, and what that proves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from consent.change import Bucket
from consent.errors import BrokerUnavailable, ConfigurationError, OptrelayError
from consent.ledger.queue.tasks import CustomerTask
from consent.outcome import Healthy
from consent.settings import Settings
from console.doctor.finding import Finding
from console.ledger_access import writing_ledger
from console.local.broker import LocalBroker
from console.local.run_lease import exclusive_run
from worker.bootstrap import WorkerContext
from worker.http.failures import NoReply
from worker.process import set_up_logs
from worker.providers.contract import Reply, Request

_PATIENCE_SECONDS = 90.0
_PAUSE_SECONDS = 0.2
_REFUSED = {401, 403}
_THROTTLED = 429
_NOT_PROVED = "not proved: that it takes what we write"


def look_live(settings: Settings) -> Iterator[Finding]:
    """Read about the customer that came last to each connection; nothing is changed, and no one is named.

    Without a broker of ours that is configured, one is started for it, as `optrelay run` does: never beside a run.
    """
    set_up_logs("WARNING")  # lines of libraries may name customers, and go to standard error
    with writing_ledger(settings) as ledger:
        asked = {name: ledger.queries.latest_customer(name) for name in sorted(settings.connections)}
    with exclusive_run(settings), _context(settings) as worker_context:
        for name, found in asked.items():
            try:
                yield _unknown(name) if found is None else _read(worker_context, *found)
            except (ConfigurationError, OptrelayError) as error:
                yield Finding(f"live read of {name}", ok=False, message=str(error))


@contextmanager
def _context(settings: Settings) -> Iterator[WorkerContext]:
    with ExitStack() as stack:
        url = settings.broker_url
        if not url:
            own = LocalBroker(Path(stack.enter_context(TemporaryDirectory(prefix="optrelay-"))))
            stack.callback(own.stop)
            own.ensure()
            url = own.url
        worker_context = WorkerContext(settings, url)
        stack.callback(worker_context.close)
        yield worker_context


def _unknown(name: str) -> Finding:
    message = "no customer of it is in the ledger, so there is no one to read about; nothing was sent"
    return Finding(
        f"live read of {name}", ok=None, message=message, remedy="`optrelay import` a row of it, then ask again"
    )


def _read(worker_context: WorkerContext, bucket: Bucket, task: CustomerTask) -> Finding:
    what = f"live read of {bucket}"
    context = worker_context.bucket_context(bucket)
    request = context.provider.witness(task, context.settings)
    if request is None:
        return Finding(what, ok=None, message="this provider has no harmless read; nothing was sent")
    try:
        reply = worker_context.loop.run(context.sender.send(request, _Permit(worker_context, bucket)))
    except TimeoutError:
        message = f"its rate limit had no call to spare for {_PATIENCE_SECONDS:.0f} seconds"
        return Finding(what, ok=None, message=message, remedy="ask again when less is being delivered")
    if isinstance(reply, NoReply):
        return Finding(what, ok=False, message=reply.reason, remedy="see the connection's BASE_URL, and the network")
    healthy = isinstance(context.provider.read(request, reply, context.settings).health, Healthy)
    return _finding_of(what, request, reply, healthy=healthy)


@dataclass(frozen=True, slots=True)
class _Permit:
    """One call of the shared rate limit for each thing that is sent, also for a request for a token."""

    worker_context: WorkerContext
    bucket: Bucket

    def is_now(self) -> bool:
        """Return False: each has to be reserved."""
        return False

    async def wait(self) -> None:
        """Reserve a call and wait for its moment, which is never used late; raise TimeoutError if there is none."""
        limiter, until = self.worker_context.rate_limiter(self.bucket), time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < until:
            reservation = await asyncio.to_thread(limiter.reserve, 1)
            if not reservation.shared:
                raise BrokerUnavailable("the broker cannot be reached, so that no call was made beside its rate limit")
            for moment in reservation.moments:
                await asyncio.sleep(max(0.0, moment - time.monotonic()))
                if time.monotonic() <= moment + reservation.late:
                    return
            await asyncio.sleep(_PAUSE_SECONDS)
        raise TimeoutError


def _finding_of(what: str, request: Request, reply: Reply, *, healthy: bool) -> Finding:
    prefix = f"{request.method} was answered with HTTP {reply.status}"
    if healthy:
        message = f"{prefix}: address and credentials are good, and it shows a customer; {_NOT_PROVED}"
        return Finding(what, ok=True, message=message)
    if reply.status in _REFUSED:
        remedy = "fix the credentials or their rights; nothing dies meanwhile"
        return Finding(what, ok=False, message=f"{prefix}: it refuses our credentials, or this call", remedy=remedy)
    if reply.status == _THROTTLED:
        return Finding(
            what, ok=None, message=f"{prefix}: it asks for fewer calls; {_NOT_PROVED}", remedy="ask again later"
        )
    message = f"{prefix}, which does not show the customer that was asked for; {_NOT_PROVED}"
    return Finding(
        what, ok=None, message=message, remedy="`optrelay dead-letters list` may tell why; see BASE_URL, too"
    )
