"""Archives and workbooks: what is in them becomes private files without names, which are read like any other.

Zip bombs (https://www.bamsoftware.com/hacks/zipbomb/) are refused by what the archive says of itself, and zipfile holds
it to that: it never unpacks more of a member than its stated size. No name of a member is ever used to write a file.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from consent.errors import UnreadableFile, UnusableHeader, unreadable
from consent.feed import Feed
from consent.files import path_text
from producers.files.inspect import GZIP, ZIP, ZSTD, look, reading, settled, unstable
from producers.files.prepare import feed_named, has_name
from producers.files.rejects import REJECTS_ENDING
from producers.files.sheet.rows import convert
from producers.files.sources import Origin, SourceFile, path_of, private_copy
from producers.options import IngestOptions

MOST_MEMBERS = 1_000
MOST_BYTES = 8 * 1024**3
"""Members of an archive, and bytes of all of them together."""

MOST_RATIO = 250
ALWAYS_BYTES = 64 * 1024**2
"""How many bytes may come of one packed byte, in members of more than so many bytes. Exports have 5 to 60."""

_MOST_DIRECTORY = 1024**2
_END = struct.Struct("<4s4H2LH")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_NO_DATA = ("__MACOSX/", ".DS_Store")


@contextmanager
def unpacked(
    file: SourceFile, options: IngestOptions, feeds: Mapping[str, Feed] = MappingProxyType({})
) -> Iterator[list[SourceFile]]:
    """Give the files that a source holds: a zip archive's members, a workbook's sheet, else the source itself.

    What is unpacked ends with the context. `feeds` say which sheet is meant where the options do not. Raises
    UnreadableFile for an archive that is damaged, too large, encrypted, or holds others, UnstableFile if it keeps
    changing for `options.patience` seconds, and ConfigurationError for the options.
    """
    with ExitStack() as stack:
        with reading(file):
            raw = stack.enter_context(file.path.open("rb"))
            raw.seek(0)
            is_zip = raw.peek(len(ZIP[0])).startswith(ZIP)
        if not is_zip:
            raw.close()
            yield [file]
            return
        stamp = settled(file, time.monotonic() + options.patience)
        with reading(file):
            raw.seek(0)
            digest = hashlib.file_digest(raw, "sha256").hexdigest()
        origin = Origin(digest, None if file.spooled else stamp.modified_at, file.rejects_path, file.given)
        found = _unpack(_Archive(file, raw, origin, options, feeds), stack)
        if look(file) != stamp:
            raise unstable(file)
        yield found


@dataclass(frozen=True, slots=True)
class _Archive:
    """A zip archive, open."""

    file: SourceFile
    raw: BinaryIO
    origin: Origin
    options: IngestOptions
    feeds: Mapping[str, Feed]


def _unpack(archive: _Archive, stack: ExitStack) -> list[SourceFile]:
    name = archive.file.name
    try:
        with _opened(archive.raw, name) as opened:
            names = opened.namelist()
            if _is_workbook(names, name):
                return [_sheet(archive, archive.raw, stack)]
            members = [one for one in opened.infolist() if _is_data(one)]
            return [_copy(opened, members, number, archive, stack) for number in range(1, len(members) + 1)]
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError):
        raise UnreadableFile(
            f"{name} is damaged or cut short: its zip archive cannot be read to the end; fetch it again"
        ) from None
    except OSError as error:
        raise unreadable(f"{name} cannot be unpacked", error) from None


def _opened(raw: BinaryIO, name: str) -> zipfile.ZipFile:
    """Open an archive that is no bomb; raise UnreadableFile for another."""
    _refuse_endless_directory(raw, name)
    opened = zipfile.ZipFile(raw)
    _refuse_bomb([one for one in opened.infolist() if _is_data(one)], name)
    return opened


def _is_workbook(names: list[str], file: str) -> bool:
    """Whether an archive is a workbook; raise UnreadableFile for another document of an office program."""
    if "content.xml" in names and "mimetype" in names:
        raise UnreadableFile(f"{file} is an OpenDocument file: save it as .xlsx or CSV")
    if "[Content_Types].xml" not in names:
        return False
    if not any(name.startswith("xl/") for name in names):
        raise UnreadableFile(f"{file} is a document and no workbook: save its table as .xlsx or CSV")
    return True


def _sheet(archive: _Archive, workbook: BinaryIO, stack: ExitStack) -> SourceFile:
    """Turn a workbook's sheet into a private file of its rows."""
    spool, options, file = stack.enter_context(private_copy()), archive.options, archive.file
    wanted = _sheet_of(file.name, options, archive.feeds)
    sheet = convert(workbook, spool, file.name, wanted, options.sheet_memory)
    digest = archive.origin.sha256 if wanted is None else _digest(archive.origin.sha256, wanted)
    return SourceFile(
        path_of(spool), file.name, spooled=True, origin=replace(archive.origin, sha256=digest, sheet=sheet)
    )


def _sheet_of(file: str, options: IngestOptions, feeds: Mapping[str, Feed]) -> str | None:
    """Return which sheet of a workbook is meant, None for its first; its header is not known before one is read.

    The options say it, else the feed that they name, else the feeds that its name fits. Raises ConfigurationError if
    there is no such feed, UnusableHeader if feeds name different sheets.
    """
    if options.sheet is not None:
        return options.sheet
    if options.feed:
        return feed_named(options.feed, feeds).sheet or None
    fitting = {name: feed.sheet for name, feed in feeds.items() if feed.file and has_name(feed, file)}
    if len({*fitting.values()}) > 1:
        raise UnusableHeader(
            f"{file} fits the feeds {' and '.join(sorted(fitting))}, which read different sheets: choose one with "
            "--feed, or give them other file patterns"
        )
    return next(iter(fitting.values()), "") or None


def _is_data(member: zipfile.ZipInfo) -> bool:
    return not member.is_dir() and not member.filename.startswith(_NO_DATA) and not member.filename.endswith(_NO_DATA)


def _refuse_endless_directory(raw: BinaryIO, name: str) -> None:
    """Raise UnreadableFile for a list of members that would fill our memory, before it is read."""
    size = raw.seek(0, 2)
    raw.seek(max(0, size - _END.size - 0xFFFF))
    tail = raw.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0:
        raise zipfile.BadZipFile
    *_, members, directory, _, _ = _END.unpack_from(tail, place)
    if members > MOST_MEMBERS or directory > _MOST_DIRECTORY:
        raise UnreadableFile(
            f"{name} has more than {MOST_MEMBERS:,} members, or more than 4 GB: unpack it, or split it"
        )


def _refuse_bomb(members: list[zipfile.ZipInfo], name: str) -> None:
    if not members:
        raise UnreadableFile(f"{name} is an archive without files: export it again")
    if len(members) > MOST_MEMBERS:
        raise UnreadableFile(f"{name} has more than {MOST_MEMBERS:,} members: unpack it, or split it")
    if any(one.flag_bits & _ENCRYPTED for one in members):
        raise UnreadableFile(f"{name} has a password: unpack it, or pack it again without one")
    if any(one.compress_type not in _METHODS for one in members):
        raise UnreadableFile(f"{name} is packed in an unusual way: pack it again with deflate, or unpack it")
    if sum(one.file_size for one in members) > MOST_BYTES:
        raise UnreadableFile(f"{name} would be more than {MOST_BYTES // 1024**3} GB unpacked: split it")
    if any(one.file_size > max(ALWAYS_BYTES, MOST_RATIO * one.compress_size) for one in members):
        raise UnreadableFile(
            f"{name} would be more than {MOST_RATIO} times as large unpacked, as no export is: unpack it yourself"
        )


def _copy(
    opened: zipfile.ZipFile, members: list[zipfile.ZipInfo], number: int, archive: _Archive, stack: ExitStack
) -> SourceFile:
    """Unpack the member of this number, counted from 1, into a private file."""
    member, origin = members[number - 1], archive.origin
    name = f"{archive.file.name}/{path_text(member.filename)}"
    spool = stack.enter_context(private_copy())
    with opened.open(member) as packed:
        shutil.copyfileobj(packed, spool, 1024 * 1024)
    spool.flush()
    rejects = origin.rejects_path if len(members) == 1 else _of_member(origin.rejects_path, number)
    earlier = sum(one.filename == member.filename for one in members[: number - 1])  # an archive may repeat a name
    part = f"{member.filename}\0{earlier}" if earlier else member.filename
    origin = replace(origin, sha256=_digest(origin.sha256, part), rejects_path=rejects)
    found = SourceFile(path_of(spool), name, spooled=True, origin=origin)
    spool.seek(0)
    begin = spool.read(len(ZIP[0]))
    if begin.startswith((GZIP, ZSTD)) or (begin.startswith(ZIP) and not _holds_workbook(spool, name)):
        raise UnreadableFile(f"{name} is an archive in an archive: unpack the outer one")
    return _sheet(replace(archive, file=found, origin=origin), spool, stack) if begin.startswith(ZIP) else found


def _holds_workbook(spool: BinaryIO, name: str) -> bool:
    with _opened(spool, name) as inner:
        return _is_workbook(inner.namelist(), name)


def _digest(sha256: str, part: str) -> str:
    """Name the bytes of a part of a file by the file's digest and the part's name."""
    return hashlib.sha256(f"{sha256}\0{part}".encode(errors="surrogatepass")).hexdigest()


def _of_member(rejects: Path, number: int) -> Path:
    """Return where a member's rejected rows go: by its number, since its name is not ours to use."""
    return rejects.with_name(f"{rejects.name.removesuffix(REJECTS_ENDING)}.member-{number}{REJECTS_ENDING}")
