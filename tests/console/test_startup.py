"""How quickly a command answers: it loads what it needs, and no more."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("sqlalchemy", "celery", "kombu", "redis", "httpx", "starlette", "uvicorn", "structlog")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["dead-letters", "list", "--help"], ["version"]])
def test_help_needs_no_database_broker_or_web_server(arguments: list[str]) -> None:
    """Asking for help, or for the version, is answered at once: nothing is loaded that only a delivery needs."""
    program = (
        "import sys\n"
        "from console.cli import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit as end:\n"
        f"    print(end.code, sorted(set({HEAVY!r}) & sys.modules.keys()), file=sys.stderr)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ended.stderr.strip() == "0 []"
