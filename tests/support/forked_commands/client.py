"""The server as those who start processes see it: known commands are forked, the others are started as always."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.support.forked_commands.jobs import SYS_CLONE, Job, fork_exec, is_free, is_known, job_of, send

TITLE_BYTES = 1024
START = f"""
import sys
sys.path.append({str(Path(__file__).parents[3])!r})
from tests.support.forked_commands import server
sys.path.pop()
server.main(int(sys.argv[1]), sys.argv[2])
"""


class ForkServer:
    """The server as those who start processes see it; the first command starts it."""

    def __init__(self) -> None:
        self.fresh = False
        """Whether every command is started afresh."""
        self.template: Path | None = None
        """An empty ledger that commands copy into a new SQLite file; None lets them run the migrations."""
        self._base: dict[str, str] = {}
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def install(self) -> None:
        """Fork known commands from here on."""
        measured = any(name.startswith("COVERAGE_") for name in os.environ)
        linux = sys.platform == "linux" and platform.machine() in SYS_CLONE
        if linux and sys.version_info[:2] == (3, 11) and not measured:
            subprocess._fork_exec = self._start  # type: ignore[attr-defined]

    def stop(self) -> None:
        """Start everything afresh again, and end the server; its commands go on."""
        subprocess._fork_exec = fork_exec  # type: ignore[attr-defined]
        if self._channel is not None and self._process is not None:
            self._channel.close()
            self._process.wait()
            self._channel = self._process = None

    def _start(self, *arguments: Any) -> int:
        """Do what `_posixsubprocess.fork_exec` does."""
        if self.fresh or not is_known([os.fsdecode(argument) for argument in arguments[0]]):
            return int(fork_exec(*arguments))
        if self._channel is None and threading.current_thread() is not threading.main_thread():
            return int(fork_exec(*arguments))  # commands end with the thread that started the server, where they ask so
        with self._lock:
            channel = self._channel or self._open()
            found = job_of(arguments, self._base)
            pid = None if found is None else self._fork(channel, found[0] | {"template": self.template}, found[1])
        return int(fork_exec(*arguments)) if pid is None else pid

    def _open(self) -> socket.socket:
        self._base = {name: value for name, value in os.environ.items() if not is_free(name)}
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", START, str(theirs.fileno()), str(self.template or ""), "." * TITLE_BYTES],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        return self._channel

    def _fork(self, channel: socket.socket, job: Job, streams: list[int]) -> int:
        send(channel, job, streams)
        answer = channel.recv(8)
        if not answer:
            raise RuntimeError("the server that forks the tests' commands has ended: its standard error says why")
        return int.from_bytes(answer, "big")


SERVER = ForkServer()
"""The one of these tests."""
