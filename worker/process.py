"""What every worker process sets up first: its log lines, which name no person, its connections, its end."""

from __future__ import annotations

import ctypes
import logging
import mmap
import resource
import signal
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any

import structlog

_TALKATIVE = ("httpx", "httpcore", "alembic", "sqlalchemy.engine", "kombu", "amqp")
"""Libraries that would log addresses of requests, which name customers."""


def set_up_logs(level: str) -> None:
    """Write our lines and those of libraries to standard error, one line each."""
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _written_out,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _written_out(_logger: object, _method: str, facts: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Write out what a terminal that shows the log would obey, and line feeds: a name may look like no line of ours."""
    return {name: _printable(value) if isinstance(value, str) else value for name, value in facts.items()}


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # linux/prctl.h


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Have the kernel send us a signal when our parent dies; does nothing where there is no such thing (macOS).

    To be called in the child, from its main thread.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def name_process(name: str) -> None:
    """Show this process, and what it forks, under a name of at most 15 bytes: `ps -e`, `top`; on Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode())


def allow_connections() -> None:
    """Let this process open as many files as it may: each call under way has a connection of its own."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS names no number that it would take
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


_STOPPING = mmap.mmap(-1, 1)
"""One byte that a worker and the processes of its pool, which are its forks, have in common."""


def note_stopping(*, asked: bool = True) -> None:
    """Tell every process of the pool whether the worker has been asked to end."""
    _STOPPING[0] = int(asked)


def is_stopping() -> bool:
    """Say whether the worker has been asked to end: then a delivery begins no further window."""
    return _STOPPING[0] == 1
