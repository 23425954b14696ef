"""A ledger behind PgBouncer in transaction mode, where each transaction may meet another session of the server."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from consent.ledger.database import Database
from tests.support.company import Company, assert_balanced, company, fold, shuffled_rows

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_pgbouncer = pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed: apt-get install pgbouncer")


@pytest.fixture
def pooled(postgres_database: str) -> Iterator[str]:
    """The address of an empty database behind a pooler that hands two sessions round."""
    url = make_url(postgres_database)
    place = Path(str(url.query["host"]))
    owner = pwd.getpwuid(place.stat().st_uid)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="pgbouncer") as name:
        folder = Path(name)
        (folder / "users.txt").write_text('"postgres" ""\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={place} port={url.port or 5432}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {folder}/users.txt\n"
            "pool_mode = transaction\ndefault_pool_size = 2\n"
        )
        for one in (folder, *folder.iterdir()):
            with suppress(PermissionError):
                os.chown(one, owner.pw_uid, owner.pw_gid)
        command, user = (
            [str(PGBOUNCER), "-q", str(folder / "pgbouncer.ini")],
            owner.pw_uid if os.getuid() == 0 else None,
        )
        with subprocess.Popen(command, user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as pooler:
            wait_for(port)
            yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/{url.database}"
            pooler.terminate()


def wait_for(port: int) -> None:
    """Wait until someone listens."""
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.05)
        else:
            return


@pytest.fixture
def shop(tmp_path: Path, pooled: str) -> Iterator[Company]:
    """A company whose ledger stands behind the pooler."""
    with company(tmp_path) as one:
        one.settings["LEDGER_URL"] = pooled
        yield one


@pytest.mark.proof
@needs_pgbouncer
def test_several_at_once_behind_a_pooler_record_and_deliver(shop: Company) -> None:
    """Imports behind PgBouncer end with exit code 5 for ever: a session does not know what another one prepared."""
    assert shop.run("migrate")[0] == 0
    shop.settings["GUARDS__OFF"] = "resurrects"  # rows in no order opt many people in again
    files = [shop.write(shuffled_rows(600, 150, seed), f"{seed}.csv") for seed in (1, 2, 3)]
    rows = [row for seed in (1, 2, 3) for row in shuffled_rows(600, 150, seed)]

    importers = [shop.start("import", path) for path in files]
    errors = [process.communicate(timeout=120)[1] for process in importers]
    code, _, answer = shop.run("run", *files, "--workers", "2")

    assert [process.returncode for process in importers] == [0, 0, 0], errors
    assert code == 0, answer
    assert shop.held() == fold(rows)
    for path in files:
        assert_balanced(shop.run("run", path, "--workers", "1")[1])


@needs_pgbouncer
def test_statements_are_prepared_only_where_sessions_stay(pooled: str, postgres_database: str) -> None:
    """Without prepared statements each is planned anew: an installation without a pooler should not pay for that."""
    thresholds = []
    for url in (pooled, postgres_database):
        database = Database(url)
        database.read(lambda tx: tx.execute(text("SELECT 1")))
        with database.engine.connect() as connection:
            thresholds.append(connection.connection.dbapi_connection.prepare_threshold)
        database.close()

    assert thresholds == [None, 5]
