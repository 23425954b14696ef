"""A delivery and the fuses of its bucket: which of its customers not to call, and whether a harmless read is answered.

The ledger counts failures when results are written down, twice a second. A delivery sees them sooner: it makes no
further call for an import that has reached the limit, has its results written down at once, and then does what the
ledger says.

If customers of two origins fail alike, it may be the bucket and not what was sent: a harmless read tells. It is a look
at the customer who was served last, or at one who drew the failure, and goes on beside the calls.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from consent.change import Action
from consent.errors import LedgerUnavailable
from consent.guards.fuse import FuseState
from consent.ledger.ledger import Ledger
from consent.ledger.queue.tasks import CustomerTask, Settlement
from consent.ledger.review.fuse_counts import FuseCounter, HarmlessRead
from consent.outcome import Applied, PermanentFailure, Unchanged
from worker.delivery.bucket_context import BucketContext
from worker.delivery.results import TaskResult
from worker.providers.contract import Request

HarmlessReader = Callable[[Request, float], Coroutine[Any, Any, bool | None]]
"""Makes a read before a moment (monotonic); says whether it was answered well, None if it was not made."""


@dataclass(slots=True)
class FuseCheck:
    """Which of a delivery's claimed customers are not to be called.

    `holds` and `note` belong into the event loop, the other methods outside of it. `suspects` are imports of which
    enough customers in a row have drawn a failure of our request, `held` the targets of which the ledger holds
    everything. If the ledger is away, it is asked the next time.
    """

    ledger: Ledger
    context: BucketContext
    loop: asyncio.AbstractEventLoop
    suspects: frozenset[str] = frozenset()
    held: frozenset[int] = frozenset()
    _alike: dict[str, tuple[str, set[int]]] = field(default_factory=dict)
    _asks: bool = True
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _read: tuple[HarmlessRead, Future[bool | None]] | None = None

    @property
    def counter(self) -> FuseCounter:
        """What a settlement needs to count failures."""
        return FuseCounter(self.context.bucket, self.context.settings.fuse)

    def holds(self, request: Request) -> bool:
        """Whether a request is not to be sent: all that it carries is held, or may be in a moment."""
        if self.suspects and all(change.import_id in self.suspects for change in request.changes):
            return True
        return bool(self.held) and all(task.target_id in self.held for task in request.tasks)

    def note(self, one: TaskResult) -> None:
        """Take in what became of a customer, once it has been reported."""
        failed, most = any(map(_failed, one.outcomes.values())), self.context.settings.fuse.in_a_row
        if not most or not (failed or self._alike):
            return
        for change in one.task.changes:
            outcome = one.outcomes.get(change.id)
            if isinstance(outcome, PermanentFailure) and outcome.ours:
                code, whose = self._alike.get(change.import_id, ("", set()))
                whose = whose if code == outcome.code else set()
                whose.add(one.task.target_id)
                self._alike[change.import_id] = outcome.code, whose
                if len(whose) >= most:
                    with self._lock:
                        self.suspects |= {change.import_id}
                    del self._alike[change.import_id]
            elif isinstance(outcome, Applied | Unchanged | PermanentFailure):
                self._alike.pop(change.import_id, None)

    def follow(
        self, settlements: Collection[Settlement], suspects: frozenset[str], claimed: Collection[CustomerTask]
    ) -> None:
        """Call none of the `claimed` any more whose changes a fuse holds, if what was written down may have tripped it.

        `suspects` are the imports that were suspected before it was written down: the ledger has judged of these now.
        What was settled is under lease no more: if the ledger gives it out again, it may be called.
        """
        if self.held:
            self.held -= {one.task.target_id for one in settlements}
        if not suspects and not any(_failed(one) for each in settlements for one in each.outcomes.values()):
            return
        imports = {change.import_id for task in claimed for change in task.changes}
        try:
            stops = self.ledger.fuses.stops(self.context.bucket, imports)
        except LedgerUnavailable:
            stops = {}
        self.held = frozenset(task.target_id for task in claimed if _all_stopped(task, stops))
        with self._lock:
            self.suspects -= suspects
        self._asks = True

    def read_harmless(self, read: HarmlessReader) -> None:
        """Begin a harmless read if one is asked for, and note what one has shown that is over."""
        with suppress(LedgerUnavailable):
            if self._read is not None:
                self._note_read()
            elif self._asks:
                self._asks = False
                self._begin(read)

    def finish(self) -> None:
        """Wait for a read that is under way, once no other call is."""
        if self._read is not None:
            wait([self._read[1]], timeout=self.context.settings.timeout)
            with suppress(LedgerUnavailable):
                self._note_read()

    def _begin(self, read: HarmlessReader) -> None:
        bucket = self.context.bucket
        if (asked := self.ledger.fuses.asks_for_read(bucket)) is None:
            return
        target = self.ledger.breakers.health_of(str(bucket)).served_id or asked.target_id
        customer = None if target is None else self.ledger.queue.customer(target)
        request = None if customer is None else self.context.provider.witness(customer, self.context.settings)
        if request is not None:
            until = time.monotonic() + self.context.settings.timeout
            self._read = asked, asyncio.run_coroutine_threadsafe(read(request, until), self.loop)

    def _note_read(self) -> None:
        if self._read is None or not self._read[1].done():
            return
        (asked, read), self._read = self._read, None
        if read.cancelled() or read.exception() is not None or (well := read.result()) is None:
            return  # nothing was shown: the next delivery asks again
        self.ledger.fuses.note_read(self.context.bucket, asked, well=well)


def _failed(outcome: object) -> bool:
    return isinstance(outcome, PermanentFailure)


def _all_stopped(task: CustomerTask, stops: Mapping[str, FuseState]) -> bool:
    """Whether the ledger holds every change of a task, given what it says of their imports."""
    states = [(stops.get(change.import_id), change.action) for change in task.changes]
    return bool(stops) and all(
        state is not None and (state is not FuseState.OPTOUTS or action is Action.OPTIN) for state, action in states
    )
