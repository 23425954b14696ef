"""Who takes part, and how each one's programs are started."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contest.stage import PROGRAMS

OPTRELAY = str(Path(sys.executable).with_name("optrelay"))


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to do the work.

    `standing` are programs that run all the time and are warm before the clock starts (`ready` is the first one's
    word for it); `producing` reads the file, whose name is put behind it. `{python}` is the interpreter that has the
    contestant's packages, `{bin}` its folder. `before` is run once, untimed.
    Who `finishes_alone` is done when the producer ends; of the others the calls are counted. Who is `slow` gets the
    sample.
    """

    key: str
    name: str
    producing: tuple[str, ...]
    standing: tuple[tuple[str, ...], ...] = ()
    ready: str = " ready."
    before: tuple[str, ...] = ()
    ledger: str = "sqlite"
    own_environment: bool = False
    finishes_alone: bool = True
    slow: bool = False

    @property
    def needs_broker(self) -> bool:
        """Whether the bench keeps a broker for it; `optrelay run` brings its own."""
        return bool(self.standing)


def _celery(program: str, processes: int) -> tuple[str, ...]:
    command = ("{python}", "-m", "celery", "-A", program, "worker", "--pool", "prefork", "--loglevel", "INFO")
    return *command, "--concurrency", str(processes), "--without-gossip", "--without-mingle"


def _script(name: str, *options: str) -> tuple[str, ...]:
    return "{python}", str(PROGRAMS / name), *options


def _queue(key: str, name: str, program: str, standing: tuple[tuple[str, ...], ...], **more: Any) -> Contestant:
    return Contestant(key, name, _script(program), standing, finishes_alone=False, slow=True, **more)


def _run(key: str, name: str, ledger: str) -> Contestant:
    producing = (OPTRELAY, "run", "--workers", "2", "--json")
    return Contestant(key, name, producing, before=(OPTRELAY, "migrate"), ledger=ledger)


def _services(key: str, name: str, ledger: str, workers: int = 2) -> Contestant:
    standing = ((OPTRELAY, "worker", "--concurrency", str(workers)), (OPTRELAY, "sweep"))
    producing = (OPTRELAY, "import", "--wait", "--json")
    return Contestant(key, name, producing, standing, before=(OPTRELAY, "migrate"), ledger=ledger)


_ARQ = ("{bin}/arq", "arq_rows.WorkerSettings")
_POOLED = ("--transport", "optrelay")

CONTESTANTS = (
    _queue("a2", "Celery task a row, prefork 2", "celery_rows.py", (_celery("celery_rows", 2),)),
    _queue("a8", "Celery task a row, prefork 8", "celery_rows.py", (_celery("celery_rows", 8),)),
    _queue("b", "celery-batches, prefork 2", "batch_rows.py", (_celery("batch_rows", 2),), own_environment=True),
    _queue("c", "arq, two workers", "arq_rows.py", (_ARQ, _ARQ), ready="Starting worker", own_environment=True),
    Contestant("d", "plain script, stock httpx", _script("plain_script.py"), slow=True),
    Contestant("dl", "plain script, our transport", _script("plain_script.py", *_POOLED)),
    Contestant("dl2", "the same in two processes", _script("plain_script.py", *_POOLED, "--processes", "2")),
    _run("es", "optrelay run, SQLite", "sqlite"),
    _run("ep", "optrelay run, PostgreSQL", "postgresql"),
    _services("ws", "optrelay, workers up, SQLite", "sqlite"),
    _services("wp", "optrelay, workers up, PostgreSQL", "postgresql"),
)
ONE_WORKER = _services("w1", "optrelay, one worker up, SQLite", "sqlite", workers=1)

RIVALS = frozenset({"a2", "a8", "b", "c"})
OURS = frozenset({"es", "ep", "ws", "wp"})
SAME_TRANSPORT = "dl"
