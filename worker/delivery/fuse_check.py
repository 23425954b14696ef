"""A delivery and the fuses of its bucket, as the ledger knows them: which customers not to call.

If customers of two origins fail alike, it may be the bucket and not what was sent: a harmless read tells. It is a look
at the customer who was served last, or at one who drew the failure, and goes on beside the calls.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field

from consent.errors import LedgerUnavailable
from consent.ledger.ledger import Ledger
from consent.ledger.queue.tasks import CustomerTask, Settlement
from consent.ledger.review.fuse_counts import FuseCounter
from consent.ledger.review.fuses import HarmlessRead
from consent.outcome import PermanentFailure
from worker.delivery.bucket_context import BucketContext
from worker.delivery.calls import ConcurrentCalls
from worker.delivery.loop import LoopThread
from worker.delivery.task_result import FuseWatch


@dataclass(slots=True)
class FuseCheck:
    """Asks the ledger about the fuses of one delivery's bucket. If the ledger is away, it is asked the next time."""

    ledger: Ledger
    context: BucketContext
    loop: LoopThread
    watch: FuseWatch = field(init=False)
    _asks: bool = True
    _read: tuple[HarmlessRead, Future[bool | None]] | None = None

    def __post_init__(self) -> None:
        """Watch by the limits of the connection."""
        self.watch = FuseWatch(self.context.settings.fuse)

    @property
    def counter(self) -> FuseCounter:
        """What a settlement needs to count failures."""
        return FuseCounter(self.context.bucket, self.context.settings.fuse)

    def follow(
        self, settlements: Iterable[Settlement], suspects: frozenset[str], claimed: Collection[CustomerTask]
    ) -> None:
        """Call none of the `claimed` any more whose changes a fuse holds, if what was written down may have tripped it.

        `suspects` are the imports that were suspected before it was written down.
        """
        failed = any(isinstance(one, PermanentFailure) for each in settlements for one in each.outcomes.values())
        if not failed and not suspects:
            return
        imports = {change.import_id for task in claimed for change in task.changes}
        try:
            stops = self.ledger.fuses.stops(self.context.bucket, imports)
        except LedgerUnavailable:
            stops = {}
        self.watch.follow(stops, claimed, suspects)
        self._asks = True

    def read_harmless(self, calls: ConcurrentCalls) -> None:
        """Begin a harmless read if one is asked for, and note what one has shown that is over."""
        with suppress(LedgerUnavailable):
            if self._read is not None:
                self._note_read()
            elif self._asks:
                self._asks = False
                self._begin(calls)

    def finish(self) -> None:
        """Wait for a read that is under way, once no other call is."""
        if self._read is not None:
            wait([self._read[1]], timeout=self.context.settings.timeout)
            with suppress(LedgerUnavailable):
                self._note_read()

    def _begin(self, calls: ConcurrentCalls) -> None:
        bucket = self.context.bucket
        if (asked := self.ledger.fuses.asks_for_read(bucket)) is None:
            return
        target = self.ledger.breakers.health_of(str(bucket)).served_id or asked.target_id
        customer = None if target is None else self.ledger.queue.customer(target)
        request = None if customer is None else self.context.provider.witness(customer, self.context.settings)
        if request is not None:
            until = time.monotonic() + self.context.settings.timeout
            self._read = asked, self.loop.start(calls.reads_well(request, until))

    def _note_read(self) -> None:
        if self._read is None or not self._read[1].done():
            return
        (asked, read), self._read = self._read, None
        if read.cancelled() or read.exception() is not None or (well := read.result()) is None:
            return  # nothing was shown: the next delivery asks again
        self.ledger.fuses.note_read(self.context.bucket, asked, well=well)
