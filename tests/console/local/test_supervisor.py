"""A part of `optrelay up` is started again when it ends, after longer and longer waits, and its lines name it.

Nor does what they write fill the disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from console.local import supervisor
from console.local import worker as local_worker
from console.local.supervisor import Part
from console.local.worker import LocalWorker


def test_a_part_that_ends_is_started_again_later_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one that cannot start would take the whole machine, and its log the disk."""
    monkeypatch.setattr(supervisor, "_FIRST_WAIT", 0.05)
    messages: list[tuple[str, str]] = []
    part = Part("odd", ("no-such-command",), lambda name, line: messages.append((name, line)), _wait=0.05)
    until = time.monotonic() + 60
    while len([name for name, _ in messages if name == "up"]) < 3 and time.monotonic() < until:
        part.ensure(os.environ)
        time.sleep(0.02)
    part.end(time.monotonic())

    endings = [line for name, line in messages if name == "up"]
    assert endings == [f"odd ended with exit code 2; it is started again in {wait} s" for wait in ("0.1", "0.2", "0.4")]
    assert any("no-such-command" in line for name, line in messages if name == "odd")


def test_the_log_of_a_worker_that_runs_for_months_does_not_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It turned at the worker's start alone; one that is removed stays on the disk while the worker has it open."""
    monkeypatch.setattr(local_worker, "_LONG_LOG_BYTES", 5_000)
    writes = "import os, sys\nfor line in sys.stdin: os.write(1, f'{line.strip() * 100}\\n'.encode())"  # in one piece
    worker = LocalWorker(tmp_path, "redis://127.0.0.1:1/0", 1, "sqlite://")
    (tmp_path / "worker.log.1").write_text("x" * 9_000)
    with worker.log.open("ab") as log:
        process = subprocess.Popen([sys.executable, "-c", writes], stdin=subprocess.PIPE, stdout=log, text=True)
    worker._process = process  # type: ignore[assignment]
    assert process.stdin is not None
    sizes, until = [], time.monotonic() + 20
    for number in range(18):
        before = worker.log.stat().st_size
        print(f"line {number:05}", file=process.stdin, flush=True)
        while worker.log.stat().st_size == before and time.monotonic() < until:
            time.sleep(0.01)
        assert worker.ensure() is False
        sizes.append(worker.log.stat().st_size)
    process.communicate()

    assert max(sizes) <= 6_100
    assert worker.log.read_text().startswith("line 00015")
    kept = (tmp_path / "worker.log.1").read_text()
    assert kept.startswith("line 00010")
    assert kept.count("\n") == 5


def test_a_worker_that_was_asked_to_end_is_not_waited_for_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run sums up meanwhile; had the quiet to begin anew behind it, every run would end that much later."""
    monkeypatch.setattr(local_worker, "_QUIET_SECONDS", 0.1)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    worker = LocalWorker(tmp_path, "redis://127.0.0.1:1/0", 1, "sqlite://")
    process = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE, start_new_session=True)
    worker._process = process
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    asked: list[float] = []

    worker.ask_to_end()
    time.sleep(0.15)
    worker.stop(30.0, busy=lambda: bool(asked.append(time.monotonic())))
    process.communicate()

    assert len(asked) == 1
