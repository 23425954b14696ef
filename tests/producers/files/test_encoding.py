"""Which encoding a file is in, and which character separates its cells: guessed from its bytes and its header."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.errors import ConfigurationError
from producers.files.encoding import Encoding, scan
from producers.files.rows import DELIMITERS, guess_delimiter, parse_delimiter, sep_line_delimiter
from producers.options import IngestOptions
from producers.parsing.columns import vocabulary
from tests.support.memory_ledger import MemoryLedger, file_of, take_in

KNOWN = vocabulary([])


def detected(content: bytes, wanted: str | None = None, *, at_once: int = 1024) -> Encoding:
    """The encoding of these bytes, which come in pieces."""
    return scan(wanted, (content[place : place + at_once] for place in range(0, len(content), at_once))).encoding


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", "name\nJosé\n".encode(), "name\n山田\n".encode()])
def test_utf_8_is_the_rule(content: bytes) -> None:
    """ASCII is UTF-8 too, and there is nothing to say about either."""
    assert detected(content) == Encoding("utf-8", None)


@pytest.mark.parametrize(
    ("mark", "codec"),
    [
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
    ],
)
def test_a_byte_order_mark_decides(mark: bytes, codec: str) -> None:
    """UTF-32's mark begins like UTF-16's, and another --encoding is ignored with a note."""
    assert detected(mark + b"a\0\0\0") == Encoding(codec, None)

    overruled = detected(mark + b"a\0\0\0", "cp1252")

    assert overruled.codec == codec
    assert overruled.note == f"its byte order mark says {codec}, so --encoding cp1252 is ignored"


def test_the_encoding_that_is_given_agrees_with_its_mark() -> None:
    """--encoding utf-8 beside UTF-8's mark is no contradiction."""
    assert detected(codecs.BOM_UTF8 + b"a\n", "utf-8") == Encoding("utf-8-sig", None)


def test_bytes_that_are_mostly_no_utf_8_are_latin_1() -> None:
    """A file of Latin-1 has no UTF-8 sequences but by chance."""
    found = detected("name\nJosé\nMüller\n".encode("latin-1"))

    assert (found.codec, found.errors) == ("latin-1", "replace")
    assert found.note == "it is not UTF-8 and is read as Latin-1; if names look wrong, give --encoding"


def test_a_file_that_is_mostly_utf_8_keeps_its_damaged_bytes_apart() -> None:
    """One damaged byte among sound names costs its row, not the others."""
    found = detected("José\nMüller\nJo".encode() + b"\xff\n")

    assert (found.codec, found.errors) == ("utf-8", "surrogateescape")
    assert found.note == "1 bytes are not valid UTF-8: the rows that hold them are rejected"


def test_as_many_damaged_as_sound_characters_are_latin_1() -> None:
    """UTF-8 must be the likelier one."""
    assert detected("é".encode() + b"\xe9").codec == "latin-1"
    assert "the rows among them that are UTF-8 are rejected" in (detected("é".encode() + b"\xe9").note or "")
    assert detected("éé".encode() + b"\xe9").codec == "utf-8"


def test_the_encoding_that_is_given_goes_before_a_guess() -> None:
    """cp1252 is read as cp1252, and UTF-8 as UTF-8 even if most of it is damaged."""
    assert detected(b"caf\xe9", "cp1252") == Encoding("cp1252", None)
    assert detected(b"caf\xe9", "UTF8").codec == "utf-8"


@pytest.mark.parametrize("name", ["nonsense", "base64", "rot13", "utf-8\0"])
def test_what_is_no_text_encoding_is_named_with_others_that_are(name: str) -> None:
    """The message names the option and encodings to give."""
    with pytest.raises(ConfigurationError, match=r"--encoding .* is no text encoding: give utf-8, latin-1"):
        scan(name)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.integers(1, 5))
def test_where_the_bytes_are_cut_makes_no_difference(text: str, at_once: int) -> None:
    """A character whose bytes come in two pieces is not damaged."""
    content = text.encode()

    assert detected(content, "utf-8", at_once=at_once) == detected(content, "utf-8")
    assert detected(content, "utf-8", at_once=at_once).note is None


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_the_delimiter_that_finds_most_columns_is_guessed(delimiter: str) -> None:
    """Whatever else stands in the header."""
    assert guess_delimiter(delimiter.join(["user_id", "action", "effective_at"]), KNOWN) == delimiter


def test_a_delimiter_inside_a_quoted_name_is_none() -> None:
    """Columns that are known count for more than cells."""
    assert guess_delimiter('"a,b,c,d,e";action;user_id', KNOWN) == ";"
    assert guess_delimiter("one|two|three,four", KNOWN) == "|"


def test_of_delimiters_that_are_as_good_the_comma_is_taken() -> None:
    """A header of one column has none at all."""
    assert guess_delimiter("action", KNOWN) == ","
    assert guess_delimiter("", KNOWN) == ","


@pytest.mark.parametrize(
    ("line", "expected"),
    [("sep=;\r\n", ";"), ('"sep=|"\n', "|"), ("SEP=\t\n", "\t"), ("\ufeffsep=,", ","), ("sep=", None), ("sep;", None)],
)
def test_a_spreadsheets_first_line_names_the_delimiter(line: str, expected: str | None) -> None:
    """With or without quotes, in any case, and behind a byte order mark."""
    assert sep_line_delimiter(line) == expected


@pytest.mark.parametrize(("argument", "expected"), [("tab", "\t"), ("\\t", "\t"), ("Semicolon", ";"), ("^", "^")])
def test_a_delimiter_may_be_given_by_its_name(argument: str, expected: str) -> None:
    """A shell makes it hard to write a tab."""
    assert parse_delimiter(argument) == expected


@pytest.mark.parametrize("argument", ["", ";;", '"', "\n", "\0", "colon"])
def test_what_cannot_be_a_delimiter_is_refused(argument: str) -> None:
    """The message names the option and the names that it takes."""
    with pytest.raises(ConfigurationError, match=r"--delimiter is one character or one of tab, .*semicolon"):
        parse_delimiter(argument)


def test_a_person_keeps_the_name_in_a_file_of_two_encodings(tmp_path: Path) -> None:
    """Two exports were joined, and the opt-out of a person goes to an address of broken characters, "applied"."""
    parts = [b"user_id,channel,action,reason\n"]
    parts += [f"jörg{n},SMS,OPTOUT,x\n".encode("latin-1") for n in range(3)]
    parts += ["müller,SMS,OPTOUT,x\n".encode(), b"ann,SMS,OPTOUT,x\n"]
    for form in ("latin-1", "cp1252"):
        ledger = MemoryLedger()
        reason = "Jörg\u2019s\n" if form == "cp1252" else "Jörg\n"
        content = b"".join([*parts, f"bob,SMS,OPTOUT,{reason}".encode(form)])
        take_in(file_of(tmp_path / form, content), ledger, IngestOptions())

        assert ledger.users == ["jörg0", "jörg1", "jörg2", "ann", "bob"]
        assert ledger.codes == [(5, "user_id", "bad_encoding")]
        assert ledger.changes[-1].details["reason"] == reason.strip()


@pytest.mark.parametrize(
    "reason", ["„Kein Spaß“", "PLUS INTÉRESSÉ\xa0!", "PLUS INTÉRESSÉ… À JAMAIS", "L\u2019ÉTÉ® de Nîmes"]
)
def test_a_mark_behind_a_letter_makes_no_file_of_two_encodings(tmp_path: Path, reason: str) -> None:
    """ß and a quote, or É and a no-break space, are one character in UTF-8: an ordinary row was rejected for them."""
    rows = [b"user_id,channel,action,reason\n", f"1,SMS,OPTOUT,{reason}\n2,SMS,OPTOUT,été\n".encode("cp1252")]
    ledger = MemoryLedger()
    take_in(file_of(tmp_path / "x.csv", b"".join(rows)), ledger, IngestOptions())

    assert (ledger.users, ledger.codes) == (["1", "2"], [])
    assert ledger.changes[0].details["reason"] == reason
