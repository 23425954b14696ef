"""How far a change travels through the code: `python -m bench.hops`, and `--list` for docs/architecture.md.

One CSV row goes from its cell to its outcome and one HTTP POST from request to answer, each on a warm process, under a
profile hook. A hop is a function of ours that another file calls, or a library on its behalf, and counts once: a reader
who follows the change opens a file there. What no call names is no hop: properties, special methods, inner functions
that are called back, comprehensions, lambdas, and the methods that dataclasses generate. Beside hops and files it
prints how many functions run in all, and between how many pairs of them a call is made.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from types import FrameType
from typing import Any

import structlog

from consent.ledger.ledger import Ledger
from consent.settings import load_settings
from console.commands.run.input_files import row_models
from console.local.broker import LocalBroker
from producers.files.prepare import prepare
from producers.files.sources import source_files
from producers.ingest_file import ingest_file
from producers.options import IngestOptions
from tests.support.company import company, shuffled_rows
from tests.support.http_server import ANN, server, statuses

ROOT = Path(__file__).parents[1]
OURS = tuple(f"{ROOT / folder}{os.sep}" for folder in ("consent", "producers", "worker", "console"))
TIMES = 5
IDLE_SECONDS = 2.0
"""Time in which nothing is asked for: what runs then anyhow is no part of a change's way."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function by its file, from the root of the repository, and its name in there; whether a call can name it."""

    file: str
    name: str
    is_named: bool


@dataclass(slots=True)
class Trace:
    """The calls between functions of ours on one way, each once, in the order of their first time."""

    calls: dict[tuple[Function | None, Function], None] = field(default_factory=dict)

    def hook(self, frame: FrameType, event: str, _: Any) -> None:
        """Note a call; this is what `sys.setprofile` asks for."""
        if event == "call" and (called := function_of(frame)) is not None:
            self.calls[caller_of(frame), called] = None

    @property
    def functions(self) -> list[Function]:
        """What ran, in the order of the first call."""
        return list(dict.fromkeys(called for _, called in self.calls))

    @property
    def hops(self) -> list[Function]:
        """What was called by name from another file or by a library, in the order of the first time."""
        crossing = (called for caller, called in self.calls if caller is None or caller.file != called.file)
        return list(dict.fromkeys(one for one in crossing if one.is_named))

    def common(self, others: Sequence[Trace], beside: Trace) -> Trace:
        """Return what was called every time, without what goes on beside a change, such as a server's timer."""
        calls = {call: None for call in self.calls if all(call in other.calls for other in others)}
        return Trace({call: None for call in calls if call not in beside.calls})

    @property
    def files(self) -> list[str]:
        """The files through which the change went."""
        return list(dict.fromkeys(one.file for one in self.functions))


def function_of(frame: FrameType) -> Function | None:
    """Return the function that a frame runs; None if it is not ours, or has no name of its own."""
    code = frame.f_code
    if not code.co_filename.startswith(OURS) or code.co_name.startswith("<"):
        return None
    is_named = not (code.co_name.startswith("__") or "<locals>" in code.co_qualname or _is_property(frame))
    return Function(os.path.relpath(code.co_filename, ROOT), code.co_qualname, is_named)


def _is_property(frame: FrameType) -> bool:
    code = frame.f_code
    owner = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    return isinstance(inspect.getattr_static(type(owner), code.co_name, None), (property, cached_property))


def caller_of(frame: FrameType) -> Function | None:
    """Return the nearest function of ours below a frame, whatever libraries stand between; None if there is none."""
    below = frame.f_back
    while below is not None and function_of(below) is None:
        below = below.f_back
    return None if below is None else function_of(below)


class Profiler:
    """A hook in every thread that is started from now on, which writes into one trace at a time."""

    def __init__(self) -> None:
        self._trace: Trace | None = None
        threading.setprofile(self._hook)
        sys.setprofile(self._hook)

    def _hook(self, frame: FrameType, event: str, argument: Any) -> None:
        if self._trace is not None:
            self._trace.hook(frame, event, argument)

    def follow(self, *steps: Callable[[], object]) -> Trace:
        """Take the steps and return the calls that they made, in this thread and the others."""
        self._trace = trace = Trace()
        try:
            for step in steps:
                step()
        finally:
            self._trace = None
        return trace


@contextmanager
def a_csv_row(folder: Path) -> Iterator[tuple[Callable[[], object], ...]]:
    """Give the steps that take a new row from its file to its outcome: read the file, run a worker's task."""
    broker = LocalBroker(folder / "broker")
    broker.ensure()
    with company(folder) as shop:
        own = {name: value for name, value in shop.environment().items() if name.startswith("OPTRELAY_")}
        os.environ.update(own | {"OPTRELAY_BROKER_URL": broker.url, "OPTRELAY_LOG_LEVEL": "warning"})
        settings = load_settings()
        ledger = Ledger(settings.ledger_url)
        ledger.maintenance.migrate()
        from worker.app import deliver as task  # it reads the settings when it is imported

        rows, numbers = row_models(settings), iter(range(1, 100))

        def read() -> None:
            number = next(numbers)
            path = shop.write(shuffled_rows(1, 1000, seed=number), f"file-{number}.csv")
            with source_files([str(path)]) as files:
                ingest_file(prepare(files[0], IngestOptions(), rows, {}), ledger.intake)

        def deliver() -> None:
            calls, until = shop.stats()["calls"], time.monotonic() + 30
            while shop.stats()["calls"] == calls:  # a new broker lets nothing be called for some seconds
                assert time.monotonic() < until, "the row was not delivered"
                task.run("capillary")
                time.sleep(0.1)

        yield read, deliver
        ledger.close()
    broker.stop()


@contextmanager
def a_post(folder: Path) -> Iterator[tuple[Callable[[], object], ...]]:
    """Give the step that posts a new change to a server in another thread and waits for its answer."""
    ledger, numbers = Ledger(f"sqlite:///{folder / 'events.db'}"), iter(range(1, 100))
    ledger.maintenance.migrate()
    with server(ledger) as service:

        def post() -> None:
            assert statuses(service.post(ANN | {"user_id": f"{next(numbers)}"})) == ["accepted"]

        yield (post,)
    ledger.close()


WAYS = {"CSV row, from cell to outcome": (a_csv_row, 121, 50), "HTTP POST, from request to answer": (a_post, 39, 22)}
"""What is followed, and how many hops through how many files it may take.

On a busy machine more than a second passes between two deliveries, so that each notes how its bucket is: a hop more.
"""


def traces() -> dict[str, Trace]:
    """Return what each way takes every time, once it is warm."""
    profiler, found = Profiler(), {}
    for name, (way, *_) in WAYS.items():
        with tempfile.TemporaryDirectory() as folder, way(Path(folder)) as steps:
            profiler.follow(*steps)
            beside = profiler.follow(lambda: time.sleep(IDLE_SECONDS))
            first, *others = [profiler.follow(*steps) for _ in range(TIMES)]
            found[name] = first.common(others, beside)
    sys.setprofile(None)
    threading.setprofile(None)  # type: ignore[arg-type]
    return found


def as_text(trace: Trace) -> str:
    """The hops in their order, as docs/architecture.md shows them; those that follow one another in a file are one."""
    found = groupby(trace.hops, key=lambda one: one.file)
    text = " → ".join(f"{file.removesuffix('.py')} ({', '.join(one.name for one in hops)})" for file, hops in found)
    return "\n".join(wrap(text, 118, break_long_words=False, break_on_hyphens=False))


def main() -> int:
    """Print the figures, and with `--list` the hops; return 1 if there are more than allowed."""
    reader = argparse.ArgumentParser(prog="python -m bench.hops", description=__doc__)
    reader.add_argument("--list", action="store_true", help="print the hops, too")
    asked = reader.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    over = False
    for name, trace in traces().items():
        figures = f"{len(trace.hops)} hops, {len(trace.files)} files"
        print(f"{name}: {figures} ({len(trace.functions)} functions, {len(trace.calls)} calls between them)")
        if asked.list:
            print("", as_text(trace), "", sep="\n")
        _, hops, files = WAYS[name]
        over |= len(trace.hops) > hops or len(trace.files) > files
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
