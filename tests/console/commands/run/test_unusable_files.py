"""One file that cannot be used stops no other; exit codes and `files` tell about this run; `--move` tidies up."""

from __future__ import annotations

import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from consent.settings import Settings
from console.commands.run import input_files
from producers.files.file import PreparedFile
from producers.files.prepare import prepare
from producers.files.sources import SourceFile
from producers.options import IngestOptions
from tests.support.command_line import HEADER, ROWS, Cli, bury_all, write
from tests.support.files.workbooks import workbook


def states(answer_json: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    """The state of each file that a command read."""
    return {Path(one["file"]).name: one["state"] for one in answer_json["files"]}


def test_an_unusable_file_stops_no_other(cli: Cli, tmp_path: Path) -> None:
    """The others are recorded, the command ends with 1, and JSON names the file and the reason."""
    write(tmp_path, "consents.csv", *ROWS)
    write(tmp_path, "bad.csv", "1,2", header="a,b")
    (tmp_path / "empty.csv").touch()

    answer = cli("import", str(tmp_path / "*.csv"), str(tmp_path / "missing.csv"), "--json")

    assert answer.code == 1
    expected = {"consents.csv": "recorded"} | dict.fromkeys(("bad.csv", "empty.csv", "missing.csv"), "unusable")
    assert states(answer.json) == expected
    assert answer.json["rows"] == len(ROWS)
    (bad,) = [one for one in answer.json["files"] if one["file"].endswith("bad.csv")]
    assert "none of its columns is known. Not known: 'a', 'b'." in bad["reason"], "it also said: found none"
    assert "none of its columns is known" in answer.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("",), "the name of a file is empty"),
        (("folder",), "folder is a folder without a file to read"),
        (("*.xml",), "*.xml is no file and matches none"),
        (("consents.csv", "--rejects", "folder"), "--rejects: folder is a folder"),
        (("consents.csv", "--rejects", "nowhere/bad.csv"), "lies in a folder that is not there"),
    ],
)
def test_a_name_that_is_no_file_is_said_before_anything_is_recorded(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    """A variable of the shell that is not set meant every file of the folder; nothing is recorded now."""
    write(tmp_path, "consents.csv", *ROWS)
    (tmp_path / "folder").mkdir()

    answer = cli("import", *arguments)

    assert (answer.code, message in " ".join(answer.err.split())) == (2, True), answer.err
    assert "there is no ledger" in cli("status").err


def test_a_watched_place_names_an_unusable_file_once(cli: Cli, tmp_path: Path) -> None:
    """Its path stood in the line twice, and what is wrong with it behind both."""
    (tmp_path / "drop").mkdir()
    write(tmp_path / "drop", "bad.csv", "1,2", header="a,b")

    message = " ".join(cli("watch", "drop", "--once").err.split())

    assert "bad.csv cannot be used: none of its columns is known" in message
    assert message.count("bad.csv") == 1


def test_an_empty_option_is_one_that_was_not_given(cli: Cli, tmp_path: Path) -> None:
    """Scripts give --delimiter "$D": the same bytes are known again, and not taken for another import."""
    write(tmp_path, "consents.csv", *ROWS)
    cli("import", "consents.csv")

    again = cli("import", "consents.csv", *("--delimiter", "", "--encoding", "", "--timezone", "", "--sheet", ""))

    assert "these bytes were recorded before" in again.err
    write(tmp_path, "others.csv", "8,EMAIL,PIGEON,OPTOUT,2026-01-02T00:00:00Z", *ROWS)
    assert cli("import", "others.csv", "--rejects", "").code == 1
    assert (tmp_path / "others.csv.rejects.csv").exists()


def test_nothing_is_recorded_if_no_file_can_be_used(cli: Cli, tmp_path: Path) -> None:
    """Exit code 2, JSON all the same, and no ledger is made."""
    answer = cli("import", write(tmp_path, "bad.csv", "1,2", header="a,b"), "--json")
    assert (answer.code, states(answer.json), answer.json["rows"]) == (2, {"bad.csv": "unusable"}, 0)
    assert not (tmp_path / "optrelay.db").exists()


def test_a_file_that_could_not_be_used_is_named_by_a_dry_run(cli: Cli, consents: str, tmp_path: Path) -> None:
    """A dry run goes on, too."""
    answer = cli("import", consents, write(tmp_path, "bad.csv", "1,2", header="a,b"), "--dry-run", "--json")
    assert (answer.code, answer.json["rows"], states(answer.json)) == (1, len(ROWS), {"bad.csv": "unusable"})


def test_a_dry_run_of_nothing_usable_counts_no_customers(cli: Cli, tmp_path: Path) -> None:
    """No customers to count would read like a good file that is empty: it says why there is none, and ends with 2."""
    answer = cli("run", write(tmp_path, "bad.csv", "1,2", header="a,b"), "--dry-run")
    assert (answer.code, "customer" in answer.out) == (2, False)
    assert "1 file cannot be used" in answer.out
    assert "none of its columns is known" in answer.err


def test_a_cover_sheet_is_not_taken_for_the_table(cli: Cli, tmp_path: Path) -> None:
    """The message names the sheet that has known columns, and with --sheet the file is recorded."""
    rows = [HEADER.split(","), *(row.split(",") for row in ROWS)]
    (tmp_path / "x.xlsx").write_bytes(workbook([["Export of 20 November"]], sheet="Cover", tables={"Data": rows}))
    os.utime(tmp_path / "x.xlsx", (time.time() - 60,) * 2)

    refused = cli("import", str(tmp_path / "x.xlsx"), "--json")
    asked = cli("map", str(tmp_path / "x.xlsx"), "--json")
    done = cli("import", str(tmp_path / "x.xlsx"), "--sheet", "Data", "--json")

    assert (refused.code, asked.code) == (2, 2)
    assert "the sheet 'Data' has known columns: give --sheet 'Data'" in refused.json["files"][0]["reason"]
    assert "--sheet" in asked.json["error"]
    assert (done.json["files"][0]["state"], done.json["rows"]) == ("recorded", len(ROWS))


@pytest.mark.parametrize("tables", [{}, {"A": [["x"]], "B": [["y"]]}, {"A": [HEADER.split(",")], "B": [["user_id"]]}])
def test_of_several_sheets_none_is_chosen(cli: Cli, tmp_path: Path, tables: dict[str, list[list[str]]]) -> None:
    """Where none, or more than one, has known columns, all that may be meant are named, and none is taken."""
    (tmp_path / "x.xlsx").write_bytes(workbook([["Cover"]], sheet="Cover", tables=tables))
    os.utime(tmp_path / "x.xlsx", (time.time() - 60,) * 2)
    reason = cli("import", str(tmp_path / "x.xlsx"), "--json").json["files"][0]["reason"]
    assert ("--sheet: 'A', 'B'" in reason) == bool(tables)


def test_a_rejected_row_fails_the_run_that_rejects_it_and_no_later_one(cli: Cli, consents: str) -> None:
    """Cron would else report the same row every night; `status` goes on saying what is so."""
    assert cli("import", consents).code == 1
    assert cli("import", consents).code == 0
    assert cli("status", "latest").code == 1


def test_a_change_that_died_earlier_does_not_fail_a_later_run(cli: Cli, url: str, tmp_path: Path) -> None:
    """It is a dead letter still, and that run said so."""
    file = write(tmp_path, "good.csv", ROWS[0])
    assert cli("import", file).code == 0
    bury_all(url)
    assert cli("import", file).code == 0
    assert cli("status", "latest").code == 1


@pytest.mark.parametrize("arguments", [("import", "--json", "--effective-at", "soon", "x.csv"), ("import", "--json")])
def test_json_is_printed_when_a_command_fails(cli: Cli, arguments: tuple[str, ...]) -> None:
    """A program that reads the output of cron need not understand nothing."""
    answer = cli(*arguments)
    assert (answer.code, answer.json["exit_code"]) == (2, 2)
    assert answer.json["error"]


def test_files_are_moved_where_they_belong(cli: Cli, tmp_path: Path) -> None:
    """Recorded ones with their rejects into done/, unusable ones with the reason into failed/, none over another."""
    drop = tmp_path / "drop"
    (drop / "done").mkdir(parents=True)
    (drop / "done" / "night.csv").write_text("of another night")
    write(drop, "night.csv", *ROWS)
    write(drop, "bad.csv", "1,2", header="a,b")
    cut = gzip.compress(f"{HEADER}\n{ROWS[0]}\n".encode())[:-9]
    (drop / "cut.csv.gz").write_bytes(cut)

    answer = cli("import", str(drop), "--move", "--json")

    assert answer.code == 1
    assert [path.name for path in drop.iterdir() if path.is_file()] == []
    assert sorted(path.name.partition("-")[2] or path.name for path in (drop / "done").iterdir()) == [
        "night.csv",
        "night.csv",
        "night.csv.rejects.csv",
    ]
    assert (drop / "done" / "night.csv").read_text() == "of another night"
    failed = {path.name: path for path in (drop / "failed").iterdir()}
    assert set(failed) == {"bad.csv", "bad.csv.reason.txt", "cut.csv.gz", "cut.csv.gz.reason.txt"}
    assert "none of its columns is known" in failed["bad.csv.reason.txt"].read_text()
    assert all(Path(one["moved_to"]).exists() for one in answer.json["files"])
    assert json.loads(answer.out)["rejected"] == 1


def test_a_file_that_cannot_be_moved_stays_and_is_recorded(cli: Cli, tmp_path: Path) -> None:
    """A link in the place of done/ may lead anywhere: nothing is moved through it."""
    drop = tmp_path / "drop"
    drop.mkdir()
    (drop / "done").symlink_to(tmp_path)
    write(drop, "good.csv", ROWS[0])

    answer = cli("import", str(drop), "--move", "--json")

    assert (answer.code, states(answer.json)) == (0, {"good.csv": "recorded"})
    assert "cannot be moved" in answer.err
    assert (drop / "good.csv").exists()


def test_a_good_file_stays_while_its_rejects_file_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    """It went into failed/, and the opt-outs of a night were never read again."""
    drop = tmp_path / "drop"
    drop.mkdir()
    write(drop, "night.csv", *ROWS)
    (drop / "night.csv.rejects.csv").mkdir()

    waits = cli("import", str(drop), "--move", "--json")
    (drop / "night.csv.rejects.csv").rmdir()
    done = cli("import", str(drop), "--move", "--json")

    assert (states(waits.json), waits.code == 0) == ({"night.csv": "unusable"}, False)
    assert not (drop / "failed").exists()
    assert (states(done.json), (drop / "done" / "night.csv").exists()) == ({"night.csv": "recorded"}, True)


def test_a_file_on_which_our_code_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One odd report in a folder ended each night's command with 70, and the opt-outs of all others waited."""
    write(tmp_path, "good.csv", ROWS[0])
    write(tmp_path, "odd.csv", ROWS[0])

    def failing(file: SourceFile, *others: Any) -> PreparedFile:
        if file.name.endswith("odd.csv"):
            raise RuntimeError("of ours")
        return prepare(file, *others)

    monkeypatch.setattr(input_files, "prepare", failing)
    connection = {"provider": "capillary", "base_url": "http://127.0.0.1:9", "username": "u", "password": "p"}
    settings = Settings.model_validate({"connections": {"capillary": connection}})

    with input_files.InputFiles([str(tmp_path)], IngestOptions(connection="capillary")).ready(settings) as ready:
        assert [Path(one.name).name for one in ready.usable] == ["good.csv"]
        [odd] = ready.unusable
    assert ("please report it: RuntimeError in" in (odd.reason or ""), odd.path) == (True, None)
    alone = input_files.InputFiles([str(tmp_path / "odd.csv")], IngestOptions(connection="capillary"))
    with pytest.raises(RuntimeError), alone.ready(settings):
        pass
