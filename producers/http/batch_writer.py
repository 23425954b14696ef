"""Requests that come at the same time share one commit: one thread writes, and takes what waits with it."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import NamedTuple, Protocol

from consent.errors import OptrelayError
from producers.events.event import Event
from producers.events.ingest import Result
from producers.http.problems import Problem, ledger_away, too_busy

_log = logging.getLogger("optrelay.http")

MOST_AT_ONCE = 500
"""Events in one commit."""

_MOST_BYTES_AT_ONCE = 512 * 1024  # a byte can be a third of a change, and all results are in memory at once
_MOST_WAITING = 2_000
_MOST_BYTES_WAITING = 64 * 1024 * 1024
_PATIENCE_SECONDS = 30.0
_STOP_SECONDS = 10.0


class Intake(Protocol):
    """What records events."""

    def take(self, events: Sequence[Event]) -> list[list[Result]]:
        """Record events in one transaction."""
        ...

    def close(self) -> None:
        """End the run."""
        ...


class _Request(NamedTuple):
    event: Event
    size: int
    answer: Future[list[Result]]


class BatchWriter:
    """The way into the ledger for all requests of this process.

    While one commit is under way the next requests gather, so there are few commits where there are many requests, and
    a lone request does not wait for others.
    """

    def __init__(self, intake: Intake, patience: float = _PATIENCE_SECONDS) -> None:
        self._intake = intake
        self._patience = patience
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # of the two counts of what waits
        self._waiting = self._bytes = 0
        self._thread = threading.Thread(target=self._write, name="ledger-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self, seconds: float = _STOP_SECONDS) -> None:
        """Write what was handed over, end the run and stop; a ledger that hangs is not waited for without end."""
        self._queue.put(None)
        self._thread.join(seconds)

    async def record(self, event: Event, size: int) -> list[Result]:
        """Return what became of an event's changes, after the commit.

        Raises Problem if nothing can be acknowledged; what was handed over may be recorded all the same, and is known
        again when it comes again.
        """
        answer: Future[list[Result]] = Future()
        answer.set_running_or_notify_cancel()  # a client that goes away takes nothing back
        with self._lock:
            if self._waiting >= _MOST_WAITING or self._bytes + size > _MOST_BYTES_WAITING:
                raise too_busy()
            self._waiting += 1
            self._bytes += size
        self._queue.put(_Request(event, size, answer))
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.shield(asyncio.wrap_future(answer))
        except (TimeoutError, OptrelayError):
            raise ledger_away() from None

    def _write(self) -> None:
        while batch := self._next_batch():
            self._record(batch)
            with self._lock:
                self._waiting -= len(batch)
                self._bytes -= sum(one.size for one in batch)
        try:
            self._intake.close()
        except OptrelayError as error:
            _log.warning("the run could not be ended: %s", error)

    def _next_batch(self) -> list[_Request]:
        """Return the requests that wait, at least one; none once it is time to stop."""
        first = self._queue.get()
        if first is None:
            return []
        batch, size = [first], first.size
        with suppress(queue.Empty):
            while len(batch) < MOST_AT_ONCE and size < _MOST_BYTES_AT_ONCE:
                one = self._queue.get_nowait()
                if one is None:
                    self._queue.put(None)  # to be found again after this batch
                    break
                batch.append(one)
                size += one.size
        return batch

    def _record(self, batch: Sequence[_Request]) -> None:
        try:
            results = self._intake.take([one.event for one in batch])
        except OptrelayError as error:
            _log.warning("%s; %d requests were not acknowledged", error, len(batch))
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001 - one request that breaks our code must not take the others with it
            if len(batch) > 1:
                for one in batch:
                    self._record([one])
            else:
                _log.error("an unexpected error: %s", type(error).__qualname__)
                _fail(batch, Problem.unexpected())
        else:
            for one, result in zip(batch, results, strict=True):
                one.answer.set_result(result)


def _fail(batch: Sequence[_Request], error: Exception) -> None:
    for one in batch:
        one.answer.set_exception(error)
