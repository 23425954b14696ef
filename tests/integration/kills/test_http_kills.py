"""`optrelay serve` as a process: what it acknowledged is in the ledger, whatever happens to it or around it."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, text

from consent.ledger.ledger import Ledger
from consent.ledger.queries.imports import ImportReport
from tests.support.http_server import ANN, KEY, process, statuses

CHANGE = {name: value for name, value in ANN.items() if name != "connection"}
KILLED_AFTER_THE_COMMIT = """
import os, signal
from consent.ledger.ledger import Intake
record = Intake.accept_events
def record_and_die(*args, **kwargs):
    record(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
Intake.accept_events = record_and_die
"""
SLOW = """
import time
from consent.ledger.ledger import Intake
record = Intake.accept_events
def record_slowly(*args, **kwargs):
    time.sleep(1)
    return record(*args, **kwargs)
Intake.accept_events = record_slowly
"""


def runs(url: str) -> list[ImportReport]:
    """The runs of a ledger, newest first."""
    ledger = Ledger(url)
    found = [ledger.queries.report(one) for one in ledger.queries.recent_imports()]
    ledger.close()
    return [one for one in found if one is not None]


def test_killed_between_commit_and_answer(tmp_path: Path) -> None:
    """The client hears nothing and asks again with the same Idempotency-Key: the change is known, and recorded once."""
    with process(tmp_path, instead=KILLED_AFTER_THE_COMMIT) as doomed:
        with pytest.raises(httpx.TransportError):
            doomed.post(CHANGE, idempotency_key="click-1")
        assert doomed.process.wait(10) == -signal.SIGKILL
    with process(tmp_path) as served:
        again = served.post(CHANGE, idempotency_key="click-1")

        assert statuses(again) == ["duplicate"]
    assert sum(one.accepted for one in runs(f"sqlite:///{tmp_path}/ledger.db")) == 1


def test_told_to_stop_it_finishes_what_is_in_hand(tmp_path: Path) -> None:
    """A request that is under way at SIGTERM is answered, and the run is ended so that it can be sealed.

    What the process wrote names no one and holds no secret.
    """
    with process(tmp_path, instead=SLOW, LOG_LEVEL="DEBUG") as served, ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(served.post, CHANGE)
        time.sleep(0.5)
        code = served.end()

        assert statuses(under_way.result()) == ["accepted"]
        assert code == 143
    (run,) = runs(f"sqlite:///{tmp_path}/ledger.db")
    assert (run.state, run.accepted) == ("released", 1)
    log = (tmp_path / "serve.log").read_text()
    assert "POST /v1/changes 202" in log
    assert not any(secret in log for secret in (KEY, CHANGE["user_id"], "hush-hush-7"))


def test_without_a_broker_changes_are_taken_all_the_same(tmp_path: Path) -> None:
    """The broker is only for waking workers: while it is gone changes are acknowledged as fast, and it is told."""
    with process(tmp_path, BROKER_URL="redis://127.0.0.1:1/0") as served:
        started = time.monotonic()
        answers = [served.post({**CHANGE, "user_id": str(n)}) for n in range(1, 6)]

        assert [statuses(one) for one in answers] == [["accepted"]] * 5
        assert time.monotonic() - started < 5
        ready = httpx.get(f"{served.url}/readyz", timeout=10)
        assert (ready.status_code, ready.json()["broker"][:17]) == (200, "cannot be reached")


def test_without_its_ledger_nothing_is_acknowledged(tmp_path: Path, postgres_database: str, postgres_url: str) -> None:
    """While the database refuses everybody the answer is 503; afterwards the same request is accepted."""
    ledger = Ledger(postgres_database)
    ledger.maintenance.migrate()
    name = ledger.database.url.database
    ledger.close()
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")

    def allow(yes: str) -> None:
        with admin.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {yes}"))
            end = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
            connection.execute(end, {"name": name})

    with process(tmp_path, LEDGER_URL=postgres_database) as served:
        assert statuses(served.post(CHANGE)) == ["accepted"]
        allow("false")
        away = served.post({**CHANGE, "user_id": "2"})
        ready = httpx.get(f"{served.url}/readyz")
        allow("true")
        back = served.post({**CHANGE, "user_id": "2"})
    admin.dispose()

    assert (away.status_code, away.json()["code"], ready.status_code) == (503, "ledger_unavailable", 503)
    assert int(away.headers["retry-after"]) >= 1
    assert "postgres" not in away.text
    assert statuses(back) == ["accepted"]
    assert [one.accepted for one in runs(postgres_database)] == [2]
