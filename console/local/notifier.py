"""Waking workers for what a command has recorded, and the notifier: a thread so that no producer waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager

from consent.broker.message import CUSTOMERS_A_WAKE_UP
from consent.broker.wakeups import WakeUps
from consent.change import Bucket
from consent.errors import BrokerUnavailable
from consent.ledger.ledger import Ledger
from consent.settings import Settings

_AFTER_TROUBLE_SECONDS = 2.0
_CLOSE_SECONDS = 2.0


def send_wake_ups(settings: Settings, ledger: Ledger) -> bool:
    """Wake the workers of every connection with something to deliver, if there is a broker; return whether it did.

    Raises BrokerUnavailable and LedgerUnavailable.
    """
    if not settings.broker_url:
        return False
    waiting = [bucket for name in settings.connections for bucket in ledger.queries.buckets(name)]
    if not waiting:
        return False
    with closing(WakeUps(settings.broker_url)) as wakeups:
        asked = {name: wakeups.waiting_by_bucket(name) for name in {bucket.connection for bucket in waiting}}
        for bucket in waiting:
            # No more than are useful: with many buckets, each import would add wake-ups for all of them.
            wakeups.send(bucket, max(0, _useful(settings, ledger, bucket) - asked[bucket.connection][bucket]))
    return True


def _useful(settings: Settings, ledger: Ledger, bucket: Bucket) -> int:
    """Return how many delivery batches the due customers of a bucket fill."""
    most = settings.connection(bucket.connection).max_batches
    size = min(settings.batch_customers, CUSTOMERS_A_WAKE_UP)
    return min(most, -(-ledger.queue.due(bucket, most * size) // size))


@contextmanager
def notifier(
    settings: Settings, note: Callable[[str], None], recorded: str
) -> Iterator[Callable[[Iterable[Bucket]], None]]:
    """Give what wakes workers; without a broker it does nothing, and `note` is told what becomes of what is recorded.

    `recorded` names that, like "events are".
    """
    if not settings.broker_url:
        note(f"no OPTRELAY_BROKER_URL: {recorded} recorded, and delivered when `optrelay run` is called")
        yield lambda _: None
        return
    made = Notifier(settings.broker_url, note)
    try:
        yield made
    finally:
        made.close()


class Notifier:
    """Sends wake-ups from a thread of its own.

    A broker that is down costs nothing but the wake-ups: the sweep sends them later. `note` is told once when it is
    lost and once when it is back.
    """

    def __init__(self, broker_url: str, note: Callable[[str], None]) -> None:
        self._wakeups = WakeUps(broker_url)
        self._note = note
        self._wanted: set[Bucket] = set()
        self._changed = threading.Condition()
        self._ending = False
        self._lost = False
        self._thread = threading.Thread(target=self._run, name="notifier", daemon=True)
        self._thread.start()

    def __call__(self, buckets: Iterable[Bucket]) -> None:
        """Ask for a wake-up of each bucket; returns at once."""
        with self._changed:
            self._wanted.update(buckets)
            self._changed.notify()

    def close(self) -> None:
        """Send what was asked for, if the broker takes it within moments."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(_CLOSE_SECONDS)
        self._wakeups.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._ending)
                if not self._wanted:
                    return
                wanted, self._wanted = self._wanted, set()
            self._send(wanted)

    def _send(self, wanted: set[Bucket]) -> None:
        try:
            for bucket in sorted(wanted):
                self._wakeups.send(bucket)
        except BrokerUnavailable as error:
            if not self._lost:
                self._note(f"{error}: events are recorded meanwhile, and the sweep sends the wake-ups later")
            self._lost = True
            if not self._ending:
                time.sleep(_AFTER_TROUBLE_SECONDS)
            return
        if self._lost:
            self._lost = False
            self._note("the broker takes wake-ups again")
