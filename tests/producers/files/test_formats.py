"""A file may come in any of the usual dialects and encodings; a damaged one says so before anything is recorded."""

from __future__ import annotations

import codecs
import gzip
import random
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from backports import zstd

from consent.errors import ConfigurationError, UnreadableFile, UnusableInput
from producers.options import IngestOptions
from tests.support.memory_ledger import MemoryLedger, csv_of, file_of, take_in

TABLE = "user_id,channel,action,reason\n7,SMS,OPTOUT,Größe\n8,EMAIL,OPTIN,naïve\n"


def reasons(path: Path, content: bytes, options: IngestOptions | None = None) -> tuple[list[object], list[str]]:
    """Import these bytes; return the reasons that were recorded, and the notes."""
    ledger = MemoryLedger()
    result = take_in(file_of(path, content), ledger, options)
    return [change.details.get("reason") for change in ledger.changes], result.notes


@pytest.mark.parametrize(
    "content",
    [
        TABLE.encode(),
        codecs.BOM_UTF8 + TABLE.encode(),
        TABLE.encode("utf-16"),
        codecs.BOM_UTF16_BE + TABLE.encode("utf-16-be"),
        TABLE.replace("\n", "\r\n").encode(),
        TABLE.replace("\n", "\r").encode(),
        TABLE.replace(",", ";").encode(),
        TABLE.replace(",", "\t").encode(),
        TABLE.replace(",", "|").encode(),
        ("sep=;\n" + TABLE.replace(",", ";")).encode(),
        TABLE.rstrip("\n").encode(),
    ],
)
@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_the_usual_dialects_and_encodings_need_no_option(tmp_path: Path, content: bytes, name: str) -> None:
    """A byte order mark, the header and the bytes themselves tell how the file is written."""
    assert reasons(tmp_path / name, content) == (["Größe", "naïve"], [])


def test_what_is_not_utf8_is_read_as_latin1_and_the_report_says_so(tmp_path: Path) -> None:
    """An old export keeps its umlauts, and a person is told about the guess."""
    found, notes = reasons(tmp_path / "x.csv", TABLE.encode("latin-1"))

    assert found == ["Größe", "naïve"]
    assert any("Latin-1" in note for note in notes)


def test_a_named_encoding_is_used(tmp_path: Path) -> None:
    """Only a person can know a code page."""
    content = TABLE.replace("naïve", "naïve €").encode("cp1252")

    assert reasons(tmp_path / "x.csv", content, IngestOptions(encoding="cp1252"))[0] == ["Größe", "naïve €"]
    content = TABLE.encode("utf-16-le")
    assert reasons(tmp_path / "y.csv", content, IngestOptions(encoding="utf-16-le"))[0] == ["Größe", "naïve"]


def test_a_byte_order_mark_wins_over_a_named_encoding(tmp_path: Path) -> None:
    """The mark cannot be wrong; the note says that the option was not used."""
    found, notes = reasons(tmp_path / "x.csv", TABLE.encode("utf-16"), IngestOptions(encoding="latin-1"))

    assert found == ["Größe", "naïve"]
    assert any("--encoding" in note for note in notes)


def test_a_damaged_row_in_a_utf8_file_harms_only_itself(tmp_path: Path) -> None:
    """Where most of the file is UTF-8, the odd byte is damage and no other encoding."""
    ledger = MemoryLedger()
    content = TABLE.encode() + b"9,SMS,OPTOUT,Gr\xfc\xdfe\n"

    result = take_in(file_of(tmp_path / "x.csv", content + "10,SMS,OPTOUT,größer\n".encode()), ledger)

    assert ledger.users == ["7", "8", "10"]
    assert ledger.codes == [(4, "reason", "bad_encoding")]
    assert any("not valid UTF-8" in note for note in result.notes)


def test_a_character_that_was_lost_earlier_is_damage_where_it_matters(tmp_path: Path) -> None:
    """The replacement character is refused in a column that is used, and ignored in one that is not."""
    ledger = MemoryLedger()

    take_in(
        csv_of(tmp_path / "x.csv", ["7,SMS,OPTOUT,M\ufffdller", "8\ufffd,SMS,OPTOUT,x"], "user_id,channel,action,full"),
        ledger,
    )

    assert ledger.users == ["7"]
    assert ledger.codes == [(3, "user_id", "bad_encoding")]


def test_a_named_delimiter_is_used(tmp_path: Path) -> None:
    """Any single character, or its name, can stand between cells."""
    content = TABLE.replace(",", "~").encode()

    assert reasons(tmp_path / "x.csv", content, IngestOptions(delimiter="~"))[0] == ["Größe", "naïve"]
    with pytest.raises(ConfigurationError, match="--delimiter"):
        reasons(tmp_path / "y.csv", content, IngestOptions(delimiter="~~"))


def test_no_text_encoding_is_a_wrong_option(tmp_path: Path) -> None:
    """A name that is no encoding of text is refused at once."""
    for name in ("klingon", "hex"):
        with pytest.raises(ConfigurationError, match="no text encoding"):
            reasons(tmp_path / "x.csv", b"a\n", IngestOptions(encoding=name))


@pytest.mark.parametrize("content", [b"", b"\n \r\n", codecs.BOM_UTF8, codecs.BOM_UTF16_LE])
def test_an_empty_file_is_unreadable(tmp_path: Path, content: bytes) -> None:
    """A file without even a header is a failed export, not an import of nothing."""
    with pytest.raises(UnreadableFile, match="empty"):
        reasons(tmp_path / "x.csv", content)


def test_a_header_alone_is_an_import_of_no_rows(tmp_path: Path) -> None:
    """No one changed anything yesterday: that is fine."""
    assert reasons(tmp_path / "x.csv", b"user_id,channel,action\n") == ([], [])


@pytest.mark.parametrize("cut", [-9, -1, 40])
def test_a_damaged_gzip_file_is_refused_before_anything_is_recorded(tmp_path: Path, cut: int) -> None:
    """A transfer that broke off harms no one."""
    ledger = MemoryLedger()
    file = file_of(tmp_path / "x.csv", gzip.compress(TABLE.encode() * 50)[:cut])

    with pytest.raises(UnreadableFile, match="gzip"):
        take_in(file, ledger)

    assert not ledger.imports


@pytest.mark.parametrize("cut", [-4, 40, 9])
def test_a_damaged_zstd_file_is_refused_before_anything_is_recorded(tmp_path: Path, cut: int) -> None:
    """As with gzip."""
    ledger = MemoryLedger()
    file = file_of(tmp_path / "x.csv", zstd.compress(TABLE.encode() * 50)[:cut])

    with pytest.raises(UnreadableFile, match="zstd data cannot be read to the end"):
        take_in(file, ledger)

    assert not ledger.imports


def test_zstd_is_read_as_it_is(tmp_path: Path) -> None:
    """Also in several frames, as parallel compressors write it."""
    half = len(TABLE) // 2
    content = zstd.compress(TABLE[:half].encode()) + zstd.compress(TABLE[half:].encode())

    assert reasons(tmp_path / "x", content) == (["Größe", "naïve"], [])


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (gzip.compress(gzip.compress(TABLE.encode(), mtime=0), mtime=0), "compressed twice"),
        (zstd.compress(gzip.compress(TABLE.encode(), mtime=0)), "compressed twice"),
        (gzip.compress(b"PK\x03\x04rest", mtime=0), "unpack the outer one"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "save it as .xlsx without a password"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_remedy(tmp_path: Path, content: bytes, remedy: str) -> None:
    """Archives in archives, and workbooks with a password."""
    with pytest.raises(UnreadableFile, match=remedy):
        reasons(tmp_path / "x.csv", content)


def test_utf16_without_a_mark_is_refused_with_a_remedy(tmp_path: Path) -> None:
    """NULs in the header tell what the file may be."""
    with pytest.raises(UnusableInput, match="--encoding utf-16-le"):
        reasons(tmp_path / "x.csv", TABLE.encode("utf-16-le"))
    with pytest.raises(UnusableInput, match="--encoding utf-16-be"):
        reasons(tmp_path / "y.csv", TABLE.encode("utf-16-be"))
    for wanted, remedy in (("utf-16", "--encoding utf-16-le or utf-16-be"), ("idna", "as idna: give another --enc")):
        with pytest.raises(UnusableInput, match=remedy):
            reasons(tmp_path / "z.csv", TABLE.encode("utf-16-be") * 9, IngestOptions(encoding=wanted))


OTHERS = {
    "a JPEG picture": b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(256)) * 8,
    "a PDF document": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "a program": b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 8,
    "a RAR archive": b"Rar!\x1a\x07\x01\x00" + bytes(range(256)),
    "a tar archive": b"export.csv" + bytes(247) + b"ustar\x0000" + bytes(248) + TABLE.encode(),
    "a Parquet file": b"PAR1\x15\x04\x15" + bytes(range(256)),
    "encrypted with PGP": b"-----BEGIN PGP MESSAGE-----\n\nhQEMA\n",
    "a web page": b"\r\n <!DOCTYPE html>\n<html><title>Sign in</title>",
    "no text but other data": random.Random(20).randbytes(9_000),
}


@pytest.mark.parametrize("what", sorted(OTHERS))
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_no_table_is_named_and_refused(tmp_path: Path, what: str, *, packed: bool) -> None:
    """A wrong attachment is no encoding to be guessed: the message says what it is, and what to give instead."""
    content = gzip.compress(OTHERS[what], mtime=0) if packed else OTHERS[what]
    with pytest.raises(UnreadableFile, match=f"{what}.*: ") as refused:
        reasons(tmp_path / "x.csv", content)
    assert "UTF-16" not in str(refused.value)


@pytest.mark.parametrize("separator", ["\x01", "\x1f", ","])
def test_text_with_some_odd_characters_is_text(tmp_path: Path, separator: str) -> None:
    """Fields of an export may be separated by ^A; a NUL in a cell harms its row alone; zeros may end a file."""
    content = TABLE.replace(",", separator).encode() + f"9{separator}SMS{separator}OPTOUT{separator}a\0b\n".encode()
    found, _ = reasons(tmp_path / "x.csv", content + bytes(3_000), IngestOptions(delimiter=separator))
    assert found == ["Größe", "naïve"]


@pytest.mark.parametrize(
    ("cell", "noted"),
    [
        ("2026-01-02T08:30:00Z", False),
        ("2026-01-02 08:30:00+01:00", False),
        ("2026-01-02 08:30:00+00", False),
        ("2026-01-02 08:30", True),
        ("2026-01-02", True),
        ("", False),
    ],
)
def test_the_zone_that_was_assumed_is_told(tmp_path: Path, cell: str, *, noted: bool) -> None:
    """An hour's difference decides which of two changes is the newest: a person sees in which zone times were read."""
    content = f"user_id,channel,action,effective_at\n7,SMS,OPTOUT,2026-01-02T08:30:00Z\n8,SMS,OPTOUT,{cell}\n"
    _, notes = reasons(tmp_path / "x.csv", content.encode(), IngestOptions(timezone=ZoneInfo("Europe/Berlin")))
    assert any("times are read in Europe/Berlin" in note for note in notes) == noted


@pytest.mark.parametrize("before", ["\n" * 1500, "\n" * 1500 + "sep=,\n", "sep=,\n" + "\n" * 1500, ",,\n" * 1500])
def test_a_header_may_stand_far_below_the_first_line(tmp_path: Path, before: str) -> None:
    """A report of a thousand blank lines ended the command with an error of ours, and no other file was read."""
    assert reasons(tmp_path / "x.csv", f"{before}{TABLE}".encode())[0] == ["Größe", "naïve"]


@pytest.mark.parametrize("line", ["\n", "x" * 9_000_000 + "\n"])
def test_any_number_of_lines_may_be_skipped(tmp_path: Path, line: str) -> None:
    """--skip-top leaves out lines, whatever they are."""
    options = IngestOptions(skip_top=1200)
    content = f"{line}{'y' * 20}\n".encode() + b"z\n" * 1198 + TABLE.encode()
    assert reasons(tmp_path / "x.csv", content, options)[0] == ["Größe", "naïve"]
