"""The limit holds over runs that follow each other, are killed, or meet on one ledger; seen from the provider's log."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import create_engine, text

from console.local.run_lease import LEASE_SECONDS
from sandbox.rate import worst_window
from tests.support.company import Company, company, shuffled_rows

JITTER = 0.1
"""Seconds by which a call may reach the provider sooner behind another than it was sent, on a machine that is busy."""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Company]:
    """A company whose provider counts, and refuses nothing."""
    with company(tmp_path) as one:
        yield one


def arrivals(shop: Company) -> list[float]:
    """When calls came in at the provider."""
    calls = httpx.get(f"{shop.url}/_sandbox/calls").json()["calls"]
    return sorted(call["received"] for call in calls)


def one_row(shop: Company, number: int) -> Path:
    """A file with one customer of its own."""
    row = shuffled_rows(1, 1)[0] | {"user_id": str(600_000_000 + number)}
    return shop.write([row], f"{number}.csv")


def many_rows(shop: Company, count: int) -> Path:
    """A file with so many customers."""
    rows = [shuffled_rows(1, 1)[0] | {"user_id": str(700_000_000 + n)} for n in range(count)]
    return shop.write(rows)


def wait_for_calls(shop: Company, count: int, seconds: float = 30.0) -> None:
    """Wait until the provider has seen so many calls."""
    end = time.monotonic() + seconds
    while shop.stats()["calls"] < count:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.proof
@pytest.mark.takes(25)
def test_runs_one_after_the_other_keep_one_limit(shop: Company) -> None:
    """A shop that runs each of four small files as it comes makes four calls where three are allowed."""
    shop.settings["CONNECTIONS__CAPILLARY__RATE"] = "3/15s"

    codes = [shop.run("run", one_row(shop, n), "--workers", "1")[0] for n in range(4)]

    assert codes == [0] * 4
    assert len(arrivals(shop)) == 4
    assert worst_window(arrivals(shop), 15 - JITTER) <= 3


@pytest.mark.proof
@pytest.mark.takes(20)
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_runs_keep_one_limit(shop: Company, seed: int) -> None:
    """A run that is killed and repeated begins its limit anew each time: a nervous operator gets the account throttled.

    Each one begins where the last one may have been, within seconds, though it was killed on the way.
    """
    odds, path = random.Random(seed), many_rows(shop, 14)
    shop.settings["CONNECTIONS__CAPILLARY__RATE"] = "5/3s"

    for kill in range(3):
        process = shop.start("run", path, "--workers", "2")
        wait_for_calls(shop, 3 * (kill + 1))
        time.sleep(odds.uniform(0.0, 0.6))
        psutil.Process(process.pid).send_signal(signal.SIGKILL)
        process.communicate()
    began = time.monotonic()
    code, found, stderr = shop.run("run", path, "--workers", "2")

    assert (code, found["pending"]) == (0, 0), stderr
    assert time.monotonic() - began < 30
    assert worst_window(arrivals(shop), 3 - JITTER) <= 5


def second_path(shop: Company, kind: str, request: pytest.FixtureRequest) -> Company:
    """The same ledger and provider, as another machine or another user of this one reaches them."""
    folder = shop.folder / "elsewhere"
    folder.mkdir()
    other = Company(folder, shop.url, dict(shop.settings))
    if kind == "postgresql":
        shop.settings["LEDGER_URL"] = other.settings["LEDGER_URL"] = request.getfixturevalue("postgres_database")
        assert shop.run("migrate")[0] == 0
    elif kind == "symbolic link":
        (folder / "ledger.db").symlink_to(shop.folder / "ledger.db")
    else:
        other.settings["LEDGER_URL"] = f"sqlite+pysqlite:///{folder}/../ledger.db"
    return other


@pytest.mark.waits
@pytest.mark.takes(15)
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("postgresql", marks=pytest.mark.proof),
        "symbolic link",
        pytest.param("another spelling", marks=pytest.mark.proof),
    ],
)
def test_a_second_run_on_the_ledger_says_why_it_does_not_start(
    shop: Company, kind: str, request: pytest.FixtureRequest
) -> None:
    """Two machines that run at once on one ledger call at twice the limit, and no one is told."""
    shop.settings["CONNECTIONS__CAPILLARY__RATE"] = "5/3s"
    other = second_path(shop, kind, request)
    path = many_rows(shop, 25)  # for a quarter of a minute: the other one is up by then, however slow this machine is
    first = shop.start("run", path, "--workers", "1", "--json")
    wait_for_calls(shop, 1)

    code, _, stderr = other.run("run", one_row(other, 1), "--workers", "1")
    first.communicate(timeout=60)

    assert code == 5
    assert f"process {first.pid}" in " ".join(stderr.split())
    assert first.returncode == 0
    assert len(arrivals(shop)) == 26, "the first run delivers what the second one has recorded"
    assert worst_window(arrivals(shop), 3 - JITTER) <= 5


@pytest.mark.proof
@pytest.mark.takes(10)
def test_a_run_that_was_killed_elsewhere_keeps_no_one_out_for_long(shop: Company) -> None:
    """A machine that lost its power holds up every later night's file, until someone deletes a lock by hand."""
    assert shop.run("run", one_row(shop, 1), "--workers", "1")[0] == 0
    engine = create_engine(shop.environment()["OPTRELAY_LEDGER_URL"])
    until = int((time.time() + LEASE_SECONDS / 2) * 1_000_000)
    with engine.begin() as tx:
        tx.execute(text("INSERT INTO leases VALUES ('run', 'db7, process 4', 'elsewhere', :until)"), {"until": until})
    engine.dispose()

    code, _, stderr = shop.run("run", one_row(shop, 2), "--workers", "1")
    assert code == 5
    assert "db7, process 4" in " ".join(stderr.split())

    time.sleep(LEASE_SECONDS / 2)
    assert shop.run("run", "--workers", "1")[0] == 0
    assert shop.stats()["calls"] == 2


@pytest.mark.proof
@pytest.mark.takes(15)
def test_a_clock_that_was_wrong_keeps_no_one_out_for_long(shop: Company) -> None:
    """A run in a container was killed while the clock was a day ahead: for a day every later run said it was busy."""
    assert shop.run("run", one_row(shop, 1), "--workers", "1")[0] == 0
    engine = create_engine(shop.environment()["OPTRELAY_LEDGER_URL"])
    until = int((time.time() + 86_400) * 1_000_000)
    with engine.begin() as tx:
        tx.execute(text("INSERT INTO leases VALUES ('run', 'db7, process 4', 'elsewhere', :until)"), {"until": until})
    engine.dispose()

    code, _, stderr = shop.run("run", one_row(shop, 2), "--workers", "1")
    assert code == 5
    assert "db7, process 4" in " ".join(stderr.split())

    time.sleep(LEASE_SECONDS)
    assert shop.run("run", "--workers", "1")[0] == 0
    assert shop.stats()["calls"] == 2


def test_a_ledger_file_with_two_names_is_refused(shop: Company) -> None:
    """SQLite keeps a log beside each name of a file: two runs that open it by two hard links damage the ledger."""
    assert shop.run("run", one_row(shop, 1), "--workers", "1")[0] == 0
    (shop.folder / "copy.db").hardlink_to(shop.folder / "ledger.db")

    code, _, stderr = shop.run("run", one_row(shop, 2), "--workers", "1")

    assert code == 2
    assert "hard links" in " ".join(stderr.split())
