"""Commands that start in a tenth of the time: forked from a process that has imported the product already.

The tests start hundreds of commands, and each of them would take a second of a processor to import the same modules.
The tests start hundreds of commands, and each of them would take a second of a processor to import the same code.
that has imported them forks it; everything else is started as always.

A forked command is a process like any other: it is the child of the process that started it, with its own environment,
folder, arguments and standard streams, Python's own signal handlers, and an exit code; it can be killed, and it ends as
Python ends. Where that could not be so, it is started afresh: if its environment differs in what is read while Python
starts, with a preexec_fn that is not known here, for `make coverage`, or elsewhere than on Linux. `@pytest.mark.fresh`
starts all commands of a test afresh.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import pickle
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import typer.main

PROGRAMS = {"worker", "celery", "sandbox"}
"""What `python -m` may start here."""

LIBRARIES = (
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "celery.worker.consumer",
    "kombu.transport.pyamqp",
    "kombu.transport.redis",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "uvicorn.protocols.http.httptools_impl",
)
"""What commands import late, beside the product."""

FREE = {"HOME", "PATH", "PYTHONPATH", "TMPDIR", "COLUMNS", "LINES", "NO_COLOR", "TERM", "TZ", "PYTEST_CURRENT_TEST"}
FREE |= {"SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_RUNTIME_DIR", "NOTIFY_SOCKET", "PYTHONIOENCODING", "FORCE_COLOR"}
"""Variables that are read when they are needed; a command whose others differ from the server's is started afresh."""

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_TITLE_BYTES = 1024

Job = dict[str, Any]


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _is_known(command: list[str]) -> bool:
    """Whether the server can be this command."""
    python = Path(sys.executable)
    if command[0] == str(python.with_name("optrelay")):
        return True
    words = [word for word in command[1:] if word != "-P"]
    return command[0] == str(python) and words[:1] == ["-m"] and words[1:2] != [] and words[1] in PROGRAMS


def _is_free(name: str) -> bool:
    return name in FREE or name.startswith("OPTRELAY_") or name.lower().endswith("_proxy")


def _python_path(environment: dict[str, str]) -> list[str]:
    return [folder for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if folder]


def _dies_with_parent(preexec_fn: Callable[[], object] | None) -> bool:
    return preexec_fn is not None and preexec_fn.__name__ == "end_with_parent"


def _job(arguments: tuple[Any, ...], base: dict[str, str]) -> tuple[Job, list[int]] | None:
    """Return what the server needs to know of a process, and its streams; None if it must be started afresh.

    The arguments are those of `_posixsubprocess.fork_exec` in Python 3.11.
    """
    words, _, close_fds, kept, cwd, env, stdin, _, _, stdout, _, stderr, _, errors, _, session, group, *who = arguments
    command = [os.fsdecode(word) for word in words]
    gid, gids, uid, umask, preexec_fn, _ = who
    odd = (group not in (None, -1), gid is not None, gids is not None, uid is not None, umask >= 0, not close_fds)
    if any(odd) or tuple(kept) != (errors,) or not _is_known(command):
        return None
    if preexec_fn is not None and not _dies_with_parent(preexec_fn):
        return None
    lines = None if env is None else [os.fsdecode(line).split("=", 1) for line in env]
    environment = dict(os.environ) if lines is None else dict(lines)
    if any(not _is_free(name) and base.get(name) != environment.get(name) for name in base.keys() | environment.keys()):
        return None
    if not set(_python_path(environment)) <= set(sys.path):
        return None  # a sitecustomize.py may stand there
    folder = str(Path.cwd()) if cwd is None else os.fsdecode(cwd)
    if not os.access(folder, os.X_OK):
        return None
    job = {"command": command, "environment": environment, "folder": folder, "session": bool(session)}
    job |= {"dies": _dies_with_parent(preexec_fn)}
    return job, [ours if theirs < 0 else theirs for ours, theirs in enumerate((stdin, stdout, stderr))]


def _send(channel: socket.socket, job: Job, streams: list[int]) -> None:
    memory = os.memfd_create("job")
    try:
        os.write(memory, pickle.dumps(job))
        socket.send_fds(channel, [b"j"], [memory, *streams])
    finally:
        os.close(memory)


def _receive(channel: socket.socket) -> tuple[Job, list[int]]:
    """Wait for a job; end when none can come any more."""
    message, received, _, _ = socket.recv_fds(channel, 1, 4)
    if not message:
        os._exit(0)
    memory, *streams = received
    job = pickle.loads(os.pread(memory, os.fstat(memory).st_size, 0))
    os.close(memory)
    return job, streams


_fork_exec = subprocess._fork_exec  # type: ignore[attr-defined]


class ForkServer:
    """The server as those who start processes see it; the first command starts it."""

    def __init__(self) -> None:
        self.fresh = False
        """Whether every command is started afresh."""
        self._base: dict[str, str] = {}
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def install(self) -> None:
        """Fork known commands from here on."""
        measured = any(name.startswith("COVERAGE_") for name in os.environ)
        if sys.platform == "linux" and sys.version_info[:2] == (3, 11) and not measured:
            subprocess._fork_exec = self._start  # type: ignore[attr-defined]

    def stop(self) -> None:
        """Start everything afresh again, and end the server; its commands go on."""
        subprocess._fork_exec = _fork_exec  # type: ignore[attr-defined]
        if self._channel is not None and self._process is not None:
            self._channel.close()
            self._process.wait()
            self._channel = self._process = None

    def _start(self, *arguments: Any) -> int:
        """Do what `_posixsubprocess.fork_exec` does."""
        if self.fresh or not _is_known([os.fsdecode(word) for word in arguments[0]]):
            return int(_fork_exec(*arguments))
        with self._lock:
            channel = self._channel or self._open()
            found = _job(arguments, self._base)
            pid = None if found is None else self._fork(channel, *found)
        return int(_fork_exec(*arguments)) if pid is None else pid

    def _open(self) -> socket.socket:
        self._base = {name: value for name, value in os.environ.items() if not _is_free(name)}
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno()), "." * _TITLE_BYTES],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        return self._channel

    def _fork(self, channel: socket.socket, job: Job, streams: list[int]) -> int:
        # Whose parent ends becomes the child of a process that has asked for it: of this one.
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        try:
            _send(channel, job, streams)
            answer = channel.recv(8)
        finally:
            _prctl(_PR_SET_CHILD_SUBREAPER, 0)
        if not answer:
            raise RuntimeError("the server that forks the tests' commands has ended: its standard error says why")
        return int.from_bytes(answer, "big")


SERVER = ForkServer()
"""The one of these tests."""


# From here on: what runs in the server, and in the commands that it forks.


def _import_all() -> None:
    """Import what any command may need, but for what reads settings or starts working when it is imported."""
    for package in ("consent", "console", "producers", "sandbox", "worker"):
        for found in walk_packages(import_module(package).__path__, f"{package}."):
            if found.name != "worker.app" and "migrations." not in found.name and not found.name.endswith("__main__"):
                import_module(found.name)
    for library in LIBRARIES:
        import_module(library)
    typer.main.get_command = cache(typer.main.get_command)  # it makes every command anew for each run of one
    typer.main.get_command(import_module("console.cli").app)


def _serve(channel: socket.socket) -> Job:
    """Fork a process for each job; return in that process."""
    while True:
        job, streams = _receive(channel)
        orphaned, parent = os.pipe()
        told, tell = os.pipe()
        between = os.fork()
        if between == 0:
            if child := os.fork():
                os.write(tell, child.to_bytes(8, "big"))
                os._exit(0)
            os.close(parent)
            os.read(orphaned, 1)  # until the process between has ended, and ours is the parent that started us
            _become(job, streams)
            return job
        os.waitpid(between, 0)
        channel.send(os.read(told, 8))
        for file in (parent, orphaned, told, tell, *streams):
            os.close(file)


def _become(job: Job, streams: list[int]) -> None:
    """Make this process what a new one would be."""
    if job["session"] and os.getsid(0) != os.getpid():
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    time.tzset()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _open_streams()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM if job["dies"] else 0)


def _open_streams() -> None:
    encoding, _, handler = os.environ.get("PYTHONIOENCODING", "").partition(":")
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        was = getattr(sys, f"__{name}__")
        lines = name == "stderr" or os.isatty(number)
        errors = "backslashreplace" if name == "stderr" else handler or ("strict" if encoding else was.errors)
        buffering = 1 if lines and mode == "w" else -1
        stream = open(  # noqa: SIM115 - it stays open
            number, mode, buffering, encoding=encoding or was.encoding, errors=errors, closefd=False
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _show(command: list[str]) -> None:
    """Let `ps` and /proc show the command: as setproctitle does, over the arguments of the server."""
    first, end = (int(word) for word in Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[45:47])
    title = os.fsencode(" ".join(command))[: end - first - 2]
    ctypes.memmove(first, title.ljust(end - first - 1, b"\0") + b".", end - first)


def _keep_a_spare() -> Job | None:
    """Fork the process that becomes the worker of a run; return its job in that process, and None in the run."""
    ours, theirs = socket.socketpair()
    spare = os.fork()
    if spare == 0:
        ours.close()
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nowhere, number)
        job, streams = _receive(theirs)
        _become(job, streams)
        return job
    theirs.close()
    base = dict(os.environ)
    left = [spare]

    def start(*arguments: Any) -> int:
        found = _job(arguments, base)
        if left and found is not None and "worker" in found[0]["command"] and found[0]["session"]:
            _send(ours, *found)
            return left.pop()
        return int(_fork_exec(*arguments))

    subprocess._fork_exec = start  # type: ignore[attr-defined]
    return None


def _run(job: Job) -> object:
    """Run the command; return what it ends with, as SystemExit takes it."""
    program, *words = job["command"]
    if program != sys.executable and words[:1] in (["run"], ["demo"]):
        job = _keep_a_spare() or job
        program, *words = job["command"]
    _show(job["command"])
    sys.path[:0] = _python_path(job["environment"])
    gc.enable()
    script = program != sys.executable
    if not script and words[0] != "-P":
        sys.path.insert(0, job["folder"])
    module, *more = [word for word in words if word not in ("-P", "-m")]
    sys.argv[:] = job["command"] if script else [module, *more]
    try:
        if script:
            sys.path.insert(0, str(Path(program).parent))
            runpy.run_path(program, run_name="__main__")
        else:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code
    except Exception:  # noqa: BLE001 - as Python shows what it cannot handle
        sys.excepthook(*sys.exc_info())
        return 1
    return None


def _end(code: object) -> None:
    """End as Python does, but for taking apart all that was imported, which takes longer than most commands."""
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit((code or 0) & 0xFF)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    _import_all()
    _show(["commands of the tests are forked from here"])
    gc.freeze()
    _end(_run(_serve(socket.socket(fileno=int(sys.argv[1])))))
