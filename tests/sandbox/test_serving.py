"""The sandbox as a process."""

import signal
import subprocess
import sys
import time

import httpx
import pytest

from sandbox.server import running
from tests.sandbox.calling import Caller

HOST_A_SANDBOX = """
import time
from sandbox.server import running
from tests.sandbox.calling import Caller
with running() as url:
    print(url, flush=True)
    time.sleep(60)
"""


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/_sandbox/stats", trust_env=False, verify=False).is_success
    except httpx.TransportError:
        return False


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)


def test_it_says_where_it_listens_and_ends_when_told() -> None:
    """The command prints one line with the port it took, serves, and SIGTERM ends it within a second."""
    with _start("-m", "sandbox", "--rate", "off", "--username", "demo", "--password", "demo") as process:
        line = process.stdout.readline()
        url = line.removeprefix("sandbox listening on ").strip()
        assert line.startswith("sandbox listening on http://127.0.0.1:")
        assert _answers(url)

        stopped = time.monotonic()
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        process.wait(timeout=2)

        assert time.monotonic() - stopped < 1
        assert rest == ""


def test_it_ends_when_told_even_with_a_call_in_flight() -> None:
    """A call that still has seconds to wait does not hold it back."""
    with running() as url:
        capillary = Caller(url)
        with capillary.http:
            capillary.fault("latency", delay=30)
            capillary.http.timeout = 0.1
            with pytest.raises(httpx.ReadTimeout):
                capillary.read()
        stopped = time.monotonic()

    assert time.monotonic() - stopped < 1


def test_it_dies_with_its_parent() -> None:
    """When the process that runs it is killed, the sandbox is gone within two seconds."""
    with _start("-c", HOST_A_SANDBOX) as parent:
        url = parent.stdout.readline().strip()
        assert _answers(url)

        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 2
        while _answers(url) and time.monotonic() < deadline:
            time.sleep(0.02)

        assert not _answers(url)


def test_arguments_that_make_no_sense_end_with_2() -> None:
    """A rate that cannot be read is a usage error."""
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", "--rate", "often"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "is not a rate" in done.stderr
