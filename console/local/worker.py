"""A worker for one `optrelay run`: started, started again if it ends, and ended with the run."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from consent.errors import WorkerUnavailable
from consent.files import private
from consent.tracing.spans import is_traced
from console.local.broker import start_process

_STARTS = 5
_SOON_SECONDS = 15.0
_STOP_SECONDS = 0.02
_QUIET_SECONDS = 0.15  # longer than from the end of one delivery batch to the beginning of the next
_LONG_LOG_BYTES = 20_000_000


@dataclass(slots=True)
class LocalWorker:
    """A Celery worker with its pool, writing its log into a file."""

    folder: Path
    broker_url: str
    processes: int
    ledger_url: str
    _process: subprocess.Popen[bytes] | None = None
    _asked_at: float = 0.0
    _started: deque[float] = field(default_factory=lambda: deque(maxlen=_STARTS))

    @property
    def log(self) -> Path:
        """Where the worker writes its log."""
        return self.folder / "worker.log"

    @property
    def pid(self) -> int | None:
        """The worker's parent process."""
        return None if self._process is None else self._process.pid

    def ensure(self) -> bool:
        """Start the worker if it is not running; return whether it had to be.

        Raises WorkerUnavailable, with the place of its log, if it ends again and again.
        """
        self._turn_log()
        if self._process is not None and self._process.poll() is None:
            return False
        if len(self._started) == _STARTS and time.monotonic() - self._started[0] < _SOON_SECONDS:
            raise WorkerUnavailable(f"the worker does not stay up: {self.log} says why; fix that and run again")
        self._started.append(time.monotonic())
        name = f"optrelay-{os.getpid()}@{socket.gethostname()}"
        command = [sys.executable, "-P", "-m", "worker", "--concurrency", str(self.processes), "--hostname", name]
        with open(self.log, "ab", opener=private) as log:
            self._process = start_process(command, log, self._environment())
            self._asked_at = 0.0
        return True

    def ask_to_end(self) -> None:
        """Let the worker take nothing more, and settle what it holds, while something else is done before `stop`."""
        if self._process is not None and not self._asked_at:
            self._asked_at = time.monotonic()
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def stop(self, grace: float, busy: Callable[[], bool] = lambda: True) -> None:
        """Ask the worker to settle what it holds and end; after `grace` seconds, or once it is not busy, end it.

        Celery alone would take two seconds to end a worker that has nothing to do; it has them where it is traced.
        """
        if self._process is None:
            return
        self.ask_to_end()
        quiet_since, started = self._asked_at, time.monotonic()
        while self._process.poll() is None and (now := time.monotonic()) < started + grace:
            if is_traced() or busy():  # its processes send what is left of their traces as they end
                quiet_since = now
            elif now - quiet_since > _QUIET_SECONDS:
                break
            time.sleep(_STOP_SECONDS)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _turn_log(self) -> None:
        """Keep a long log under another name and begin it anew; a worker that runs appends to it, and need not know.

        A line that it writes at that very moment is lost, and so is the old log where there is no room for a copy.
        """
        with suppress(FileNotFoundError):  # a person may remove it at any moment
            if self.log.stat().st_size > _LONG_LOG_BYTES:
                with open(self.log, "r+b", opener=private) as log:
                    with (
                        suppress(OSError),
                        open(self.log.with_suffix(".log.1"), "wb", opener=private) as kept,
                    ):
                        kept.truncate(0)
                        shutil.copyfileobj(log, kept)
                    log.truncate(0)

    def _environment(self) -> dict[str, str]:
        own = {"OPTRELAY_BROKER_URL": self.broker_url, "OPTRELAY_LEDGER_URL": self.ledger_url}
        return {"OPTRELAY_WORKER_PROCESSES": str(self.processes)} | os.environ | own
