"""A command that is terminated in the middle of a file prints its one JSON value, and goes on when it is run again."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.company import company

ROWS = 15_000


@pytest.mark.parametrize("command", [pytest.param(("import",), marks=pytest.mark.proof), ("run", "--workers", "1")])
def test_json_is_printed_when_a_signal_ends_the_command(tmp_path: Path, command: tuple[str, ...]) -> None:
    """A script that stops a long import reads what happened, and nothing that was recorded is read again."""
    with company(tmp_path) as shop:
        rows = (f"{387000000 + n},EMAIL,BULK,OPTOUT,2026-11-20T08:30:00Z" for n in range(ROWS))
        (tmp_path / "big.csv").write_text("\n".join(["user_id,channel,priority,action,effective_at", *rows, ""]))
        os.utime(tmp_path / "big.csv", (time.time() - 60,) * 2)
        process = shop.start(*command, "big.csv", "--json")
        while not (tmp_path / "ledger.db").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, stderr = process.communicate(timeout=60)

        found = json.loads(out)
        assert (process.returncode, found["exit_code"]) == (143, 143), stderr
        assert "run it again" in found["error"]
        code, found, stderr = shop.run("import", "big.csv", timeout=300)
        assert (code, found["rows"], found["state"]) == (0, ROWS, "released"), stderr
