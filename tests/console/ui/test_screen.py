"""What is printed shows what it is: nothing in it moves the cursor, and no terminal is too poor for it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.ui.screen import Screen, recording_console, table, visible
from tests.support.company import OPTRELAY, Company, company, shuffled_rows

EVIL = "\x1b]0;pwned\x07\x1b[2J\u202egnp.exe\x9b31m"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Company]:
    """A company that gets files from others."""
    with company(tmp_path) as one:
        yield one


def test_what_a_terminal_would_obey_is_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    """A file's name sets the title of an operator's terminal, clears it, or writes into the clipboard."""
    screen = Screen()
    screen.show(EVIL)
    screen.note(EVIL)
    screen.error(EVIL, EVIL)
    shown = table("name")
    shown.add_row(EVIL)
    screen.show(shown)
    Screen(as_json=True).print_json({"name": EVIL})
    out, err = capsys.readouterr()

    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & {*out, *err}
    assert "\\x1b" in out
    assert json.loads(out.splitlines()[-1]) == {"name": EVIL}


def test_ordinary_text_stays_as_it_is() -> None:
    """Names in any script, tabs and line ends are shown."""
    ordinary = "Ünal\t你好\nअनु — 2 × 1012 …"

    assert visible(ordinary) == ordinary


def test_a_file_with_an_evil_name_is_imported_and_shown(shop: Company) -> None:
    """The name comes out raw in `import` and `status latest`."""
    path = shop.write(shuffled_rows(4, 4), "\x1b]0;pwned\x07.csv")
    found = subprocess.run(
        [OPTRELAY, "import", str(path)],
        env=shop.environment(),
        cwd=shop.folder,
        capture_output=True,
        check=False,
        timeout=60,
    )
    listed = subprocess.run(
        [OPTRELAY, "status", "latest"], env=shop.environment(), cwd=shop.folder, capture_output=True, check=False
    )

    assert found.returncode == 0
    assert b"\x1b" not in found.stdout + found.stderr + listed.stdout + listed.stderr
    assert b"\\x1b]0;pwned" in listed.stdout


def test_a_file_whose_name_is_not_utf_8_is_recorded_and_so_are_its_neighbours(shop: Company) -> None:
    """One file from an old machine, and nothing of the whole folder is recorded."""
    (shop.folder / "drop").mkdir()
    shop.write([*shuffled_rows(4, 4), {"user_id": "7", "channel": "FAX"}], "drop/a.csv")
    odd = shop.folder / "drop" / os.fsdecode(b"k\xfcndigung.csv")
    shop.write([*shuffled_rows(5, 5), {"user_id": "8", "channel": "FAX"}], "drop/b.csv").rename(odd)
    code, found, stderr = shop.run("import", "drop/*.csv")

    assert (code, [one["rows"] for one in found["imports"]]) == (1, [5, 6]), stderr
    assert odd.with_name(odd.name + ".rejects.csv").exists()
    assert [one["name"] for one in found["imports"]] == ["drop/a.csv", "drop/k\\xfcndigung.csv"]


@pytest.mark.parametrize("encoding", [pytest.param("latin-1", marks=pytest.mark.proof), "ascii"])
def test_a_terminal_that_lacks_characters_gets_escapes(shop: Company, encoding: str) -> None:
    """`status`, `history` and `--help` end with "an error that no one expected", for want of a dash."""
    shop.run("import", shop.write(shuffled_rows(4, 4), "日本.csv"))
    environment = shop.environment() | {"PYTHONIOENCODING": encoding}
    for command in (
        ["status"],
        ["status", "latest"],
        ["--help"],
        ["run", "--help"],
        ["dead-letters", "list"],
        ["doctor"],
    ):
        done = subprocess.run([OPTRELAY, *command], env=environment, cwd=shop.folder, capture_output=True, check=False)
        assert done.returncode in {0, 1}, (command, done.stderr)


@pytest.mark.parametrize(
    "folder",
    [
        "C# what? 50%20off",
        "Ж" * 42 + "/" + "Ж" * 60,
        *(pytest.param(name, marks=pytest.mark.proof) for name in ("C# exports", "what?", "50%20off", "a b", "'\"&;")),
    ],
)
def test_a_run_works_in_any_folder(tmp_path: Path, folder: str) -> None:
    """A run waits for half a minute and says that its own broker cannot be reached."""
    (tmp_path / folder).mkdir(parents=True)
    with company(tmp_path / folder) as shop:
        shop.settings["LEDGER_URL"] = "sqlite:///ledger.db"
        code, found, stderr = shop.run("run", shop.write(shuffled_rows(4, 4)))

    assert (code, found["applied"] + found["superseded"]) == (0, 4), stderr


def test_what_is_indented_stays_indented_where_it_is_too_long() -> None:
    """In a narrow terminal the second line of a reason began at the edge, as if it were another result."""
    screen = Screen()
    screen.out = recording_console(70)
    screen.show("  rejected: 1 × too_few_cells: the row has 5 cells and the header 15: write them again", "yellow")
    screen.show("as wide as it is, a line that is not indented is broken where its words allow it, as ever")
    screen.show("    short")
    lines = [line.rstrip() for line in screen.out.export_text().splitlines()]
    assert lines == [
        "  rejected: 1 × too_few_cells: the row has 5 cells and the header 15:",
        "  write them again",
        "as wide as it is, a line that is not indented is broken where its",
        "words allow it, as ever",
        "    short",
    ]
