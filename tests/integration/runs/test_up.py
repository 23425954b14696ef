"""`optrelay up`: one command is the whole product, and it survives the end of any of its processes."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from consent.ledger.ledger import Ledger
from tests.support.company import OPTRELAY, Company, company, fold, process, shuffled_rows
from tests.support.http_server import SECRET
from tests.support.watched import put


@contextmanager
def up(shop: Company) -> Iterator[subprocess.Popen[str]]:
    """The command, ended with the test."""
    process = shop.start("up", "--port", shop.settings["PUBLIC_URL"].rpartition(":")[2])
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Company]:
    """A company that has set a secret for unsubscribe links and nothing else."""
    with company(tmp_path) as made:
        made.settings = {"TOKEN_SECRET": SECRET, "PUBLIC_URL": f"http://127.0.0.1:{free_port()}"}
        yield made


def until(what: Callable[[], object], seconds: float = 60.0) -> float:
    """Wait until something is so; return the seconds that it took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds, "it never was so"
        time.sleep(0.05)
    return time.monotonic() - began


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(shop: Company) -> bool:
    """Whether HTTP answers."""
    try:
        return httpx.get(f"{shop.settings['PUBLIC_URL']}/readyz").is_success
    except httpx.HTTPError:
        return False


def click(shop: Company, user: str) -> None:
    """Click on an unsubscribe link."""
    _, made, stderr = shop.run("token", f"user_id={user}", "channel=EMAIL", "priority=BULK", "connection=capillary")
    assert made, stderr
    link = f"{shop.settings['PUBLIC_URL']}/v1/unsubscribe/{made['token']}"
    httpx.post(link, data={"List-Unsubscribe": "One-Click"}, timeout=10).raise_for_status()


def test_the_log_says_how_long_a_file_waits(shop: Company) -> None:
    """Who puts a file into the folder sees nothing happen for a minute."""
    with process(shop, OPTRELAY, "up", "--port", "0", "--workers", "1") as started:
        until(lambda: "delivering with 1 worker process," in started.log.read_text())
        until(lambda: "drop, where a file is read once it has not changed for 60 s;" in started.log.read_text())


@pytest.mark.fresh
@pytest.mark.proof
def test_a_click_reaches_the_provider_in_two_seconds(shop: Company) -> None:
    """So does a file that is put into the folder; all processes together take less than 600 MB."""
    with up(shop) as process:
        until(lambda: answers(shop))
        click(shop, "387006417")
        assert until(lambda: shop.held().get(("387006417", "EMAIL", "BULK")) == "OPTOUT") < 2.0

        drop = shop.folder / "drop"
        put(drop, {"night.csv": b"user_id,channel,priority,action\n387006418,EMAIL,BULK,OPTOUT\n"})
        until(lambda: shop.held().get(("387006418", "EMAIL", "BULK")) == "OPTOUT")
        until((drop / "done" / "night.csv").exists)

        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert sum(one.memory_full_info().pss for one in family) < 600_000_000
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 130, stderr
        assert [one for one in family if _alive(one)] == []


@pytest.mark.takes(35)
@pytest.mark.fresh
@pytest.mark.proof
def test_any_process_may_be_killed(shop: Company) -> None:
    """What was recorded is delivered, and when the supervisor is killed the others end with it."""
    odds, drop = random.Random(7), shop.folder / "drop"
    shop.settings |= {
        "CONNECTIONS__CAPILLARY__RATE": "400/second",
        "WATCH": f"{drop}?poll=0.2",
        "GUARDS__OFF": "resurrects,undated_optins,mass_optout,empty,shrunken,swollen,rejects,header,manifest",
    }
    rows = shuffled_rows(12_000, 4_000, seed=7)
    drop.mkdir()
    for number in range(6):
        shop.write(rows[number::6], f"drop/night-{number}.csv")
        os.utime(drop / f"night-{number}.csv", (time.time() - 300,) * 2)
    process = shop.start("up", "--port", shop.settings["PUBLIC_URL"].rpartition(":")[2])
    try:
        for turn in range(6):
            until(lambda: answers(shop))
            family = psutil.Process(process.pid).children(recursive=True)
            victim = psutil.Process(process.pid) if turn % 3 == 2 else odds.choice(family)
            victim.kill()
            if victim.pid == process.pid:
                process.communicate(timeout=30)
                until(lambda family=family: not any(_alive(one) for one in family), 30.0)
                process = shop.start("up", "--port", shop.settings["PUBLIC_URL"].rpartition(":")[2])
            time.sleep(odds.uniform(0.2, 1.5))
        until(lambda: len(list((drop / "done").glob("*.csv"))) == 6)
        ledger = Ledger(f"sqlite:///{shop.folder / 'ledger.db'}")
        until(lambda: not ledger.queries.pending_by_bucket(), 120.0)
        ledger.close()
        assert shop.held() == fold(rows)
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
