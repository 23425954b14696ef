"""Names that other people have chosen, on a terminal, in a log and in a pipe: they are shown, and nothing else."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from rich.console import Console

from console.ui.progress import reading_display
from console.ui.screen import Screen
from tests.support.company import OPTRELAY, Company, company, shuffled_rows
from worker.process import set_up_logs

ROWS = shuffled_rows(8, 4)
UNKNOWN = "404000001"
STRANGER = 65_534
HOSTILE = "\x1b]0;mine\x07\x1b[2J\x1b]52;c;cm0gLXJm\x07\x9b31m\u202egpj\r\nerror: all is lost.csv"
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Company]:
    """A company with a provider that does not know one of its customers."""
    with company(tmp_path, unknown=(UNKNOWN,)) as one:
        yield one


def ran(shop: Company, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the optrelay command in the company's folder; what it prints comes as bytes."""
    variables = shop.environment() | environment
    return subprocess.run(
        [OPTRELAY, *arguments], env=variables, cwd=shop.folder, capture_output=True, timeout=120, check=False
    )


def test_no_name_and_no_cell_looks_like_a_line_of_ours(shop: Company) -> None:
    """A file that a partner drops writes into an operator's clipboard, or says that all is lost."""
    rows = [{**ROWS[0], "reason": "\x1b[2J\u202e"}, {**ROWS[1], "channel": "\x1b[31m"}]
    shop.write(rows).rename(shop.folder / HOSTILE)
    color = {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "1000"}
    outputs = [
        ran(shop, *message, **more)
        for message, more in (
            (["run", HOSTILE, "--workers", "1"], color),
            (["run", f"{HOSTILE}x"], color),
            (["import", HOSTILE, "--dry-run"], {}),
            (["status"], color),
            (["status", "latest"], {}),
            (["history", f"user_id={ROWS[0]['user_id']}", "--reveal"], color),
            (["status", "--json"], {}),
        )
    ]

    for done in outputs:
        output = re.sub(r"\x1b\[[0-9;?]*[A-Zhlm]", "", (done.stdout + done.stderr).decode())  # rich's own sequences
        assert not CONTROLS.search(output), output
        assert not any(line.startswith("error: all") for line in output.splitlines()), output
        assert done.returncode in {0, 1, 2}
    assert b"\\x1b]52" in outputs[3].stdout
    assert b"\x1b[" in outputs[3].stdout  # colours were asked for


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.proof)])
def test_json_and_exports_are_whole_in_any_encoding(shop: Company, encoding: str) -> None:
    """What reads the JSON stops at an escape that JSON does not know; the exported file names another person."""
    name = "сегодня 😀….csv"
    shop.write([{**ROWS[0], "user_id": UNKNOWN, "reason": "Ünal 😀"}, *ROWS]).rename(shop.folder / name)
    done = ran(shop, "run", name, "--workers", "1", "--json", PYTHONIOENCODING=encoding)
    exported = ran(shop, "dead-letters", "export", "--all", PYTHONIOENCODING=encoding)

    assert json.loads(done.stdout)["name"] == name
    assert json.loads(done.stdout)["dead"] == 1
    assert exported.returncode == 0, exported.stderr
    assert "Ünal 😀" in exported.stdout.decode("utf-8")


def test_brackets_in_a_name_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """A file called `[/].csv` is not recorded, and nothing behind it either: the bar takes its name for markup."""
    screen = Screen()
    screen.err = Console(file=io.StringIO(), force_terminal=True, width=100)
    with reading_display(screen, "drop/[/].csv [red]") as display:
        display.reading(1, 1, 2, 0)

    assert "drop/[/].csv [red]" in screen.err.file.getvalue()  # type: ignore[attr-defined]
    assert not capsys.readouterr().err


def test_a_log_holds_no_command_to_the_terminal_that_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    """A person who follows a worker's log has a clipboard that a provider's reply, or a partner's file, has filled."""
    set_up_logs("INFO")
    structlog.get_logger().warning("an event", reason=HOSTILE)
    stderr = capsys.readouterr().err

    assert not CONTROLS.search(stderr)
    assert len(stderr.splitlines()) == 1
    assert "\\x1b]52" in stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can put another user's files into a folder")
@pytest.mark.parametrize("name", ["optrelay.toml", "ledger.db", pytest.param("ledger.db-wal", marks=pytest.mark.proof)])
def test_a_link_that_another_user_has_put_there_is_refused(shop: Company, tmp_path: Path, name: str) -> None:
    """A link to a file that is ours leads all calls to a test account, or all changes into a forgotten ledger."""
    (tmp_path / "ours").touch()
    (shop.folder / name).symlink_to(tmp_path / "ours")
    os.chown(shop.folder / name, STRANGER, STRANGER, follow_symlinks=False)

    code, _, stderr = shop.run("run", shop.write(ROWS), "--workers", "1")

    assert code == 2, stderr
    assert f"belongs to another user (uid {STRANGER})" in stderr
    assert not shop.held()
    (shop.folder / name).unlink()
    assert shop.run("import", shop.folder / "nightly.csv")[0] == 0
