"""A worker for one `optrelay run`: started, started again if it ends, and ended with the run."""

from __future__ import annotations

import os
import resource
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

from consent.errors import WorkerUnavailable
from consent.files import private
from consent.tracing.spans import is_traced
from console.local.broker import start_process
from worker.process import end_with_parent

_STARTS = 5
_SOON_SECONDS = 15.0
_STOP_SECONDS = 0.02
_QUIET_SECONDS = 0.15  # longer than from the end of one delivery batch to the beginning of the next
_LONG_LOG_BYTES = 20_000_000


class PreforkedWorker:
    """A fork of this command that becomes its worker when it is told to: it has loaded already what both need.

    A new Python would take longer to load that than a small file to be delivered. It is forked while the command has
    one thread and nothing open, waits, and ends with the command. It can be asked what `subprocess.Popen` can.
    """

    def __init__(self) -> None:
        """Fork it; `is_possible` says whether that can be done."""
        context = get_context("fork")
        orders, self._orders = context.Pipe(duplex=False)
        self._process = context.Process(target=_await_orders, args=(orders, os.getpid()), daemon=True)
        self._process.start()
        orders.close()
        self.pid = int(self._process.pid or 0)

    @staticmethod
    def is_possible() -> bool:
        """Whether this process can be forked.

        A lock that another thread holds would stay locked in the fork; where a standard stream is closed (`>&-`), a
        file that is opened takes its number, and the fork would put its own stream over its orders.
        """
        streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
        return sys.platform == "linux" and threading.active_count() == 1 and None not in streams

    def begin(self, arguments: list[str], environment: dict[str, str], log: Path) -> bool:
        """Have it work, and write into this log; return whether it was there to be told."""
        try:
            self._orders.send((arguments, environment, log))
        except OSError:
            return False
        return True

    def poll(self) -> int | None:
        """Return its exit code, if it has ended."""
        return self._process.exitcode

    def wait(self) -> None:
        """Wait until it has ended."""
        self._process.join()

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it, and wait until it has ended."""
        self._process.kill()
        self.wait()


def _await_orders(orders: Connection, command: int) -> None:
    os.setsid()  # so that Ctrl-C reaches the command alone
    end_with_parent()
    with Path(os.devnull).open("r+b") as nothing:
        _take_streams(nothing, 0, 1, 2)
    # `flock -n 9 optrelay run`: what holds a lock for the command by an open file is not the worker's.
    os.closerange(3, orders.fileno())
    os.closerange(orders.fileno() + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    if os.getppid() != command:
        return
    try:
        arguments, environment, log = orders.recv()
    except EOFError:
        return
    with open(log, "ab", opener=private) as output:
        _take_streams(output, 1, 2)
    os.environ.update(environment)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.argv[1:] = arguments
    runpy.run_module("worker", run_name="__main__")


def _take_streams(file: IO[bytes], *numbers: int) -> None:
    for number in numbers:
        os.dup2(file.fileno(), number)


@dataclass(slots=True)
class LocalWorker:
    """A Celery worker with its pool, writing its log into a file."""

    folder: Path
    broker_url: str
    processes: int
    ledger_url: str
    preforked: PreforkedWorker | None = None
    _process: subprocess.Popen[bytes] | PreforkedWorker | None = None
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
        arguments = ["--concurrency", str(self.processes), "--hostname", name]
        preforked, self.preforked, self._asked_at = self.preforked, None, 0.0
        with open(self.log, "ab", opener=private) as log:
            if preforked is not None and preforked.begin(arguments, self._environment(), self.log):
                self._process = preforked
            else:
                command = [sys.executable, "-P", "-m", "worker", *arguments]
                self._process = start_process(command, log, self._environment())
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
