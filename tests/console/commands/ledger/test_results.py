"""A file's rows with what became of each: every row once, and never the results of another file."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.support.command_line import ROWS, Cli, bury_all, settle_all, write

OUT = "out.csv"


def read(folder: Path, name: str = OUT) -> list[list[str]]:
    """The rows of a results file, without its header."""
    return list(csv.reader((folder / name).read_text(encoding="utf-8").splitlines()))[1:]


def test_every_row_is_there_once_before_and_after_it_is_settled(
    cli: Cli, consents: str, url: str, tmp_path: Path
) -> None:
    """Pending first, then applied; the counts are those of the import."""
    cli("import", consents)
    assert cli("results", "latest", consents, "--output", OUT).code == 0
    before = Counter(row[0] for row in read(tmp_path))
    settle_all(url)
    answer = cli("results", "latest", consents, "--output", "then.csv", "--json")
    then = read(tmp_path, "then.csv")

    assert before == {"pending": 3, "superseded": 1, "rejected": 1, "duplicate": 1}
    assert answer.json["outcomes"] == {"applied": 3, "superseded": 1, "rejected": 1, "duplicate": 1}
    assert [",".join(row[4:]) for row in then] == list(ROWS)
    report = cli("status", "latest", "--json").json
    assert {name: report[name] for name in ("applied", "superseded", "rejected")} == {
        "applied": 3,
        "superseded": 1,
        "rejected": 1,
    }


def test_a_nightly_dump_that_changes_nothing_is_unchanged(cli: Cli, consents: str, url: str, tmp_path: Path) -> None:
    """Rows that no change came of are told, too: the second file says the same a day later."""
    cli("import", consents)
    settle_all(url)
    later = write(tmp_path, "later.csv", *(row.replace("2026-01", "2026-02") for row in ROWS[2:4]))
    cli("import", later)
    cli("results", "latest", later, "--output", OUT)

    assert [row[0] for row in read(tmp_path)] == ["unchanged", "unchanged"]


@pytest.mark.usefixtures("url")
def test_other_options_than_those_of_the_import_are_told(cli: Cli, tmp_path: Path) -> None:
    """A line of totals that the import left out would be told as a duplicate, without a word."""
    file = write(tmp_path, "totals.csv", *ROWS[2:3], "Total,,,,")
    cli("import", file, "--skip-end", "1")

    other = cli("results", "latest", file, "--output", OUT)
    same = cli("results", "latest", file, "--output", "then.csv", "--skip-end", "1")

    assert [row[0] for row in read(tmp_path)] == ["pending", "duplicate"]
    assert "other options" in other.err
    assert [row[0] for row in read(tmp_path, "then.csv")] == ["pending", "skipped"]
    assert "other options" not in same.err


@pytest.mark.usefixtures("url")
def test_another_file_is_refused(cli: Cli, consents: str, tmp_path: Path) -> None:
    """One byte more, and its rows are no rows of the import; nothing is written."""
    cli("import", consents)
    (tmp_path / "consents.csv").write_text((tmp_path / "consents.csv").read_text() + "\n")
    os.utime(tmp_path / "consents.csv", (1_760_000_000, 1_760_000_000))
    answer = cli("results", "latest", consents, "--output", OUT)

    assert (answer.code, answer.out) == (2, "")
    assert "is not the file of import" in answer.err
    assert list(tmp_path.glob("out*")) == []


@pytest.mark.parametrize("made", ["file", "link"])
def test_nothing_is_written_over(cli: Cli, consents: str, tmp_path: Path, made: str) -> None:
    """Neither a file that is there nor one that a link leads to receives people's data."""
    cli("import", consents)
    if made == "file":
        (tmp_path / OUT).write_text("mine")
    else:
        (tmp_path / OUT).symlink_to(tmp_path / "elsewhere")
    answer = cli("results", "latest", consents, "--output", OUT)

    assert (answer.code, "is there already" in answer.err) == (2, True)
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_read_in_another_way_is_refused(cli: Cli, url: str, tmp_path: Path) -> None:
    """With another delimiter the same bytes are other rows: results beside them would be wrong."""
    odd = write(tmp_path, "odd.csv", '1;2,EMAIL,BULK,OPTOUT,2026-01-02T00:00:00Z,"a\nb"', header=f"{ROWS_HEADER},note")
    cli("import", odd)
    bury_all(url)
    answer = cli("results", "latest", odd, "--output", OUT, "--delimiter", ";")

    assert answer.code == 2
    assert not (tmp_path / OUT).exists()


def test_ragged_and_dangerous_cells_stay_in_their_place(cli: Cli, consents: str, tmp_path: Path) -> None:
    """Results stand before the row, so that a row with too many cells keeps them; formulas are escaped."""
    bad = write(tmp_path, "bad.csv", "=1+1,EMAIL,BULK,OPTOUT,2026-01-02T00:00:00Z", "1,EMAIL", "1,EMAIL,a,b,c,d,e")
    assert consents != bad
    cli("import", bad)
    cli("results", "latest", bad, "--output", OUT)
    rows = read(tmp_path)

    assert [row[0] for row in rows] == ["rejected"] * 3
    assert [row[1] for row in rows[1:]] == ["too_few_cells", "too_many_cells"]
    assert [row[4:] for row in rows[1:]] == [["1", "EMAIL"], ["1", "EMAIL", "a", "b", "c", "d", "e"]]
    assert rows[0][4] == "'=1+1"


def test_rows_that_a_feed_leaves_out_are_skipped(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its feed is found again by the file's name, and the row that it leaves out has its place."""
    monkeypatch.setenv("OPTRELAY_CONFIG", str(tmp_path / "feeds.toml"))
    (tmp_path / "feeds.toml").write_text(FEED)
    (tmp_path / "feeds.toml").chmod(0o600)
    name = write(tmp_path, "list-1.csv", "7,yes,2026-01-02T00:00:00Z", "8,no,2026-01-02T00:00:00Z", header="id,out,at")
    assert cli("import", name).code == 0
    assert cli("results", "latest", name, "--output", OUT).code == 0

    assert [row[0] for row in read(tmp_path)] == ["pending", "skipped"]


FEED = """
[feeds.list]
file = "list-*.csv"
connection = "capillary"
columns = {id = "user_id", out = "action", at = "effective_at"}
set = {channel = "EMAIL", priority = "BULK"}
values = {action = {yes = "OPTOUT", no = "skip"}}
"""

ROWS_HEADER = "user_id,channel,priority,action,effective_at"
