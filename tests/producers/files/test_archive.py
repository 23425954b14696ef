"""A zip archive's members are files of their own, unpacked within bounds and under no name of theirs."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import zipfile
from pathlib import Path

import pytest

from consent.errors import UnreadableFile
from producers.files import archive
from producers.files.archive import unpacked
from producers.files.sources import SourceFile, source_files
from producers.ingest_file import ImportResult
from producers.options import IngestOptions
from tests.support.memory_ledger import MemoryLedger, file_of, take_in

CSV = "user_id,channel,action\n1,SMS,OPTOUT\n2,POST,OPTOUT\n"
LINES = json.dumps({"user_id": 3, "channel": "EMAIL", "action": "OPTIN"}) + "\n{\n"


def zipped(members: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Pack members into an archive."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", method) as packed:
        for name, content in members.items():
            packed.writestr(zipfile.ZipInfo(name), content, method)  # of the same moment each time
    return found.getvalue()


def import_all(file: SourceFile, ledger: MemoryLedger, options: IngestOptions | None = None) -> list[ImportResult]:
    """Import what a source holds."""
    options = options or IngestOptions()
    with unpacked(file, options) as files:
        return [take_in(one, ledger, options) for one in files]


def refusal(path: Path, content: bytes) -> str:
    """Import an archive, which must be refused before anything is recorded; return the message."""
    ledger = MemoryLedger()
    with pytest.raises(UnreadableFile) as caught:
        import_all(file_of(path, content), ledger)
    assert not ledger.imports
    return str(caught.value)


def test_two_members_of_one_name_are_two_imports(tmp_path: Path) -> None:
    """An archive may repeat a name, and none of its rows may be taken for the other member's."""
    content = zipped({"x.csv": CSV, "y.csv": CSV.replace("387006417", "387006418")}).replace(b"y.csv", b"x.csv")
    with unpacked(file_of(tmp_path / "x.zip", content), IngestOptions()) as members:
        digests = [member.origin.sha256 for member in members if member.origin]

    assert len({*digests}) == 2


def test_each_member_is_an_import_of_its_own(tmp_path: Path) -> None:
    """It has the archive's time and a rejects file by its number; folders and a Mac's extras are no members."""
    content = zipped({"a/": b"", "a/x.csv": CSV, "__MACOSX/a/._x.csv": b"\0", "../../etc/y": LINES, ".DS_Store": b""})
    ledger, file = MemoryLedger(), file_of(tmp_path / "x.bin", content)

    import_all(file, ledger)

    names = [one.source.name for one in ledger.imports.values()]
    assert names == [f"{file.name}/a/x.csv", f"{file.name}/../../etc/y"]
    assert ledger.users == ["1", "3"]
    assert ledger.codes == [(3, "channel", "unknown_value"), (2, None, "bad_json")]
    assert {round(change.effective_at / 1_000_000) for change in ledger.changes} == {round(file.path.stat().st_mtime)}
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "x.bin",
        "x.bin.member-1.rejects.csv",
        "x.bin.member-2.rejects.csv",
    ]


def test_the_same_archive_is_the_same_imports(tmp_path: Path) -> None:
    """Whatever it is called; packed anew it is another import, whose rows are duplicates."""
    ledger = MemoryLedger()
    members: dict[str, str | bytes] = {"x.csv": CSV, "y.csv": CSV}
    for name, method in (("a", 0), ("b", 0), ("c", zipfile.ZIP_DEFLATED)):
        file = file_of(tmp_path / name, zipped(members, method))
        os.utime(file.path, (1_700_000_000,) * 2)
        results = import_all(file, ledger)
        assert [result.already_known for result in results] == [name == "b"] * 2

    assert len(ledger.imports) == 4
    assert ledger.users == ["1"]


def test_an_archive_from_a_pipe_is_read_too(tmp_path: Path) -> None:
    """Standard input is kept aside, and its members have no time of their own."""
    ledger = MemoryLedger()
    stated = "user_id,channel,action,effective_at\n1,SMS,OPTOUT,2026-01-02\n"

    with source_files(["-"], io.BytesIO(zipped({"x": stated}))) as [file]:
        import_all(file, ledger, IngestOptions(rejects_path=tmp_path / "r"))

    assert ledger.users == ["1"]


def test_nothing_is_left_behind_and_nothing_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private copy is seen by no other process, so a killed import leaves none."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    file = file_of(tmp_path / "x.zip", zipped({"x.csv": CSV}))

    with unpacked(file, IngestOptions()) as [member]:
        assert member.path.read_text() == CSV
        assert member.path.stat().st_mode & 0o777 == 0o600
        assert list((tmp_path / "t").iterdir()) == []

    assert file.path.exists()


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the number of members, by all of their bytes, and by how much comes of one byte."""
    zeros = zipped({"x.csv": bytes(archive.ALWAYS_BYTES + 1)})
    monkeypatch.setattr(archive, "private_copy", None)

    assert "times as large unpacked" in refusal(tmp_path / "a", zeros)
    assert "1,000 members" in refusal(tmp_path / "b", zipped({str(n): "" for n in range(archive.MOST_MEMBERS + 1)}))
    monkeypatch.setattr(archive, "MOST_BYTES", 2 * len(CSV) - 1)
    assert "GB unpacked: split it" in refusal(tmp_path / "c", zipped({"a": CSV, "b": CSV}))


def test_a_bomb_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    """No more of a member is unpacked than it says, and then its checksum tells."""
    content = bytearray(zipped({"x.csv": CSV * 1_000}))
    place = content.index(b"PK\x01\x02")
    struct.pack_into("<L", content, place + 24, 100)

    assert "cannot be read to the end" in refusal(tmp_path / "x", bytes(content))


def test_a_list_of_members_without_end_is_refused_unread(tmp_path: Path) -> None:
    """The end of an archive says how long its list is."""
    content = bytearray(zipped({"x.csv": CSV}))
    struct.pack_into("<L", content, len(content) - 10, 0xFFFFFFF0)

    assert "1,000 members" in refusal(tmp_path / "x", bytes(content))


def test_an_archive_with_a_password_is_refused_with_a_remedy(tmp_path: Path) -> None:
    """A flag of the member says so."""
    content = bytearray(zipped({"x.csv": CSV}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1

    assert "has a password" in refusal(tmp_path / "x", bytes(content))


@pytest.mark.parametrize("cut", [-1, -30, 60, 8])
def test_a_half_written_archive_is_refused(tmp_path: Path, cut: int) -> None:
    """Its list of members stands at its end."""
    assert "cut short" in refusal(tmp_path / "x", zipped({"x.csv": CSV, "y.csv": CSV})[:cut])


def test_a_damaged_member_is_refused_before_any_other_is_recorded(tmp_path: Path) -> None:
    """Its checksum tells."""
    content = zipped({"x.csv": CSV, "y.csv": "user_id\n1234567\n"}, zipfile.ZIP_STORED)

    assert "cannot be read to the end" in refusal(tmp_path / "x", content.replace(b"1234567", b"1234568"))


@pytest.mark.parametrize("inner", [zipped({"x.csv": CSV}), gzip.compress(CSV.encode(), mtime=0)])
def test_an_archive_in_an_archive_is_refused(tmp_path: Path, inner: bytes) -> None:
    """Bounds would have to hold for all of them together."""
    assert "an archive in an archive" in refusal(tmp_path / "x", zipped({"y": inner}))


def test_unusual_archives_are_refused_with_a_remedy(tmp_path: Path) -> None:
    """One without files, and one packed in a way whose memory has no bound."""
    assert "without files" in refusal(tmp_path / "x", zipped({}))
    assert "deflate" in refusal(tmp_path / "y", zipped({"x": CSV}, zipfile.ZIP_LZMA))


class _Killed(BaseException):
    """The process dies here."""


def test_an_import_that_died_goes_on_in_its_member(tmp_path: Path) -> None:
    """Nothing is lost or doubled, whichever member was being read."""
    rows = [f"{number},{'SMS' if number % 9 else 'POST'},OPTOUT" for number in range(1, 51)]
    members: dict[str, str | bytes] = {
        "a": "\n".join(["user_id,channel,action", *rows[:25]]),
        "b": "\n".join(["user_id,channel,action", *rows[25:]]),
    }
    file, ledger, options = file_of(tmp_path / "x", zipped(members)), MemoryLedger(), IngestOptions(chunk_rows=10)

    def die(number: int) -> None:
        if number in {2, 6}:
            raise _Killed

    ledger.after_accept = die
    for _ in range(2):
        with pytest.raises(_Killed):
            import_all(file, ledger, options)
    import_all(file, ledger, options)

    assert ledger.users == [str(number) for number in range(1, 51) if number % 9]
    assert len(ledger.rejects) == 5
