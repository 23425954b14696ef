"""Tests that several forked processes run: each runs once, what becomes of it is told, and `pace` runs alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CONFTEST = """
import pytest
from tests.support.suite.processes import pytest_addoption, pytest_runtestloop

@pytest.fixture(scope="session")
def left_open():
    yield
    raise ValueError("cannot be closed")
"""

TESTS = """
import os, time, warnings
from pathlib import Path
import pytest

LOG = Path(__file__).with_name("log")

def note(what):
    with LOG.open("a") as log:
        log.write(f"{what} {os.getpid()}\\n")

@pytest.mark.pace
def test_alone():
    note("alone")

@pytest.mark.parametrize("number", range(40))
def test_one_of_many(number, tmp_path):
    assert os.listdir(tmp_path) == []
    time.sleep(0.02)
    note("one")
"""

ODD = """
import os, warnings
import pytest

def test_wrong(): print("what it printed"); assert [1, 2] == [1, 3]
@pytest.mark.skip(reason="not here")
def test_skipped(): pass
def test_warns(): warnings.warn("mind this")
def test_ends(): os._exit(0)
def test_is_killed(): os.kill(os.getpid(), 9)
def test_leaves(left_open): pass
def test_right(): pass
"""


def run_pytest(folder: Path, tests: str, *arguments: str) -> tuple[int, str]:
    """What three processes say of these tests, and the exit code."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_these.py").write_text(tests)
    (folder / "pytest.ini").write_text(f"[pytest]\nmarkers = pace: alone\npythonpath = {ROOT}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:schemathesis", "--processes", "3", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert not done.stderr
    return done.returncode, done.stdout


def test_each_test_runs_once_and_what_measures_runs_alone(tmp_path: Path) -> None:
    """A test that is not run, or one whose measurement another one disturbs, shows nothing."""
    code, output = run_pytest(tmp_path, TESTS)

    noted = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert code == 0
    assert "41 passed" in output
    assert [what for what, _ in noted] == ["one"] * 40 + ["alone"]
    assert len({process for _, process in noted}) == 3


def test_what_becomes_of_each_test_is_told(tmp_path: Path) -> None:
    """A test whose process ends is a failure, and so is what cannot be torn down: a run without them is not green."""
    code, output = run_pytest(tmp_path, ODD)

    failed = re.findall(r"^FAILED (\S+)", output, re.MULTILINE)
    assert code == 1
    assert {"test_these.py::test_wrong", "test_these.py::test_ends", "test_these.py::test_is_killed"} <= {*failed}
    assert "At index 1 diff: 2 != 3" in output
    assert "what it printed" in output
    assert "ended with -9" in output
    assert "ValueError: cannot be closed" in output
    assert "PASSED test_these.py::test_right" in output
    assert "UserWarning: mind this" in output
    assert "not here" in output


@pytest.mark.proof
def test_the_first_failure_ends_a_run_if_that_is_asked_for(tmp_path: Path) -> None:
    """A person who asks for the first failure does not wait for the others."""
    code, output = run_pytest(tmp_path, TESTS.replace('note("one")', "assert number != 3"), "-x")

    assert code == 1
    assert "stopping after 1 failures" in output
    assert "did not end" not in output
