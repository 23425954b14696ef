"""Several processes run the tests: each is forked from the one that has collected them, which takes five seconds.

Where each process imports and collects by itself, as with pytest-xdist, six processes do that for longer than all tests
of a folder take. What a test changes stays in its process, as there.
"""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from itertools import pairwise
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

import pytest

MOST = 25
"""The most tests that a process is given at once: neighbours share what is made once a file."""

_name = os.environ.get("PYTEST_XDIST_WORKER", "main")


def process_name() -> str:
    """The name of this process among those of a run; that of the only one is `main`."""
    return _name


def is_shared(config: pytest.Config) -> bool:
    """Whether other processes run tests, too."""
    return config.option.processes > 0 or _name != "main"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the number of processes."""
    text = "fork so many processes that run the tests; in the end, one of them runs those marked `pace` alone"
    parser.addoption("--processes", type=int, default=0, metavar="NUMBER", help=text)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Let other processes run the tests, if that is asked for."""
    option = session.config.option
    if option.processes < 1 or option.collectonly or session.testsfailed:
        return None
    Run(session).run(option.processes)
    return True


class Run:
    """The process that has collected the tests: it hands them out, and takes the reports."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        paced = [item.get_closest_marker("pace") is not None for item in session.items]
        self._next = [number for number, alone in enumerate(paced) if not alone]
        self._alone = [number for number, alone in enumerate(paced) if alone]
        self._left = set(range(len(paced)))
        self._processes: dict[Connection, int] = {}
        self._last: Connection | None = None
        """The process that waits until it is the last one."""

    def run(self, processes: int) -> None:
        """Have all tests run; say of those that did not run that they failed."""
        folder = self._session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        try:
            for number in range(processes):
                (folder / f"p{number}").mkdir()
                self._fork(f"p{number}")
            while self._processes:
                for channel in wait([*self._processes]):
                    self._hear(channel)
                if self._last is not None and len(self._processes) == 1:
                    self._last.send(self._alone)
                    self._last, self._alone = None, []
        finally:
            for channel, pid in self._processes.items():
                channel.close()
                os.waitpid(pid, 0)
        self._end(processes)

    def _end(self, processes: int) -> None:
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)
        for number in sorted(self._left):
            item = self._session.items[number]
            self._fail(item.nodeid, item.location, f"did not end: one of {processes} processes ended before")

    def _fork(self, name: str) -> None:
        ours, theirs = Pipe()
        sys.stdout.flush()
        if pid := os.fork():
            theirs.close()
            self._processes[ours] = pid
            return
        for channel in (ours, *self._processes):
            channel.close()
        _Process(self._session, theirs, name).be()

    def _hear(self, channel: Connection) -> None:
        """Take what a process tells."""
        hook, config = self._session.config.hook, self._session.config
        try:
            event, what = channel.recv()
        except (EOFError, ConnectionResetError):
            status = os.waitstatus_to_exitcode(os.waitpid(self._processes.pop(channel), 0)[1])
            if status:
                self._fail("a process", ("", None, ""), f"ended with {status}")
            return
        match event:
            case "report":
                hook.pytest_runtest_logreport(report=hook.pytest_report_from_serializable(config=config, data=what))
            case "warning":
                hook.pytest_warning_recorded.call_historic(kwargs=what)
            case "ended":
                self._left.discard(what)
            case "fault":
                self._fail("a process", ("", None, ""), what)
            case "asks":
                self._give(channel)

    def _give(self, channel: Connection) -> None:
        """Hand tests out: fewer and fewer, so that all processes end at the same time."""
        if self._session.shouldfail or self._session.shouldstop:
            self._next, self._alone = [], []
        most = min(MOST, len(self._next) // (8 * len(self._processes)) + 1)
        given, self._next = self._next[:most], self._next[most:]
        if not given and self._alone and self._last is None:
            self._last = channel
        else:
            channel.send(given)

    def _fail(self, nodeid: str, location: tuple[str, int | None, str], why: str) -> None:
        report = pytest.TestReport(nodeid, location, {}, "failed", why, "call")
        self._session.config.hook.pytest_runtest_logreport(report=report)


class _Process:
    """A process that runs tests: a plugin of pytest that tells the other one what becomes of them."""

    def __init__(self, session: pytest.Session, channel: Connection, name: str) -> None:
        global _name  # noqa: PLW0603 - this process is another one from here on
        _name = name
        self._session, self._channel, self._name = session, channel, name

    def be(self) -> NoReturn:
        """Run tests as long as some are left, and end as a process does."""
        try:
            self._separate()
            self._run()
        except BaseException:  # noqa: BLE001 - what it is, the other process tells
            self._tell("fault", traceback.format_exc())
        finally:
            atexit._run_exitfuncs()
            os._exit(0)

    def _separate(self) -> None:
        """Share no file with the processes beside this one."""
        plugins, factory = self._session.config.pluginmanager, self._session.config._tmp_path_factory  # type: ignore[attr-defined]
        plugins.getplugin("terminalreporter")._tw._file = Path(os.devnull).open("w")  # noqa: SIM115 - it stays open
        capture = plugins.getplugin("capturemanager")
        capture.stop_global_capturing()
        capture.start_global_capturing()
        capture.suspend_global_capture()
        factory._basetemp = factory.getbasetemp() / self._name
        plugins.register(self)

    def _run(self) -> None:
        session, hook = self._session, self._session.config.hook
        while numbers := self._ask():
            for number, following in pairwise([*numbers, None]):
                # What comes after the last one is not known: whatever is not the session's is torn down.
                nextitem: Any = session if following is None else session.items[following]
                hook.pytest_runtest_protocol(item=session.items[number], nextitem=nextitem)
                self._tell("ended", number)
        session.config.pluginmanager.getplugin("runner").pytest_sessionfinish(session)
        session.config._ensure_unconfigure()

    def _ask(self) -> list[int]:
        self._tell("asks")
        return self._channel.recv()

    def _tell(self, event: str, what: object = None) -> None:
        self._channel.send((event, what))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hand a report on."""
        config = self._session.config
        self._tell("report", config.hook.pytest_report_to_serializable(config=config, report=report))

    def pytest_warning_recorded(
        self, warning_message: Any, when: str, nodeid: str, location: tuple[str, int, str] | None
    ) -> None:
        """Hand a warning on."""
        what = {"warning_message": warning_message, "when": when, "nodeid": nodeid, "location": location}
        self._tell("warning", what)
