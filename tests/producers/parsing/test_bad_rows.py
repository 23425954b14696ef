"""One bad row harms only itself, and is told once: where, which column, why, and what to do."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from producers.options import IngestOptions
from tests.support.memory_ledger import MemoryLedger, csv_of, take_in

WIDE = "user_id,channel,priority,action,effective_at,change_id,reason"


@pytest.mark.parametrize(
    ("row", "column", "code"),
    [
        ("9.19E+11,SMS,1,OPTOUT,,,", "user_id", "damaged_number"),
        (",SMS,1,OPTOUT,,,", "user_id", "missing_field"),
        ("  ,SMS,1,OPTOUT,,,", "user_id", "missing_field"),
        ("7,PIGEON,1,OPTOUT,,,", "channel", "unknown_value"),
        ("7,SMS,high,OPTOUT,,,", "priority", "not_a_number"),
        ("7,SMS,99,OPTOUT,,,", "priority", "out_of_range"),
        ("7,SMS,1,MAYBE,,,", "action", "unknown_value"),
        ("7,SMS,1,OPTOUT,yesterday,,", "effective_at", "unreadable_time"),
        ("7,SMS,1,OPTOUT,0001-01-01T00:00:00+14:00,,", "effective_at", "time_too_old"),
        ("7,SMS,1,OPTOUT,1795112000830,,", "effective_at", "unreadable_time"),
        ("7,SMS,1,OPTOUT,9999-12-31T23:59:59-01:00,,", "effective_at", "unreadable_time"),
        ("7,SMS,1,OPTOUT,2999-01-01,,", "effective_at", "from_the_future"),
        (f"7,SMS,1,OPTOUT,,{'x' * 300},", "change_id", "too_long"),
        ("7,SMS,1,OPTOUT,,", None, "too_few_cells"),
        ("7,SMS,1,OPTOUT,,,moved, away", None, "too_many_cells"),
        ('7,SMS,1,OPTOUT,,,"moved', None, "unclosed_quote"),
        ('7,SMS,1,OPTOUT,,,"moved" away', None, "broken_quote"),
        ("7,SMS,1,OPTOUT,,,mo\0ved", "reason", "stray_nul"),
        (f"7,SMS,1,OPTOUT,,,{'x' * 70_000}", "reason", "cell_too_long"),
        (f"7,SMS,1,OPTOUT,,,{'x' * 1_000_000}", "reason", "cell_too_long"),
    ],
)
def test_each_kind_of_damage_refuses_its_row_and_no_other(
    tmp_path: Path, row: str, column: str | None, code: str
) -> None:
    """The rows before and after are recorded, and the reject says line, column and code."""
    ledger = MemoryLedger()

    result = take_in(csv_of(tmp_path / "x.csv", ["1,SMS,1,OPTOUT,,,", row, "2,SMS,1,OPTOUT,,,"], WIDE), ledger)

    assert ledger.users == ["1", "2"]
    assert ledger.codes == [(3, column, code)]
    assert (result.recorded, result.duplicates, result.rejected) == (2, 0, 1)


def test_the_column_is_told_by_the_name_that_the_file_gives_it(tmp_path: Path) -> None:
    """A person looks for a name in the file, not in our documentation."""
    ledger = MemoryLedger()

    take_in(
        csv_of(tmp_path / "x.csv", ["7,,OPTOUT"], "Kunde,Kanal,action"),
        ledger,
        IngestOptions(maps={"Kunde": "user_id", "Kanal": "channel"}),
    )

    assert ledger.codes == [(2, "Kanal", "missing_field")]


def test_all_faults_of_a_row_are_told_the_first_in_the_file_first(tmp_path: Path) -> None:
    """One row, one reject, and nothing is left to be found by the next attempt."""
    ledger = MemoryLedger()

    take_in(csv_of(tmp_path / "x.csv", ["MAYBE,PIGEON,,"], "action,channel,user_id,reason"), ledger)

    assert ledger.codes == [(2, "action", "unknown_value")]
    assert "; also channel: " in ledger.rejects[0].message
    assert ledger.rejects[0].message.endswith("; also user_id: this is needed and is empty: fill it")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("1795163400", "--time-format epoch"),
        ("20.11.2026", "--time-format '%d.%m.%Y'"),
        ("11/12/2026 8:30 AM", "--time-format auto"),
    ],
)
def test_a_time_of_another_form_names_the_option_that_reads_it(tmp_path: Path, text: str, form: str) -> None:
    """The message recognises what it refuses; of day and month it guesses nothing."""
    ledger = MemoryLedger()

    take_in(csv_of(tmp_path / "x.csv", [f"1,SMS,OPTOUT,{text}"], "user_id,channel,action,effective_at"), ledger)

    assert ledger.codes == [(2, "effective_at", "unreadable_time")]
    assert ledger.rejects[0].message.endswith(form)


def test_a_message_says_what_to_write(tmp_path: Path) -> None:
    """Each sentence carries its remedy."""
    ledger = MemoryLedger()

    take_in(csv_of(tmp_path / "x.csv", ["7,PIGEON,OPTOUT,"]), ledger)

    assert "'SMS' or 'EMAIL'" in ledger.rejects[0].message


def test_no_cell_of_a_row_is_repeated_in_messages_or_logs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A telephone number or an address in the wrong column stays out of every message."""
    ledger = MemoryLedger()
    secret = "ann.smith@example.com"
    lines = [
        f"7,{secret},1,OPTOUT,,,",
        f"7,SMS,{secret},OPTOUT,,,",
        f"7,SMS,1,{secret},,,",
        f"7,SMS,1,OPTOUT,{secret},,",
        f"7,SMS,1,OPTOUT,,{secret * 20},",
        f"7,SMS,1,OPTOUT,,,{secret},",
        f'7,SMS,1,OPTOUT,,,"{secret}" {secret}',
        f"{secret}",
    ]

    with caplog.at_level(logging.DEBUG):
        result = take_in(csv_of(tmp_path / "x.csv", lines, WIDE), ledger)

    assert len(ledger.rejects) == len(lines)
    assert secret not in "".join([str(ledger.rejects), str(result), caplog.text])


def test_a_line_number_is_the_physical_line_where_the_row_starts(tmp_path: Path) -> None:
    """Line breaks inside cells and blank lines count, as they do in an editor."""
    ledger = MemoryLedger()

    take_in(csv_of(tmp_path / "x.csv", ['1,SMS,OPTOUT,"two\nlines"', "", "2,SMS,OPTOUT,", "3,X,OPTOUT,"]), ledger)

    assert [change.line for change in ledger.changes] == [2, 5]
    assert ledger.codes == [(6, "channel", "unknown_value")]


def test_rows_are_recorded_refused_or_known_already(tmp_path: Path) -> None:
    """The counts of an import make up its rows."""
    ledger = MemoryLedger()

    result = take_in(csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,", "1,SMS,OPTOUT,", "1,X,OPTOUT,", ""]), ledger)

    assert (result.recorded, result.duplicates, result.rejected) == (1, 1, 1)


def test_a_header_in_the_middle_is_told_as_one(tmp_path: Path) -> None:
    """A person looks for a wrong value in vain where files were joined with `cat`."""
    ledger = MemoryLedger()
    lines = ["1,SMS,1,OPTOUT,,,", f"\ufeff{WIDE}", f"2,SMS,1,OPTOUT,,,moved\ufeff{WIDE}", "3,SMS,1,OPTOUT,,,"]

    take_in(csv_of(tmp_path / "x.csv", lines, f"\ufeff{WIDE}"), ledger)

    assert ledger.users == ["1", "3"]
    assert ledger.codes == [(3, None, "repeated_header"), (4, None, "repeated_header")]
    assert "joined" in ledger.rejects[0].message


def test_rows_that_excel_has_cut_short_are_told_so(tmp_path: Path) -> None:
    """Two thirds of an export are refused, and no one knows why, for Excel shows no separators."""
    ledger = MemoryLedger()

    take_in(csv_of(tmp_path / "x.csv", ["1,SMS,1,OPTOUT,2026-01-01"], WIDE), ledger)

    assert ledger.codes == [(2, None, "too_few_cells")]
    assert "Excel leaves out the separators" in ledger.rejects[0].message
