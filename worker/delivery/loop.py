"""One event loop for each worker process, in a thread of its own, made at first use and so after the fork.

The only arrangement of asyncio under Celery that keeps connections, works under prefork and threads and can be
cancelled: asyncio.run for each task opens a connection for each request, a loop kept in a global breaks under threads.
anyio's blocking portal was tried in its place: it cancels again at each `await`, so that a delivery which is cancelled
could not wait until its own calls have ended and told what became of them.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop that runs in the background until it is closed."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="optrelay-loop", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the loop; the future may be cancelled, which cancels the coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine on the loop and wait for what it returns."""
        return self.start(work).result(timeout)

    def close(self) -> None:
        """Stop the loop and wait for its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self.loop.close()


_lock = threading.Lock()
_current: tuple[int, LoopThread] | None = None


def process_loop() -> LoopThread:
    """Return the loop of the process that asks; a child of a fork gets its own."""
    global _current  # noqa: PLW0603 - one for each process is the point
    with _lock:
        if _current is None or _current[0] != os.getpid():
            _current = (os.getpid(), LoopThread())
        return _current[1]
