"""What became of an import, in words: many reasons and what the guards found, each said once."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from consent.ledger.queries.imports import ImportReport
from console.ui.screen import Screen
from console.ui.summaries import show_totals
from tests.support.command_line import HEADER, Cli, write

GOOD = "1001000,EMAIL,BULK,OPTOUT,2026-01-01T00:00:00Z"
BROKEN = (
    "1001001,FAX,BULK,OPTOUT,2026-01-01T00:00:00Z",
    "1001002,SMOKE,BULK,OPTOUT,2026-01-01T00:00:00Z",
    ",EMAIL,BULK,OPTOUT,2026-01-01T00:00:00Z",
    "1001003,EMAIL,BULK,OPTOUT,yesterday",
    "9.19E+11,EMAIL,BULK,OPTOUT,2026-01-01T00:00:00Z",
)


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_each_of_several_reasons_has_a_line_of_its_own(cli: Cli, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Six reasons in one paragraph were a wall of text, in which no reason could be found."""
    command = "run" if options else "import"
    lines = cli(command, write(tmp_path, "many.csv", GOOD, *BROKEN), *options).out.splitlines()
    [at] = [number for number, line in enumerate(lines) if "rejected: " in line]
    counts = "2 × unknown_value · 1 × missing_field · 1 × unreadable_time · 1 × damaged_number"
    assert sorted(lines[at].partition("rejected: ")[2].partition(";")[0].split(" · ")) == sorted(counts.split(" · "))
    below = lines[at + 1 :]
    for code in ("unreadable_time", "damaged_number", "unknown_value", "missing_field"):
        assert sum(line.startswith(f"    {code}: ") for line in below) == bool(options)
    if not options:
        places = ["line 3, channel", "line 4, channel", "line 5, user_id", "and 2 more"]
        assert [line.strip().partition(":")[0] for line in below[:4]] == places


def test_a_reason_that_no_shown_row_has_is_said_by_status(cli: Cli, tmp_path: Path) -> None:
    """`import` names the file in which every row has its reason; `status` knows none."""
    cli("import", write(tmp_path, "many.csv", GOOD, *BROKEN))
    lines = cli("status", "latest").out.splitlines()
    shown = [line.strip().partition(":")[0] for line in lines if line.startswith("    ")]
    assert shown[:4] == ["line 3, channel", "line 4, channel", "line 5, user_id", "and 2 more"]
    assert sorted(shown[4:]) == ["damaged_number", "unreadable_time"]


def test_what_a_guard_found_is_said_once(cli: Cli, tmp_path: Path) -> None:
    """Its name, what it found and what its name means stood there twice, on two lines."""
    (tmp_path / "none.csv").write_text(f"{HEADER}\n")
    answer = cli("import", str(tmp_path / "none.csv"))
    assert answer.out.splitlines()[-1] == "  notice: empty: has no rows"


def test_what_a_guard_means_is_said_without_its_name_again(cli: Cli, tmp_path: Path) -> None:
    """The name that a person does not know stood there twice."""
    many = [f"{1001000 + n},EMAIL,BULK,OPTOUT,2026-01-01T00:00:00Z" for n in range(1100)]
    lines = cli("import", write(tmp_path, "all.csv", *many)).out.splitlines()
    [at] = [number for number, line in enumerate(lines) if "notice: mass_optout: would opt out" in line]
    assert lines[at + 1] == "    opts out very many people"


def test_a_newcomer_is_told_what_a_guard_saw_in_a_first_file_and_what_to_do(cli: Cli, tmp_path: Path) -> None:
    """It said "more than 20.0% of all known" of an empty ledger, and "than usual" where nothing is usual yet."""
    many = [f"{1001000 + n},EMAIL,BULK,OPTOUT,2026-01-01T00:00:00Z" for n in range(1100)]
    name = write(tmp_path, "all.csv", *many)
    assert "known so far" in cli("run", "--dry-run", name).out
    shown = " ".join(cli("import", name).out.split())
    assert "would opt out 1,100 slots, and none is known so far; it is the first file of its kind, with no " in shown
    assert "so it is not held for that" in shown
    assert re.search(
        r"a mistake\? `optrelay pause CONNECTION --why …` stops .* `optrelay undo 20\S+ --dry-run` says", shown
    )


def test_what_undoing_leaves_and_does_not_list_is_counted(cli: Cli, tmp_path: Path) -> None:
    """A hundred slots stood there as if they were all that stay as they are."""
    many = [f"{1001000 + n},EMAIL,BULK,OPTOUT,2026-01-01T00:00:00Z" for n in range(120)]
    cli("import", write(tmp_path, "all.csv", *many))

    lines = cli("undo", "latest", "--dry-run").out.splitlines()

    assert "  120 slots stay opted out: before the import nothing was said, or the same" in lines
    assert (sum(" was opted out (" in line for line in lines), lines[-1]) == (100, "    and 20 more")


def test_one_call_of_several_files_is_one_call(capsys: pytest.CaptureFixture[str]) -> None:
    """It said "1 rows" and "1 calls"."""
    one = ImportReport("20261122-5bdf98ee", "a.csv", "released", 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0)
    show_totals(Screen(), [one, replace(one, rows=0, accepted=0, applied=0, calls=0)])
    assert " ".join(capsys.readouterr().out.split()) == (
        "2 imports together: 1 row, 1 accepted, 0 rejected, 0 duplicates, 1 applied, 0 unchanged, 0 superseded, "
        "0 dead, 0 pending, 1 call"
    )
