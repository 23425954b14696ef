"""JSON lines are read like rows: names are columns, a broken line harms only itself, and digits stay digits."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.errors import UnreadableFile, UnusableHeader
from producers.files.ndjson import MOST_NAMES, read_record
from producers.files.sources import SourceFile
from producers.options import IngestOptions, parse_maps
from producers.parsing.error_messages import RowError
from tests.support.memory_ledger import MemoryLedger, file_of, take_in


def line(**fields: Any) -> str:
    """One record with all that a change needs, and these fields."""
    return json.dumps({"user_id": 7, "channel": "SMS", "action": "OPTOUT", **fields})


def read(path: Path, *lines: str, maps: tuple[str, ...] = ()) -> tuple[MemoryLedger, list[str]]:
    """Import these lines; return the ledger and the notes."""
    ledger = MemoryLedger()
    options = IngestOptions(maps=parse_maps(maps))
    return ledger, take_in(file_of(path, "\n".join(lines) + "\n"), ledger, options).notes


@pytest.mark.parametrize("name", ["x.ndjson", "x.csv", "x", "x.jsonl.gz"])
def test_json_lines_are_recognised_by_their_content(tmp_path: Path, name: str) -> None:
    """The name of a file says nothing; blank lines and a byte order mark are nothing either."""
    ledger, notes = read(tmp_path / name, "\ufeff" + line(user_id="7"), "", line(user_id=8, reason="Größe"))

    assert ledger.users == ["7", "8"]
    assert [change.line for change in ledger.changes] == [1, 3]
    assert [change.details.get("reason") for change in ledger.changes] == [None, "Größe"]
    assert notes == []


def test_names_may_differ_from_line_to_line(tmp_path: Path) -> None:
    """The file's columns are all names that occur; null and a name that is left out are an empty cell."""
    ledger, _ = read(
        tmp_path / "x", line(reason=None), line(reason="moved", extra=1), '{"action":"OPTIN","channel":"EMAIL"}'
    )

    assert [change.details.get("reason") for change in ledger.changes] == [None, "moved"]
    assert ledger.codes == [(3, "user_id", "missing_field")]


def test_what_lies_deeper_has_a_dotted_name(tmp_path: Path) -> None:
    """`--map` leads it to a column of ours."""
    nested = '{"customer":{"ids":{"crm":12345678901234567}},"action":"OPTOUT","channel":"SMS"}'

    ledger, _ = read(tmp_path / "x", nested, maps=("customer.ids.crm=user_id",))

    assert ledger.users == ["12345678901234567"]


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_a_number_keeps_every_digit(number: str) -> None:
    """Whatever a float or 64 bits would make of it."""
    found = read_record(f'{{"n": {number}, "l": [{number}, "x"]}}')

    assert not isinstance(found, RowError)
    assert found.cells == {"n": number, "l": f"{number}|x"}


def test_a_number_that_a_program_has_rounded_is_refused(tmp_path: Path) -> None:
    """An exponent where a customer belongs is damage, as in a cell of a CSV file."""
    ledger, _ = read(tmp_path / "x", line(), line().replace("7", "9.19E+11"))

    assert ledger.codes == [(2, "user_id", "damaged_number")]


@pytest.mark.parametrize(
    "broken",
    [
        '{"user_id": 8, "channel": "SMS", "action": "OPTOUT"',
        "{'user_id': 8}",
        '{"user_id": NaN}',
        "8,SMS,OPTOUT",
        "[7]",
        '"text"',
        "null",
        '{"a":' * 5_000 + "1" + "}" * 5_000,
        '{"user_id":8}{"user_id":9}',
    ],
)
def test_a_broken_line_harms_only_itself(tmp_path: Path, broken: str) -> None:
    """It is rejected by its line, also where it is the first, and stands in the rejects file as it was."""
    ledger, _ = read(tmp_path / "x", line(user_id=1), broken, line(user_id=2))

    assert ledger.users == ["1", "2"]
    assert ledger.codes == [(2, None, "bad_json")]
    (row,) = csv.DictReader(io.StringIO((tmp_path / "x.rejects.csv").read_text()))
    assert (row["_line"], row["user_id"]) == ("2", broken)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ('{"user_id": 7, "user_id": 8, "channel": "SMS", "action": "OPTOUT"}', "user_id"),
        ('{"a": {"b": 1, "b": 2}, "user_id": 7}', "b"),
        ('{"a.b": 1, "a": {"b": 2}, "user_id": 7}', "a.b"),
        ('{"a": [{"b": 1, "b": 1}]}', "b"),
    ],
)
def test_a_name_that_stands_twice_is_refused(tmp_path: Path, text: str, column: str) -> None:
    """Which of two values is meant is not for us to say, wherever they stand."""
    ledger, _ = read(tmp_path / "x", line(), text)

    assert ledger.codes == [(2, column, "named_twice")]


def test_what_is_no_cell_is_refused_only_in_a_column_that_is_used(tmp_path: Path) -> None:
    """A list of objects is no value of ours; elsewhere it does not matter, and the rejects file keeps it as JSON."""
    ledger, _ = read(tmp_path / "x", line(tags=[{"a": 1}]), line(reason=["a|b"]), line(reason=["a", 1, True, None]))

    assert ledger.codes == [(2, "reason", "unusable_value")]
    assert [change.details.get("reason") for change in ledger.changes] == [None, "a|1|true"]


@pytest.mark.parametrize(
    ("value", "code"), [("a\0", "stray_nul"), ("\ud800", "bad_encoding"), ("a\ufffd", "bad_encoding")]
)
def test_damaged_characters_are_refused(tmp_path: Path, value: str, code: str) -> None:
    """Also where they hide behind an escape."""
    ledger, _ = read(tmp_path / "x", line(), line(reason=value))

    assert ledger.codes == [(2, "reason", code)]


def test_rejected_records_are_fixed_as_csv_and_imported_again(tmp_path: Path) -> None:
    """The rejects file has all columns of the file; to fix it takes a spreadsheet and no JSON."""
    ledger, _ = read(tmp_path / "x", line(user_id=1), line(channel="POST", reason="=1+1"), line(user_id=3))
    rejects = tmp_path / "x.rejects.csv"
    assert ledger.codes == [(2, "channel", "unknown_value")]

    take_in(file_of(tmp_path / "fixed.csv", rejects.read_text().replace("POST", "EMAIL")), ledger)

    assert ledger.users == ["1", "3", "7"]
    assert ledger.changes[-1].details == {"reason": "=1+1"}


@pytest.mark.parametrize("text", ["[" + line() + "]", "[\n" + line() + "\n]\n", '\n [ {"a": 1} ]'])
def test_one_json_array_is_refused_with_a_remedy(tmp_path: Path, text: str) -> None:
    """It would have to be read whole before its first row is known."""
    with pytest.raises(UnreadableFile, match=r"jq -c '\.\[\]'"):
        read(tmp_path / "x", text)


def test_one_object_over_many_lines_is_refused_with_a_remedy(tmp_path: Path) -> None:
    """Every one of its lines would be a broken one."""
    with pytest.raises(UnusableHeader, match="jq -c"):
        read(tmp_path / "x", json.dumps({"user_id": 7}, indent=2))


def test_names_that_are_values_are_refused(tmp_path: Path) -> None:
    """Memory does not grow with the file, and a rejects file with a million columns is none."""
    with pytest.raises(UnusableHeader, match="more than 1,000 names"):
        read(tmp_path / "x", *(json.dumps({f"n{number}": 1}) for number in range(MOST_NAMES + 1)))


def test_a_line_without_end_is_rejected_alone(tmp_path: Path) -> None:
    """It is skipped without being kept."""
    ledger, _ = read(tmp_path / "x", line(user_id=1), line(reason="x" * 9_000_000), line(user_id=2))

    assert ledger.users == ["1", "2"]
    assert ledger.codes == [(2, None, "line_too_long")]


class _Killed(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("name", ["x.ndjson", "x.ndjson.gz"])
@pytest.mark.parametrize("when", ["before_accept", "after_accept"])
def test_an_import_that_died_goes_on_at_its_row(tmp_path: Path, name: str, when: str) -> None:
    """Nothing is lost or doubled, rejected lines included."""
    lines = [line(user_id=number) if number % 7 else "{" for number in range(1, 60)]
    file: SourceFile = file_of(tmp_path / name, "\n".join([*lines[:6], "", *lines[6:]]))
    options = IngestOptions(chunk_rows=10)
    ledger = MemoryLedger()

    def die(number: int) -> None:
        if number == 3:
            raise _Killed

    setattr(ledger, when, die)
    with pytest.raises(_Killed):
        take_in(file, ledger, options)
    ledger.undisturbed()
    result = take_in(file, ledger, options)

    assert result.resumed_at == (20 if when == "before_accept" else 30)
    assert ledger.users == [str(number) for number in range(1, 60) if number % 7]
    assert [place for place, _, _ in ledger.codes] == [number + (number > 6) for number in range(7, 60, 7)]
    rejects = next(tmp_path.glob("*.rejects.csv"))
    assert len(rejects.read_text().splitlines()) == 1 + len(ledger.codes)


@pytest.mark.parametrize(
    ("odd", "column"),
    [
        (line(reason={"text": "moved"}), "reason"),
        (line(reason={}), "reason"),
        ('{"user_id": 7, "channel": "SMS", "action": "OPTOUT", "at": "2026-11-20"}', "at"),
        ('{"user_id": 7, "channel": "SMS", "action": "OPTOUT", "at": [{"said": "2026-11-20"}]}', "at"),
    ],
)
def test_what_lies_elsewhere_than_in_other_rows_is_no_empty_cell(tmp_path: Path, odd: str, column: str) -> None:
    """A channel in an object, where other rows have text, is read as none: and the person opts in to every channel."""
    sound = line(reason="moved", at={"said": "2026-11-20"})
    ledger, _ = read(tmp_path / "x", sound, odd, line(reason=None), maps=("at.said=effective_at",))

    assert [change.line for change in ledger.changes] == [1, 3]
    assert ledger.codes == [(2, column, "unusable_value")]
