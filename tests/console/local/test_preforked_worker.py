"""The worker of a run is a fork of the run, made before it opened anything; if it dies, a fresh one follows."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from console.local import worker as local_worker
from console.local.delivery import LocalDelivery
from console.local.worker import LocalWorker
from tests.support.company import OPTRELAY, Company, company, shuffled_rows, until


def workers_of(run: subprocess.Popen[str]) -> list[psutil.Process]:
    """The parents of the pools that deliver for a run."""
    return [one for one in psutil.Process(run.pid).children() if one.name() == "optrelay-worker"]


@dataclass(slots=True)
class Fork:
    """What a run asks of a worker that it forked; `ended` is its exit code."""

    is_there: bool = True
    ended: int | None = None
    begun: int = 0
    pid: int = 0

    def begin(self, *_: object) -> bool:
        """Tell it to work."""
        self.begun += 1
        return self.is_there

    def poll(self) -> int | None:
        """Look whether it has ended."""
        return self.ended


def slow_run(shop: Company) -> subprocess.Popen[str]:
    """Start a run that takes a few seconds, and wait for its first calls."""
    shop.write(shuffled_rows(300, 150))
    run = shop.start("run", "nightly.csv", "--workers", "1", "--json")
    until(lambda: shop.stats()["calls"])
    return run


def test_the_fork_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that went on telling its dead fork would deliver nothing more; the second worker is a new Python."""
    commands: list[list[str]] = []
    fork, second = Fork(), Fork()
    monkeypatch.setattr(local_worker, "start_process", lambda command, *_: commands.append(command) or second)
    worker = LocalWorker(tmp_path, "redis://127.0.0.1:1/0", 1, "sqlite://", fork)  # type: ignore[arg-type]

    assert (worker.ensure(), worker.ensure(), fork.begun, commands) == (True, False, 1, [])
    fork.ended = 9
    assert (worker.ensure(), worker.ensure(), fork.begun) == (True, False, 1)
    [command] = commands
    assert command[:4] == [sys.executable, "-P", "-m", "worker"]


def test_a_fork_that_is_gone_before_it_is_told_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pipe is closed: the run starts a new Python at once, instead of taking it for its worker."""
    second = Fork()
    monkeypatch.setattr(local_worker, "start_process", lambda *_: second)
    worker = LocalWorker(tmp_path, "redis://127.0.0.1:1/0", 1, "sqlite://", Fork(is_there=False))  # type: ignore[arg-type]

    assert worker.ensure()
    assert worker._process is second


@pytest.mark.proof
@pytest.mark.takes(12)
@pytest.mark.fresh
def test_a_worker_that_dies_is_followed_by_one_in_a_new_python(tmp_path: Path) -> None:
    """The first is the run's own fork, in a session of its own; the run that is forked no more starts the second."""
    with company(tmp_path, latency=(0.1, 0.1)) as shop:
        shop.settings |= {"LEASE_SECONDS": "8", "CONNECTIONS__CAPILLARY__TIMEOUT": "3"}
        run = slow_run(shop)
        [first] = workers_of(run)
        command, session = first.cmdline(), os.getsid(first.pid)
        first.kill()
        until(lambda: [one for one in workers_of(run) if one.pid != first.pid])
        [second] = workers_of(run)
        fresh = second.cmdline()
        out, _ = run.communicate(timeout=60)

    assert (command[-5:], session) == (["run", "nightly.csv", "--workers", "1", "--json"], first.pid)
    assert "worker" in fresh
    assert (run.returncode, '"dead": 0' in out) == (0, True)


def test_what_the_command_holds_open_for_others_its_worker_does_not(tmp_path: Path) -> None:
    """`flock -n 9 optrelay run`: a lock that is held by an open file ends with the command, and not with its worker."""
    with company(tmp_path, latency=(0.2, 0.2)) as shop, (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(lock.fileno(), True)  # noqa: FBT003
        shop.write(shuffled_rows(200, 100))
        command = [OPTRELAY, "run", "nightly.csv", "--workers", "1"]
        with subprocess.Popen(
            command, env=shop.environment(), cwd=tmp_path, stdout=subprocess.DEVNULL, text=True, close_fds=False
        ) as run:
            until(lambda: shop.stats()["calls"])
            [worker] = workers_of(run)
            held = {one.path for one in psutil.Process(run.pid).open_files()}
            family = [worker, *worker.children()]
            kept = {one.path for process in family for one in process.open_files()}
            run.kill()

    assert str(tmp_path / "lock") in held
    assert str(tmp_path / "lock") not in kept


def test_nothing_is_said_twice_and_nothing_stays(tmp_path: Path) -> None:
    """What stood in a buffer at the fork is not the fork's to write; a run that has nothing to do ends its fork."""
    with company(tmp_path) as shop:
        shop.settings["NONSENSE"] = "1"
        shop.write(shuffled_rows(20, 10))
        texts = []
        for _ in range(2):
            run = shop.start("run", "nightly.csv", "--json")
            texts.append(run.communicate(timeout=60))

    left = [one for one in psutil.process_iter(["cwd"]) if one.info["cwd"] == str(tmp_path)]
    assert left == []
    assert [(json.loads(out)["sealed"], notes.count("OPTRELAY_NONSENSE is")) for out, notes in texts] == [(True, 1)] * 2


def test_a_command_with_threads_is_not_forked() -> None:
    """A lock that one of them holds would stay locked in the fork: its worker is started in a new Python."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    with LocalDelivery(1, 1.0) as delivery:
        preforked = delivery._preforked
    over.set()
    thread.join()

    assert preforked is None


@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_a_command_with_a_closed_stream_is_not_forked(monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    """`run <&- >&-`: its orders would have the number of that stream, over which the fork puts its own, and be lost."""
    monkeypatch.setattr(sys, f"__{closed}__", None)
    with LocalDelivery(1, 1.0) as delivery:
        assert delivery._preforked is None
