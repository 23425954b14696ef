"""`optrelay feeds` lists whose files come, when the last one came, and what a feed makes of them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.support.command_line import Cli
from tests.support.files.workbooks import workbook

FEEDS = """
watch = ["drop?feed=crm&expect=00:00"]

[feeds.crm]
file = "crm*"
sheet = "Contacts"
connection = "capillary"
[feeds.crm.columns]
Kunde = "user_id"
Status = "action"
Seit = "effective_at"
[feeds.crm.set]
channel = "EMAIL"
priority = "BULK"
[feeds.crm.values.Status]
nein = "OPTOUT"
"" = "skip"

[feeds.other]
header = ["a column that no file has"]
"""
ROWS = [["Kunde", "Status", "Seit"], [5001, "nein", "2026-01-02"], [5002, "", ""], [5003, "vielleicht", "2026-01-02"]]


@pytest.fixture
def folder(tmp_path: Path, cli: Cli) -> Path:
    """A folder with two feeds, and a place that expects a file of one of them each day."""
    del cli  # which clears the environment first
    (tmp_path / "optrelay.toml").write_text(FEEDS)
    (tmp_path / "optrelay.toml").chmod(0o600)
    (tmp_path / "drop").mkdir()
    return tmp_path


def put(folder: Path, name: str, content: bytes) -> str:
    """Put a file that was finished a minute ago."""
    (folder / name).write_bytes(content)
    os.utime(folder / name, (time.time() - 60,) * 2)
    return name


def test_feeds_are_listed_before_any_file_came(cli: Cli, folder: Path) -> None:
    """A feed is there as soon as it is written; the ledger is not made for a look at it."""
    answer = cli("feeds", "--json")
    assert answer.code == 0, answer.err
    assert [(one["name"], one["last_file_at"], one["files"]) for one in json.loads(answer.out)] == [
        ("crm", None, []),
        ("other", None, []),
    ]
    assert not list(folder.glob("*.db"))


def test_a_feed_tells_its_mapping_its_files_and_what_is_overdue(cli: Cli, folder: Path) -> None:
    """The sheet that it names is read, though it is not the first; exit code 1 says that a place expects a file."""
    file = put(folder, "crm-1.xlsx", workbook(ROWS, others=["Notes"]))
    second = put(folder, "crm-2.xlsx", workbook(ROWS[:2], sheet="Notes", others=["Contacts"]))
    assert cli("import", file).code == 1

    answer = cli("feeds", "crm", "--json")
    assert answer.code == 1, answer.err
    found = json.loads(answer.out)
    assert found["overdue"] is True
    assert found["expected"] == ["00:00 + 0 s, UTC"]
    assert found["feed"]["columns"] == {"Kunde": "user_id", "Status": "action", "Seit": "effective_at"}
    (last,) = found["files"]
    assert (last["name"], last["rows"], last["rejected"], last["skipped"]) == (file, 3, 1, 1)

    shown = cli("feeds").out
    assert "(overdue)" in shown
    assert "by its header" in shown
    assert "nein" in cli("feeds", "crm").out

    assert "is empty" in cli("import", second).err  # its sheet Contacts is, and Notes is not meant


def test_a_feed_that_is_not_there_is_told_with_those_that_are(cli: Cli, folder: Path) -> None:
    """A misspelt name shows no empty history."""
    assert folder.exists()
    answer = cli("feeds", "cmr")
    assert answer.code == 2
    assert "there is no feed 'cmr' (known: crm, other)" in answer.err


def test_a_feed_in_a_zone_that_there_is_not_is_refused_with_the_settings(cli: Cli, folder: Path) -> None:
    """Else it would be found out in the night in which its first file comes."""
    with (folder / "optrelay.toml").open("a") as file:
        file.write('[feeds.also]\nfile = "crm-1*"\ntimezone = "Berlin"\n')
    answer = cli("feeds")
    assert (answer.code, "'Berlin' is no time zone: give one like Europe/Berlin" in answer.err) == (2, True), answer.err
    assert "OPTRELAY_FEEDS__ALSO__TIMEZONE" in answer.err


def test_feeds_that_fit_one_workbook_must_mean_one_sheet(cli: Cli, folder: Path) -> None:
    """The header that could tell them apart stands in the sheet."""
    with (folder / "optrelay.toml").open("a") as file:
        file.write('[feeds.also]\nfile = "crm-1*"\nsheet = "Notes"\n')
    name = put(folder, "crm-1.xlsx", workbook(ROWS, others=["Notes"]))
    answer = cli("import", name)
    assert answer.code == 2
    assert "fits the feeds also and crm, which read different sheets" in answer.err
    assert cli("import", name, "--feed", "crm").code == 1


def test_map_remembers_the_sheet(cli: Cli, folder: Path) -> None:
    """The first file is mapped from a sheet that is not the first: the next ones are read from it, too."""
    plain = [
        ["user_id", "action", "channel", "priority", "effective_at"],
        [1, "OPTOUT", "EMAIL", "BULK", "2026-01-02T08:00:00Z"],
    ]
    name = put(folder, "new-1.xlsx", workbook([["nothing"]], sheet="Notes", others=["Contacts"]))
    assert "no sheet 'Kontakte'" in cli("map", name, "--sheet", "Kontakte").err
    name = put(folder, "new-1.xlsx", workbook(plain, sheet="Kontakte", others=["Notes"]))
    maps = ("--map", "action=action", "--map", "priority=priority")
    answer = cli("map", name, "--sheet", "Kontakte", "--name", "new", *maps, "--yes", "--json")
    assert answer.code == 0, answer.out
    assert 'sheet = "Kontakte"' in (folder / "optrelay.toml").read_text()
