"""A sheet's rows, digits and dates are read as they stand there, and what cannot be read is refused in its place."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from consent.errors import UnreadableFile
from consent.times import from_micros
from producers.files.archive import unpacked
from producers.files.sources import SourceFile
from producers.ingest_file import ImportResult
from producers.options import IngestOptions
from tests.support.files.workbooks import odd_workbook, workbook
from tests.support.memory_ledger import MemoryLedger, file_of, take_in

HEAD = ["user_id", "channel", "action", "effective_at", "reason"]
ODD_HEAD = "".join(f'<c r="{"ABCDE"[n]}1" t="inlineStr"><is><t>{name}</t></is></c>' for n, name in enumerate(HEAD))


def read(file: SourceFile, ledger: MemoryLedger, **options: Any) -> ImportResult:
    """Import a workbook."""
    chosen = IngestOptions(**options)
    with unpacked(file, chosen) as [rows]:
        return take_in(rows, ledger, chosen)


def rows_of(path: Path, *rows: list[Any]) -> MemoryLedger:
    """Import a workbook of these rows."""
    ledger = MemoryLedger()
    read(file_of(path, workbook([HEAD, *rows])), ledger, timezone=ZoneInfo("Europe/Berlin"))
    return ledger


def odd(path: Path, cells: str, **more: Any) -> MemoryLedger:
    """Import a workbook whose row 5 has this XML in place of its customer, and row 7 is sound."""
    rest = "".join(f'<c t="str"><v>{text}</v></c>' for text in ("SMS", "OPTOUT", "2026-11-20", ""))
    rows = f'<row r="1">{ODD_HEAD}</row><row r="5">{cells}{rest}</row><row r="7"><c><v>7</v></c>{rest}</row>'
    ledger = MemoryLedger()
    read(file_of(path, odd_workbook(rows, **more)), ledger)
    return ledger


def test_numbers_keep_their_digits_and_dates_are_read_in_the_zone(tmp_path: Path) -> None:
    """A customer's number, text that looks like one, and a date as the sheet shows it."""
    when = datetime(2026, 11, 20, 8, 30)  # noqa: DTZ001 - a sheet knows no zones
    ledger = rows_of(
        tmp_path / "x",
        [447700900123, "SMS", "OPTOUT", when, "Größe"],
        ["00123", "EMAIL", "OPTIN", date(2026, 11, 21), None],
    )

    assert ledger.users == ["447700900123", "00123"]
    assert [change.line for change in ledger.changes] == [2, 3]
    assert ledger.changes[0].details == {"reason": "Größe"}
    assert [from_micros(change.effective_at) for change in ledger.changes] == [
        datetime(2026, 11, 20, 7, 30, tzinfo=UTC),
        datetime(2026, 11, 20, 23, 0, tzinfo=UTC),
    ]


def test_the_hour_that_clocks_show_twice_is_refused_in_a_sheet_too(tmp_path: Path) -> None:
    """Times of a sheet go through the same reader as any other."""
    ledger = rows_of(tmp_path / "x", [1, "SMS", "OPTOUT", datetime(2026, 10, 25, 2, 30), None])  # noqa: DTZ001

    assert ledger.codes == [(2, "effective_at", "ambiguous_time")]


@pytest.mark.parametrize("cell", ["<v>9.19E+11</v>", "<v>447700900123.5</v>", "<v>12345678901234567890</v>"])
def test_a_rounded_number_is_rejected_by_sheet_row_and_column(tmp_path: Path, cell: str) -> None:
    """And only in its row; the message never repeats what the cell holds."""
    ledger = odd(tmp_path / "x", f'<c r="A5">{cell}</c>')

    assert ledger.users == ["7"]
    assert ledger.codes == [(5, "user_id", "damaged_number")]
    assert ledger.rejects[0].message.startswith("sheet 'Contacts', row 5, column A: the sheet holds a decimal")


def test_a_number_shown_in_scientific_notation_is_rejected(tmp_path: Path) -> None:
    """All its digits stand there, but the person who made the sheet has never seen them."""
    ledger = odd(tmp_path / "x", '<c r="A5" s="1"><v>919000000000</v></c>', formats=["0.00E+00"])

    assert ledger.codes == [(5, "user_id", "damaged_number")]


@pytest.mark.parametrize(
    ("cell", "code"),
    [('<c r="A5"><f>B1</f></c>', "unusable_value"), ('<c r="A5" t="e"><v>#N/A</v></c>', "unusable_value")],
)
def test_a_formula_without_a_value_is_rejected(tmp_path: Path, cell: str, code: str) -> None:
    """It would look like an empty cell, which takes a default."""
    assert odd(tmp_path / "x", cell).codes == [(5, "user_id", code)]


@pytest.mark.parametrize(
    ("cell", "user"),
    [
        ("<c><v>4.47700900123E11</v></c>", "447700900123"),
        ('<c t="str"><f>A1</f><v>8</v></c>', "8"),
        ('<c t="s"><v>1</v></c>', "ab"),
        ('<c t="inlineStr"><is><r><t>a</t></r><r><t>b</t></r><rPh><t>x</t></rPh></is></c>', "ab"),
        ('<c t="str"><v>a_x005F_b</v></c>', "a_b"),
        ('<c t="b"><v>1</v></c>', "true"),
        ('<x:c xmlns:x="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><x:v>9</x:v></x:c>', "9"),
    ],
)
def test_cells_of_every_kind_are_read(tmp_path: Path, cell: str, user: str) -> None:
    """Shared and rich text, results of formulas, other prefixes: as different programs write them."""
    shared = "<si><t>x</t></si><si><r><t>a</t></r><r><t>b</t></r></si>"

    assert odd(tmp_path / "x", cell, shared=shared).users == [user, "7"]


def test_the_first_visible_sheet_is_read_or_the_one_that_is_named(tmp_path: Path) -> None:
    """Which one it was is said where there are several; another choice is another import."""
    file, ledger = file_of(tmp_path / "x", workbook([HEAD, [1, "SMS", "OPTOUT"]], others=["Old"])), MemoryLedger()

    assert "sheet 'Contacts' is read, not 'Old'; --sheet names another one" in read(file, ledger).notes
    assert read(file, ledger).already_known
    named = read(file, ledger, sheet="Contacts")
    assert not named.already_known
    assert not [note for note in named.notes if "--sheet" in note]
    with pytest.raises(UnreadableFile, match="no sheet 'New': --sheet is one of 'Contacts', 'Old'"):
        read(file, ledger, sheet="New")


def test_rows_keep_the_numbers_that_the_sheet_shows(tmp_path: Path) -> None:
    """Also below empty rows; cells beside the header are no one's, and a row that ends early is no ragged one."""
    rows = [HEAD, [1, "SMS", "OPTOUT"], [], [2, "POST", "OPTOUT"], [3, "SMS", "OPTOUT", None, None, "note"]]
    file, ledger = file_of(tmp_path / "x.xlsx", workbook(rows, first=3)), MemoryLedger()

    read(file, ledger)

    assert [(change.line, change.address["user_id"]) for change in ledger.changes] == [(5, "1")]
    assert ledger.codes == [(7, "channel", "unknown_value"), (8, None, "too_many_cells")]
    found = list(csv.DictReader(io.StringIO((tmp_path / "x.xlsx.rejects.csv").read_text())))
    assert [(row["_line"], row["user_id"], row["channel"]) for row in found] == [("7", "2", "POST"), ("8", "3", "SMS")]


def test_a_workbook_that_needs_more_memory_than_its_cap_is_refused(tmp_path: Path) -> None:
    """Its process ends, not ours; the message names the remedies."""
    shared = "".join(f"<si><t>{number:0100}</t></si>" for number in range(300_000))
    file, ledger = file_of(tmp_path / "x", odd_workbook("", shared=shared)), MemoryLedger()

    with pytest.raises(UnreadableFile, match="more than 64 MB of memory: save its sheet as CSV, or set OPTRELAY_SHEET"):
        read(file, ledger, sheet_memory=64)

    assert not ledger.imports


def _with(content: bytes, name: str, part: bytes) -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as new:
        for one in old.namelist():
            new.writestr(one, part if one == name else old.read(one))
    return found.getvalue()


_LAUGHS = b'<!DOCTYPE x [<!ENTITY a "ha">]><worksheet/>'


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (_with(odd_workbook(""), "xl/s/one.xml", _LAUGHS), "document type"),
        (_with(odd_workbook(""), "xl/s/one.xml", b"<worksheet><sheetData><row>"), "save it anew"),
        (odd_workbook('<row><c t="s"><v>9</v></c></row>'), "save it anew"),
        (odd_workbook('<row><c r="B1"><v>9</v></c><c r="A1"><v>9</v></c></row>'), "out of their order"),
        (odd_workbook('<row><c r="ZZZ1"><v>9</v></c></row>'), "no sheet has"),
        (lambda: _with(odd_workbook(""), "xl/s/one.xml", b" " * 100_000_000), "times as large"),
        (workbook([HEAD])[:-200], "cut short"),
        (_with(odd_workbook(""), "_rels/.rels", b"<Relationships/>"), "no .xlsx workbook"),
    ],
)
def test_a_workbook_that_is_none_is_refused_with_a_remedy(
    tmp_path: Path, content: bytes | Callable[[], bytes], remedy: str
) -> None:
    """Before anything is recorded."""
    ledger = MemoryLedger()
    with pytest.raises(UnreadableFile, match=remedy):
        read(file_of(tmp_path / "x", content if isinstance(content, bytes) else content()), ledger)
    assert not ledger.imports


def test_an_empty_sheet_is_refused_like_an_empty_file(tmp_path: Path) -> None:
    """There is not even a header."""
    with pytest.raises(UnreadableFile, match="empty"):
        read(file_of(tmp_path / "x", workbook([])), MemoryLedger())


class _Killed(BaseException):
    """The process dies here."""


def test_an_import_that_died_goes_on_at_its_row(tmp_path: Path) -> None:
    """The sheet is turned into rows once more, and those that are recorded are left out."""
    rows = [[number, "SMS" if number % 7 else "POST", "OPTOUT"] for number in range(1, 60)]
    file, ledger = file_of(tmp_path / "x", workbook([HEAD, *rows])), MemoryLedger()

    def die(number: int) -> None:
        if number == 3:
            raise _Killed

    ledger.after_accept = die
    with pytest.raises(_Killed):
        read(file, ledger, chunk_rows=10)
    ledger.undisturbed()

    assert read(file, ledger, chunk_rows=10).resumed_at == 30
    assert ledger.users == [str(number) for number in range(1, 60) if number % 7]
    assert [line for line, _, _ in ledger.codes] == [number + 1 for number in range(7, 60, 7)]


def test_rows_above_the_header_and_below_the_last_are_left_out(tmp_path: Path) -> None:
    """They are counted as the sheet counts them: a title, and a line of totals."""
    rows = [["Export of today"], [], HEAD, [1, "SMS", "OPTOUT"], [2, "SMS", "OPTOUT"], ["total", 2]]
    file, ledger = file_of(tmp_path / "x", workbook(rows)), MemoryLedger()

    read(file, ledger, skip_top=2, skip_end=1)

    assert [(change.line, change.address["user_id"]) for change in ledger.changes] == [(4, "1"), (5, "2")]
    assert ledger.codes == []


def test_a_customer_number_is_the_one_that_the_sheet_shows(tmp_path: Path) -> None:
    """A number's format adds zeros before it, and the file holds it without them: someone else would opt out."""
    found = odd(tmp_path / "x", '<c r="A5" s="1"><v>123</v></c>', formats=["00000&quot;0&quot;"])
    assert found.users == ["001230", "7"]


def test_a_merged_cell_is_not_an_empty_one(tmp_path: Path) -> None:
    """A reason, merged over two rows, is missing in the second; a channel would be every channel there."""
    merged = ["E5:E7", "A1:E1", "A8:E9"]
    found = odd(tmp_path / "x", '<c r="A5"><v>5</v></c>', merged=merged)

    assert found.users == ["5"]
    [reject] = found.rejects
    assert (reject.line, reject.column, reject.code) == (7, "reason", "unusable_value")
    assert "row 7, column E: the cell is merged" in reject.message
    assert odd(tmp_path / "y", '<c r="A5"><v>5</v></c>', merged=["F5:F7", "B7:B7"]).users == ["5", "7"]


def test_filtered_rows_are_told_of(tmp_path: Path) -> None:
    """Someone filters a list by those who unsubscribed and saves it; everyone in it opts out, and no line says why."""
    rest = "".join(f'<c t="str"><v>{text}</v></c>' for text in ("SMS", "OPTOUT", "2026-11-20", ""))
    rows = [f'<row r="{n}"{hidden}><c><v>{n}</v></c>{rest}</row>' for n, hidden in ((3, ""), (4, ' hidden="1"'))]
    table = f'<row r="1">{ODD_HEAD}</row><row r="2" hidden="1"/>{"".join(rows)}'
    ledger = MemoryLedger()
    result = read(file_of(tmp_path / "x", odd_workbook(table)), ledger)

    assert ledger.users == ["3", "4"]
    assert [note for note in result.notes if note.startswith("a row is hidden or filtered out in the sheet 'Contacts'")]
