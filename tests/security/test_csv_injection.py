"""Files that people open in a spreadsheet run nothing, and lose nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from producers.files.csv_injection import escape, unescape
from tests.support.memory_ledger import MemoryLedger, csv_of, file_of, take_in


@pytest.mark.parametrize(
    "formula",
    [
        "=1+1",
        '=HYPERLINK("https://example.com")',
        "@SUM(A1)",
        "+1+cmd|' /C calc'!A0",
        "-A1",
        "\n=1",
        "\uff1d1",
        "\uff0bA1",
        "\uff0dA1",
        "\uff20SUM(A1)",
    ],
)
def test_a_formula_is_escaped(formula: str) -> None:
    """What a spreadsheet would run is text after this."""
    assert escape(formula) == f"'{formula}"


@pytest.mark.parametrize(
    "number", ["+15550100", "+1 (555) 010-0000", "\uff0b15550100", "-5", "15550100", "jane@example.com", "", "O'Neil"]
)
def test_a_telephone_number_stays_as_it_is(number: str) -> None:
    """Numbers and ordinary text are not touched: a damaged number would be another person's."""
    assert escape(number) == number


@given(st.text(alphabet="'=@+-\t\r\n\uff1d\uff20\uff0b\uff0d1a ", max_size=8) | st.text())
@example("'=1")
@example("''+15550100")
def test_what_was_escaped_comes_back(cell: str) -> None:
    """A fixed file that is imported again says what it said before."""
    assert unescape(escape(cell)) == cell


def test_a_rejects_file_is_escaped_and_comes_back(tmp_path: Path) -> None:
    """A mischievous cell is harmless in the rejects file, and a fixed row says exactly what the first one said."""
    ledger, rejects = MemoryLedger(), tmp_path / "x.csv.rejects.csv"
    take_in(csv_of(tmp_path / "x.csv", ["+15550100,PIGEON,OPTOUT,=1+1"]), ledger)
    written = rejects.read_text()
    assert ",+15550100,PIGEON,OPTOUT,'=1+1" in written

    take_in(file_of(rejects, written.replace("PIGEON", "SMS"), age=60), ledger)

    assert [(one.address, one.details) for one in ledger.changes] == [({"user_id": "+15550100"}, {"reason": "=1+1"})]


def test_the_header_of_a_rejects_file_is_escaped_and_comes_back(tmp_path: Path) -> None:
    """A person who opened the rejects in a spreadsheet ran what the name of a column said."""
    ledger, rejects = MemoryLedger(), tmp_path / "x.csv.rejects.csv"
    header = 'user_id,channel,action,"=HYPERLINK(""https://example.com"")"'
    take_in(csv_of(tmp_path / "x.csv", ["1,PIGEON,OPTOUT,kept"], header), ledger)
    first = rejects.read_text()
    assert ",\"'=HYPERLINK(" in first

    again = take_in(file_of(rejects, first.replace("PIGEON", "DOVE"), age=60), ledger)

    assert again.rejects_file == tmp_path / "x.csv.again.rejects.csv"
    assert again.rejects_file.read_text().splitlines()[0] == first.splitlines()[0]
