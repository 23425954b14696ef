"""The demo: the whole product at once, and a proof of it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import psutil
import pytest

from consent.ledger.ledger import Ledger
from console.demo.file import write_file
from console.demo.proof import compare
from tests.support.command_line import Cli
from tests.support.company import OPTRELAY


def test_the_demo_proves_itself_and_leaves_no_process(tmp_path: Path) -> None:
    """Everything agrees slot by slot, only its folder is written, and nothing goes on running.

    It does so where an earlier demo has left its files, and although someone's real connection is configured.
    """
    (tmp_path / ".demo").mkdir()
    (tmp_path / ".demo" / "optrelay.db").write_text("what an earlier demo left")
    (tmp_path / ".demo" / "optrelay.toml").write_text("# the demo's settings\n")
    environment = os.environ | {"OPTRELAY_CONNECTIONS__CAPILLARY__BASE_URL": "https://example.com"}
    command = [OPTRELAY, "demo", "--rows", "200"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the sandbox agrees with the ledger: " in done.stdout
    assert "404000417" not in done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [".demo"]
    ledger = Ledger(f"sqlite:///{tmp_path / '.demo' / 'optrelay.db'}")
    kinds = {one.kind for one in ledger.notices.current()}
    assert kinds == {"dead_letters_new"}, "the page would tell of customers who have long been served"
    assert sum(sum(one.outcomes.values()) for one in ledger.recent.last_hours(1)) == _accepted(done.stdout)
    ledger.close()
    left = [one.cmdline() for one in psutil.process_iter(["cwd"]) if str(tmp_path) in str(one.info["cwd"])]
    assert left == []


def _accepted(output: str) -> int:
    [found] = re.findall(r"rows = ([\d,]+) accepted", output)
    return int(found.replace(",", ""))


def test_the_demo_touches_no_settings_but_its_own(cli: Cli, tmp_path: Path) -> None:
    """A folder with someone's optrelay.toml is refused."""
    (tmp_path / "optrelay.toml").write_text("ledger_url = 'sqlite:///mine.db'\n")
    answer = cli("demo", "--folder", str(tmp_path))
    assert (answer.code, "not the demo's" in answer.err) == (2, True)


@pytest.mark.parametrize("rows", [200, 2000])
def test_the_demo_file_has_what_it_says(tmp_path: Path, rows: int) -> None:
    """Every expected row is in the file, and the counts add up."""
    expected = write_file(tmp_path / "f.csv", rows)
    lines = (tmp_path / "f.csv").read_text().splitlines()
    accepted = expected.applied + expected.superseded + expected.dead
    assert len(lines) - 1 == rows == expected.rows == accepted + expected.duplicates + expected.rejected.total()
    assert expected.applied == len(expected.final)


def test_a_difference_on_either_side_is_seen() -> None:
    """A slot that only one side knows, or that differs, is no agreement."""
    one, other = ("1", "EMAIL", "BULK"), ("2", "EMAIL", "BULK")
    assert compare({one: "OPTIN"}, {one: "OPTIN"}).complete
    assert not compare({one: "OPTIN"}, {one: "OPTOUT"}).complete
    assert not compare({one: "OPTIN"}, {one: "OPTIN", other: "OPTOUT"}).complete
    assert not compare({one: "OPTIN", other: "OPTOUT"}, {one: "OPTIN"}).complete


def test_the_picture_is_of_the_demo_and_loads_nothing() -> None:
    """README shows what the demo prints; a viewer asks no server for it, and it tells nothing of a machine."""
    svg = (Path(__file__).parents[3] / "docs" / "demo.svg").read_text(encoding="utf-8")
    text = "".join(ET.fromstring(svg).itertext()).replace("\xa0", " ")

    assert "the sandbox agrees with the ledger: " in text
    assert "every row became what it had to become" in text
    assert "NOT SO" not in text
    assert re.findall(r"https?://(?!www\.w3\.org/)|/home/|/root/|/tmp/|/wor[k]/|@font-face", svg) == []
