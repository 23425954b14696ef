"""The supervisor of `optrelay up`: the whole product in processes of one machine, each started again if it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO

from consent.errors import WorkerUnavailable
from consent.settings import Settings
from console.local.broker import start_process
from console.local.delivery import LocalParts, started
from console.local.monitor import Monitor
from console.local.poll_interval import POLL_SECONDS
from console.local.run_lease import exclusive_run

_GRACE_SECONDS = 30.0
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_WELL_SECONDS = 60.0  # after so long a life a process that ends is started again at once

Say = Callable[[str, str], None]
"""Prints a line of a part: its name, and the line."""


@dataclass(slots=True)
class Part:
    """One command of ours as a process, such as `serve`: kept alive, with longer and longer waits while it fails."""

    name: str
    arguments: Sequence[str]
    say: Say
    _process: subprocess.Popen[bytes] | None = None
    _started: float = 0.0
    _wait: float = _FIRST_WAIT
    _next: float = 0.0
    _reader: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """Its process, if it has one."""
        return None if self._process is None else self._process.pid

    def ensure(self, environment: Mapping[str, str]) -> None:
        """Start the process if it is not running and it is time."""
        now = time.monotonic()
        if self._process is not None:
            if (code := self._process.poll()) is None:
                return
            self._process = None
            self._wait = _FIRST_WAIT if now - self._started > _WELL_SECONDS else min(2 * self._wait, _LONGEST_WAIT)
            self._next = now + self._wait
            self.say("up", f"{self.name} ended with {_ending(code)}; it is started again in {self._wait:g} s")
        if now >= self._next:
            self._start(environment)

    def ask_to_end(self) -> None:
        """Ask it to finish what it has in hand and end."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()

    def end(self, deadline: float) -> None:
        """Wait until it has ended, and end it at this moment of the monotonic clock at the latest."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.say("up", f"{self.name} did not end by itself and was killed")
            self._process.kill()
            self._process.wait()
        if self._reader is not None:
            self._reader.join(1.0)
        self._process = None

    def _start(self, environment: Mapping[str, str]) -> None:
        """Start it from this thread: the kernel ends it when the thread that started it ends."""
        read, write = os.pipe()
        with os.fdopen(write, "wb") as output:
            command = [sys.executable, "-P", "-m", "optrelay", *self.arguments]
            self._process = start_process(command, output, dict(environment))
        self._started = time.monotonic()
        lines = os.fdopen(read, "r", encoding="utf-8", errors="replace")
        self._reader = threading.Thread(target=self._pass_on, args=(lines,), name=self.name, daemon=True)
        self._reader.start()

    def _pass_on(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                if line.strip():
                    self.say(self.name, line.rstrip())


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


@dataclass(slots=True)
class Supervisor:
    """A broker, a worker and the sweep, and the parts that bring changes in."""

    settings: Settings
    workers: int
    parts: Sequence[Part]
    say: Say
    _shown: set[str] = field(default_factory=set)

    def run(self, stop: Callable[[], bool]) -> None:
        """Keep everything alive until `stop` says so; then intake ends first, delivery next, and the broker last.

        Raises RunUnderWay if another run delivers from this ledger, and ConfigurationError.
        """
        with exclusive_run(self.settings), started(self.settings, self.workers) as local:
            processes = "1 worker process" if self.workers == 1 else f"{self.workers} worker processes"
            self.say("up", f"delivering with {processes}, log in {local.worker.log}")
            local.worker.ensure()
            monitor = Monitor(local.worker_context, (), 0.0, local.broker, local.worker)
            with self._intake() as environment:
                environment.update(_environment(self.settings, local))
                while not stop():
                    self._watch(monitor)
                    for part in self.parts:
                        part.ensure(environment)
                    time.sleep(POLL_SECONDS)

    @contextmanager
    def _intake(self) -> Iterator[dict[str, str]]:
        """Give the environment of the parts; in the end, have them finish what they have in hand."""
        try:
            yield {}
        finally:
            for part in self.parts:
                part.ask_to_end()
            deadline = time.monotonic() + _GRACE_SECONDS
            for part in self.parts:
                part.end(deadline)

    def _watch(self, monitor: Monitor) -> None:
        """Keep broker and worker alive, and sweep; say what is wrong once, and that it is well again."""
        try:
            monitor.watch()
        except WorkerUnavailable as error:
            self._once(str(error))
            return
        if monitor.lost_at is not None and time.monotonic() - monitor.lost_at > 1.0:
            self._once("the broker cannot be used; it is started again, and nothing is lost")
        elif self._shown:
            self._shown.clear()
            self.say("up", "broker and worker are well again")

    def _once(self, message: str) -> None:
        if message not in self._shown:
            self._shown.add(message)
            self.say("up", message)


def _environment(settings: Settings, local: LocalParts) -> dict[str, str]:
    broker = settings.broker_url or (local.broker.url if local.broker else "")
    own = {"OPTRELAY_BROKER_URL": broker, "OPTRELAY_LEDGER_URL": settings.ledger_url, "PYTHONUNBUFFERED": "1"}
    return dict(os.environ) | own
