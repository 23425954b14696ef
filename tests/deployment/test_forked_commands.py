"""A command that the tests fork behaves like one that is started afresh: what is shown of one holds for both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support.company import OPTRELAY, company
from tests.support.forked_commands.client import SERVER
from tests.support.forked_commands.jobs import MAIN

SANDBOX = [OPTRELAY, "sandbox", "--port", "0"]


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.proof)], ids=["forked", "fresh"])
def _either(request: pytest.FixtureRequest) -> None:
    """Start the commands of a test in both ways."""
    SERVER.fresh = request.param


def modules_of(process: subprocess.Popen[str]) -> str:
    """The files of libraries that a process has mapped: a forked one has those of the database from the start."""
    return Path(f"/proc/{process.pid}/maps").read_text()


def until(happens: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def sandbox(folder: Path) -> subprocess.Popen[str]:
    """A command that runs until it is told to stop, and has said that it is ready."""
    started = subprocess.Popen(SANDBOX, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert "listens on" in started.stdout.readline()
    return started


@pytest.mark.skipif(sys.platform != "linux", reason="commands are forked on Linux")
def test_a_command_is_forked_unless_its_test_is_marked(tmp_path: Path) -> None:
    """Only the forked one holds the driver of PostgreSQL, which the sandbox does not need."""
    found = []
    for fresh in (False, True):
        SERVER.fresh = fresh
        with sandbox(tmp_path) as process:
            found.append("psycopg" in modules_of(process))
            process.terminate()

    assert found == [True, False]


@pytest.mark.usefixtures("_either")
def test_it_is_our_child_and_shows_its_own_command(tmp_path: Path) -> None:
    """Folder, arguments and parent are those of a process that was started."""
    with sandbox(tmp_path) as process:
        found = psutil.Process(process.pid)
        seen = found.ppid(), found.cwd(), found.cmdline()[-4:], found.num_threads()
        process.terminate()

    assert seen == (os.getpid(), str(tmp_path), SANDBOX, 1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_as_it_ends_a_fresh_one(tmp_path: Path, number: signal.Signals) -> None:
    """The exit code says how."""
    codes = []
    for fresh in (False, True):
        SERVER.fresh = fresh
        with sandbox(tmp_path) as process:
            process.send_signal(number)
            codes.append(process.wait(30))

    assert codes[0] == codes[1]
    assert codes[0] != 0


@pytest.mark.usefixtures("_either")
def test_output_and_exit_code_are_its_own(tmp_path: Path) -> None:
    """What it prints, what it says and how it ends come back; its environment is the one that it was given."""
    with company(tmp_path) as shop:
        code, found, stderr = shop.run("status")
        shop.settings["LEDGER_URL"] = "mysql://nowhere"
        broken, nothing, why = shop.run("status")

    assert (code, broken) == (2, 2)
    assert "there is no ledger" in stderr
    assert found != nothing
    assert "LEDGER_URL" in why


@pytest.mark.usefixtures("_either")
def test_a_killed_run_takes_its_processes_along(tmp_path: Path) -> None:
    """The worker and the broker of a run end with it."""
    with company(tmp_path, latency=(0.5, 0.5)) as shop:
        rows = [f"{1_000_000 + number},EMAIL,BULK,OPTOUT,2026-11-20T08:30:00Z" for number in range(200)]
        text = "\n".join(["user_id,channel,priority,action,effective_at", *rows, ""])
        (tmp_path / "nightly.csv").write_text(text)
        run = shop.start("run", "nightly.csv")
        until(lambda: shop.stats()["calls"])
        family = psutil.Process(run.pid).children(recursive=True)
        workers = [one for one in family if one.name() == "optrelay-worker"]
        with run:
            run.kill()

    assert run.returncode == -9
    assert workers
    until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family))


@pytest.mark.usefixtures("_either")
def test_a_program_that_changes_a_command_is_that_command(tmp_path: Path) -> None:
    """What it does first happens in the process that is the command then, and has its arguments."""
    code = f"import sys\nprint(sys.argv){MAIN}['schema'])"
    with subprocess.Popen([sys.executable, "-c", code, "-c", "more"], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first, rest = process.stdout.read().decode().split("\n", 1)

    assert (process.returncode, first) == (0, "['-c', '-c', 'more']")
    assert "properties" in rest


@pytest.mark.usefixtures("_either")
def test_a_terminal_is_a_terminal(tmp_path: Path) -> None:
    """Colours are for terminals, and none are in a pipe."""
    ours, theirs = os.openpty()
    subprocess.run([OPTRELAY, "--help"], cwd=tmp_path, stdout=theirs, check=True, env=os.environ | {"TERM": "xterm"})
    piped = subprocess.run([OPTRELAY, "--help"], cwd=tmp_path, capture_output=True, check=True)
    seen = os.read(ours, 100_000)
    for file in (ours, theirs):
        os.close(file)

    assert b"\x1b[" in seen
    assert b"\x1b[" not in piped.stdout
