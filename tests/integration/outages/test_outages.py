"""Broker wiped or gone, provider down, credentials refused: it finishes, or says plainly why it does not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from console.local.broker import LocalBroker
from tests.support.company import Company, assert_balanced, company, fold, shuffled_rows

DOWN_SECONDS = float(os.environ.get("PROOF_DOWN_SECONDS", "8"))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Company]:
    """A company whose provider takes a few milliseconds for each call."""
    with company(tmp_path, latency=(0.0, 0.01)) as one:
        yield one


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    """A broker that does not belong to the run."""
    broker = LocalBroker(tmp_path / "broker")
    broker.ensure()
    yield broker
    broker.stop()


def wait_for_calls(shop: Company, count: int, seconds: float = 30) -> None:
    """Wait until the provider has been called so often."""
    end = time.monotonic() + seconds
    while shop.stats()["calls"] < count:
        assert time.monotonic() < end, "no one was called"
        time.sleep(0.05)


@pytest.mark.proof
def test_a_wiped_broker_is_filled_again(shop: Company, broker: LocalBroker) -> None:
    """FLUSHALL in the middle of a run costs a few seconds and nothing else."""
    shop.settings |= {"BROKER_URL": broker.url, "CONNECTIONS__CAPILLARY__RATE": "100/second"}
    rows = shuffled_rows(2_400, 600)
    started = time.monotonic()
    process = shop.start("run", shop.write(rows), "--json")
    wait_for_calls(shop, 150)

    redis.Redis(unix_socket_path=broker.url.removeprefix("redis+socket://")).flushall()
    _, stderr = process.communicate(timeout=60)

    assert process.returncode == 0, stderr
    assert shop.held() == fold(rows)
    assert time.monotonic() - started < 600 / 100 + 5 + 15


@pytest.mark.proof
def test_a_provider_that_is_down_for_a_while_costs_only_time(shop: Company) -> None:
    """Every call is cut for some seconds in the middle of a run: no dead letter, and it finishes by itself."""
    shop.settings["CONNECTIONS__CAPILLARY__RATE"] = "200/second"
    rows = shuffled_rows(3_200, 800)
    process = shop.start("run", shop.write(rows), "--json")
    wait_for_calls(shop, 100)

    shop.fault(kind="down", seconds=DOWN_SECONDS)
    out, stderr = process.communicate(timeout=DOWN_SECONDS + 90)

    assert process.returncode == 0, stderr
    assert '"dead": 0' in out
    assert shop.held() == fold(rows)


def test_refused_credentials_are_said_and_kill_nothing(shop: Company) -> None:
    """With a wrong password the run ends at once with exit code 4 and says so; fixed, the same command finishes."""
    shop.settings["CONNECTIONS__CAPILLARY__PASSWORD"] = "not the password"
    rows = shuffled_rows(400, 100)
    path = shop.write(rows)

    code, found, stderr = shop.run("run", path, timeout=60)

    assert code == 4
    assert "refuses our credentials" in stderr
    assert (found["dead"], found["pending"], found["sealed"]) == (0, found["accepted"] - found["superseded"], False)
    assert shop.stats()["calls"] < 40

    del shop.settings["CONNECTIONS__CAPILLARY__PASSWORD"]
    code, found, stderr = shop.run("run", path, timeout=60)

    assert code == 0, stderr
    assert shop.held() == fold(rows)
    assert_balanced(found)


@pytest.mark.proof
@pytest.mark.pace
def test_without_redis_the_limit_still_holds(tmp_path: Path, broker: LocalBroker) -> None:
    """Redis is stopped for some seconds under four processes: no window has too many calls, and it finishes."""
    with company(tmp_path, rate="50/second") as shop:
        shop.settings |= {"BROKER_URL": broker.url, "CONNECTIONS__CAPILLARY__RATE": "50/second"}
        rows = shuffled_rows(2_000, 500)
        process = shop.start("run", shop.write(rows), "--workers", "4", "--json")
        wait_for_calls(shop, 120)

        broker.stop()
        time.sleep(5)
        broker.ensure()
        _, stderr = process.communicate(timeout=90)

        assert process.returncode == 0, stderr
        stats = shop.stats(window=1.0)
        assert stats["worst_window"]["calls"] <= 51
        assert stats["throttled"] == 0
        assert shop.held() == fold(rows)


@pytest.mark.proof
@pytest.mark.pace
def test_four_processes_keep_the_limit_and_use_it(tmp_path: Path) -> None:
    """At 50 calls a second, four processes stay within it, use at least 95 of 100, and are never throttled."""
    with company(tmp_path, rate="50/second") as shop:
        shop.settings["CONNECTIONS__CAPILLARY__RATE"] = "50/second"
        rows = shuffled_rows(2_000, 500)
        process = shop.start("run", shop.write(rows), "--workers", "4", "--json")
        wait_for_calls(shop, 150)
        before, started = shop.stats()["calls"], time.monotonic()
        time.sleep(6)
        used, seconds = shop.stats()["calls"] - before, time.monotonic() - started
        _, stderr = process.communicate(timeout=60)

        assert process.returncode == 0, stderr
        stats = shop.stats(window=1.0)
        assert stats["worst_window"]["calls"] <= 51
        assert stats["throttled"] == 0
        assert used >= 0.95 * 50 * seconds
