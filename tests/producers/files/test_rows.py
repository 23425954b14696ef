"""Cells come out as they went in, whatever the dialect, and a broken row harms no other."""

from __future__ import annotations

import csv
import io
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.files.cells import LONGEST_CELL, FileRow, RowShape
from producers.files.lines import LONGEST_LINE, PushBackLines
from producers.files.rows import DELIMITERS, CsvReader
from tests.support.examples import examples

CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufffd"), max_size=12)


def read(text: str, delimiter: str = ",", one_line: tuple[int, ...] = ()) -> list[FileRow]:
    """Read a text's rows behind its header; every column is used."""
    lines = PushBackLines(io.StringIO(text, newline=""))
    names = tuple(CsvReader(lines, delimiter).some(1)[0].cells)
    return all_rows(CsvReader(lines, delimiter, RowShape(names, tuple(range(len(names))), one_line)))


def all_rows(reader: CsvReader) -> list[FileRow]:
    """Read until the end."""
    rows: list[FileRow] = []
    while some := reader.some():
        rows += some
    return rows


def rows_of(text: str, one_line: tuple[int, ...] = ()) -> list[tuple[int, str | list[str]]]:
    """Say of each row where it starts, and its fault or else its cells."""
    return [(row.line, row.error.code if row.error else row.cells) for row in read(text, one_line=one_line)]


@settings(max_examples=examples(150), deadline=None)
@given(
    table=st.integers(1, 5).flatmap(lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), max_size=8)),
    delimiter=st.sampled_from(DELIMITERS),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_any_table_that_a_csv_writer_wrote_reads_back_row_for_row(
    table: list[list[str]], delimiter: str, quoting: int
) -> None:
    """Quotes, line breaks and delimiters inside cells survive in every dialect; rows without any text are no rows."""
    width = len(table[0]) if table else 1
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting)
    writer.writerows([[f"column {n}" for n in range(width)], *table])

    rows = read(text.getvalue(), delimiter)

    assert [row.cells for row in rows] == [cells for cells in table if any(map(str.strip, cells))]
    assert all(row.error is None for row in rows)


@settings(max_examples=examples(200), deadline=None)
@given(text=st.text(st.sampled_from(['"', ",", "\n", "\r", "a", "b", " "]), max_size=60))
def test_whatever_the_text_every_line_with_something_in_it_is_read_or_refused(text: str) -> None:
    """However quotes and line ends are scattered, the reader comes to the end and forgets no line."""
    lines = PushBackLines(io.StringIO("x,y\n" + text, newline=""))
    CsvReader(lines, ",").some(1)

    rows = all_rows(CsvReader(lines, ",", RowShape(("x", "y"), (0, 1), (0, 1))))

    assert lines.line == len(io.StringIO("x,y\n" + text, newline="").readlines())
    assert [row.line for row in rows] == sorted({row.line for row in rows})


def test_a_row_with_too_few_or_too_many_cells_is_refused_and_never_shifted() -> None:
    """A ragged row is refused as it is; the rows around it stand."""
    assert rows_of("a,b\n1,2\n3\n4,5,6\n7,8\n") == [
        (2, ["1", "2"]),
        (3, "too_few_cells"),
        (4, "too_many_cells"),
        (5, ["7", "8"]),
    ]


def test_an_unclosed_quote_harms_only_its_own_line() -> None:
    """The lines that the open quote swallowed are read again, each as its own row."""
    assert rows_of('a,b\n1,"oops\n2,x\n3,"y"\n4,z\n') == [
        (2, "unclosed_quote"),
        (3, ["2", "x"]),
        (4, ["3", "y"]),
        (5, ["4", "z"]),
    ]


def test_an_unclosed_quote_that_swallows_the_whole_rest_harms_only_its_own_line() -> None:
    """Thousands of lines without any quote follow; all of them are read."""
    rest = [f"{n},x" for n in range(5_000)]

    rows = rows_of("\n".join(["a,b", '1,"oops', *rest]))

    assert rows[0] == (2, "unclosed_quote")
    assert [cells for _, cells in rows[1:]] == [[str(n), "x"] for n in range(5_000)]


def test_two_unclosed_quotes_do_not_make_one_row_of_two() -> None:
    """A line break in a column that holds one line is no line break, even where the cells happen to be enough."""
    assert rows_of('a,b,c\n1,2,"x\n3,4,"\n5,6,7\n', one_line=(2,)) == [
        (2, "unclosed_quote"),
        (3, "unclosed_quote"),
        (4, ["5", "6", "7"]),
    ]


def test_an_unclosed_quote_in_the_last_line_is_told_as_such() -> None:
    """The end of the file closes no quote."""
    assert rows_of('a,b\n1,2\n3,"x') == [(2, ["1", "2"]), (3, "unclosed_quote")]


def test_text_behind_a_closing_quote_is_refused_and_not_guessed() -> None:
    """A quote mark inside a quoted cell must be doubled."""
    assert rows_of('a,b\n1,"say "no" now"\n2,"say ""no"""\n') == [(2, "broken_quote"), (3, ["2", 'say "no"'])]


def test_a_cell_of_a_megabyte_is_refused_and_the_next_row_stands() -> None:
    """One endless cell, even with line breaks in it, is one refused row or its lines, and no more."""
    long = "x" * 1024 * 1024

    assert rows_of(f'a,b\n1,{long}\n2,"{long}"\n3,ok\n') == [
        (2, "cell_too_long"),
        (3, "cell_too_long"),
        (4, ["3", "ok"]),
    ]
    assert read(f"a,b\n1,{'x' * LONGEST_CELL}\n")[0].error is None


def test_a_line_without_end_is_passed_over_and_not_kept() -> None:
    """Beyond eight million characters a line is refused without its cells, and the next one stands."""
    rows = read("a,b\n1," + "x" * (LONGEST_LINE + 5) + "\n2,ok\n")

    assert [(row.line, row.cells, row.error.code if row.error else None) for row in rows] == [
        (2, [], "line_too_long"),
        (3, ["2", "ok"], None),
    ]


def test_a_line_without_end_behind_an_open_quote_is_still_only_itself() -> None:
    """The quote's line and the endless line are refused one by one."""
    assert rows_of('a,b\n1,"x\n' + "y" * (LONGEST_LINE + 5) + "\n2,ok\n") == [
        (2, "unclosed_quote"),
        (3, "line_too_long"),
        (4, ["2", "ok"]),
    ]


@pytest.mark.parametrize("blank", ["", "   ", ",", " , ", '""', "\r"])
def test_a_blank_line_is_no_row(blank: str) -> None:
    """Nothing in any cell is nothing to refuse, and lines keep their numbers."""
    assert rows_of(f"a,b\n{blank}\n1,2\n") == [(3, ["1", "2"])]


def test_many_blank_lines_before_the_header_do_not_hide_it() -> None:
    """A header may stand anywhere, as long as nothing stands before it."""
    assert rows_of("\n" * 3_000 + "a,b\n1,2\n") == [(3_002, ["1", "2"])]


def test_a_nul_is_refused_in_its_column() -> None:
    """A NUL tells of a damaged export."""
    (row,) = read("a,b\n1,x\0y\n")

    assert row.error is not None
    assert (row.error.code, row.error.column) == ("stray_nul", "b")


def test_a_value_under_a_column_without_a_name_is_a_cell_too_many() -> None:
    """A spreadsheet that squares a file off gives surplus cells an empty header, but no right to be ignored."""
    assert rows_of("a,b,\n1,2,\n3,4,5\n") == [(2, ["1", "2", ""]), (3, "too_many_cells")]


def test_a_line_with_broken_quotes_keeps_its_quote_marks_only_where_they_are_broken() -> None:
    """So that a person sees what to fix, and the rest is as it was meant."""
    (row,) = read('a,b,c\n"1","say "no"","3"\n')

    assert row.cells == ["1", '"say "no""', "3"]


def _lost_quotes(number: int) -> str:
    """A row as `'","'.join(cells)` writes it: the quotes at both ends of the line are missing."""
    return f'{number}","SMS","OPTOUT","moved away to another town\n'


@pytest.mark.parametrize("every", [1, pytest.param(2, marks=pytest.mark.proof), 7])
def test_lost_quotes_at_line_ends_cost_time_in_proportion_to_the_file(every: int) -> None:
    """A file of 100,000 such lines took the importer a quarter of an hour of CPU, in which it said nothing."""

    def seconds(lines: int) -> float:
        rows = (f"{n},SMS,OPTOUT,\n" if n % every else _lost_quotes(n) for n in range(lines))
        text = "user_id,channel,action,reason\n" + "".join(rows)
        started = time.process_time()
        found = read(text, one_line=(0, 1, 2))
        took = time.process_time() - started
        assert len(found) == lines
        assert sum(row.error is not None for row in found) == len(range(0, lines, every))
        return took

    assert seconds(2_000) < 1
    assert seconds(10_000) < 2


def test_a_long_row_among_lost_quotes_is_kept() -> None:
    """An opt-out whose reason has many lines is not refused because some rows before it have lost their quotes."""
    lost = "".join(map(_lost_quotes, range(30)))
    reason = "\n".join(["I have moved"] * 500)

    found = rows_of(f'user_id,channel,action,reason\n{lost}77,SMS,OPTOUT,"{reason}"\n', one_line=(0, 1, 2))

    assert [code for _, code in found[:30]] == ["unclosed_quote"] * 30
    assert found[30] == (32, ["77", "SMS", "OPTOUT", reason])


def test_a_short_row_among_very_many_lost_quotes_is_kept() -> None:
    """The same in a file of nothing but lost quotes, as long as the row itself has few lines."""
    lost = "".join(map(_lost_quotes, range(3_000)))
    reason = "\n".join(["I have moved"] * 10)

    found = rows_of(f'user_id,channel,action,reason\n{lost}77,SMS,OPTOUT,"{reason}"\n', one_line=(0, 1, 2))

    assert found[-1] == (3_002, ["77", "SMS", "OPTOUT", reason])
