"""What a process that is to be forked needs to be told, and how the server hears of it."""

from __future__ import annotations

import ctypes
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROGRAMS = {"worker", "celery", "sandbox", "optrelay"}
"""What `python -m` may start here."""

MAIN = "\nfrom console.cli import main\nmain("
"""How a program ends that changes something in a command of the product and then is that command: it is known too."""

FORKABLE = "# This needs the product and a process of its own, but no new Python.\n"
"""How another program begins that is known.

It can say how much more memory it took: of a new one, `ru_maxrss` is at least what the process had that started it.
"""

FREE = {"HOME", "PATH", "PYTHONPATH", "TMPDIR", "COLUMNS", "LINES", "NO_COLOR", "TERM", "TZ", "PYTEST_CURRENT_TEST"}
FREE |= {"SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_RUNTIME_DIR", "NOTIFY_SOCKET", "PYTHONIOENCODING", "FORCE_COLOR"}
"""Variables that are read when they are needed; a command whose others differ from the server's is started afresh."""

SYS_CLONE = {"x86_64": 56, "aarch64": 220}
"""The number of this system call on each machine; commands are forked on these."""

Job = dict[str, Any]
fork_exec = subprocess._fork_exec  # type: ignore[attr-defined]
"""What starts a process when nothing is forked."""


def prctl(option: int, value: int) -> None:
    """Set an option of this process."""
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def is_known(command: list[str]) -> bool:
    """Whether the server can be this command."""
    python = Path(sys.executable)
    if command[0] == str(python.with_name("optrelay")):
        return True
    option, what, *_ = [*(argument for argument in command[1:] if argument != "-P"), "", ""]
    is_module, is_text = option == "-m" and what in PROGRAMS, option == "-c" and (MAIN in what or FORKABLE in what)
    return command[0] == str(python) and (is_module or is_text)


def is_free(name: str) -> bool:
    """Whether a variable may differ from the server's."""
    return name in FREE or name.startswith(("OPTRELAY_", "OTEL_")) or name.lower().endswith("_proxy")


def python_path(environment: dict[str, str]) -> list[str]:
    """The folders that a command is given to import from."""
    return [folder for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if folder]


def _dies_with_parent(preexec_fn: Callable[[], object] | None) -> bool:
    return preexec_fn is not None and preexec_fn.__name__ == "end_with_parent"


def job_of(arguments: tuple[Any, ...], base: dict[str, str]) -> tuple[Job, list[int]] | None:
    """Return what the server needs to know of a process, and its streams; None if it must be started afresh.

    The arguments are those of `_posixsubprocess.fork_exec` in Python 3.11.
    """
    given, _, close_fds, kept, cwd, env, stdin, _, _, stdout, _, stderr, _, errors, _, session, group, *who = arguments
    command = [os.fsdecode(part) for part in given]
    gid, gids, uid, umask, preexec_fn, _ = who
    odd = (group not in (None, -1), gid is not None, gids is not None, uid is not None, umask >= 0, not close_fds)
    if any(odd) or tuple(kept) != (errors,) or not is_known(command):
        return None
    if preexec_fn is not None and not _dies_with_parent(preexec_fn):
        return None
    lines = None if env is None else [os.fsdecode(line).split("=", 1) for line in env]
    environment = dict(os.environ) if lines is None else dict(lines)
    if any(not is_free(name) and base.get(name) != environment.get(name) for name in base.keys() | environment.keys()):
        return None
    if not set(python_path(environment)) <= set(sys.path):
        return None  # a sitecustomize.py may stand there
    folder = str(Path.cwd()) if cwd is None else os.fsdecode(cwd)
    if not os.access(folder, os.X_OK):
        return None
    job = {"command": command, "environment": environment, "folder": folder, "session": bool(session)}
    job |= {"dies": _dies_with_parent(preexec_fn)}
    return job, [ours if theirs < 0 else theirs for ours, theirs in enumerate((stdin, stdout, stderr))]


def send(channel: socket.socket, job: Job, streams: list[int]) -> None:
    """Hand a job over, with the files that become its standard streams."""
    memory = os.memfd_create("job")
    try:
        os.write(memory, pickle.dumps(job))
        socket.send_fds(channel, [b"j"], [memory, *streams])
    finally:
        os.close(memory)


def receive(channel: socket.socket) -> tuple[Job, list[int]]:
    """Wait for a job; end when none can come any more."""
    message, received, _, _ = socket.recv_fds(channel, 1, 4)
    if not message:
        os._exit(0)
    memory, *streams = received
    job = pickle.loads(os.pread(memory, os.fstat(memory).st_size, 0))
    os.close(memory)
    return job, streams
