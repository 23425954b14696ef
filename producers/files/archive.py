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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from consent.errors import UnreadableFile
from consent.files import path_text
from producers.files.inspect import GZIP, ZIP, ZSTD, look, reading, settled, unstable
from producers.files.rejects import REJECTS_ENDING
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
def unpacked(file: SourceFile, options: IngestOptions) -> Iterator[list[SourceFile]]:
    """Give the files that a source holds: the members of a zip archive, else the source itself.

    What is unpacked ends with the context. Raises UnreadableFile for an archive that is damaged, too large, encrypted,
    or holds others, and UnstableFile if it keeps changing for `options.patience` seconds.
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
        found = _unpack(_Archive(file, raw, origin), stack)
        if look(file) != stamp:
            raise unstable(file)
        yield found


@dataclass(frozen=True, slots=True)
class _Archive:
    """A zip archive, open."""

    file: SourceFile
    raw: BinaryIO
    origin: Origin


def _unpack(archive: _Archive, stack: ExitStack) -> list[SourceFile]:
    name = archive.file.name
    try:
        _refuse_endless_directory(archive)
        with zipfile.ZipFile(archive.raw) as opened:
            members = [one for one in opened.infolist() if _is_data(one)]
            _refuse_bomb(members, name)
            return [_copy(opened, number, archive, stack) for number in range(1, len(members) + 1)]
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError):
        raise UnreadableFile(
            f"{name} is damaged or cut short: its zip archive cannot be read to the end; fetch it again"
        ) from None
    except OSError as error:
        raise UnreadableFile(f"{name} cannot be unpacked: {error.strerror or type(error).__name__}") from None


def _is_data(member: zipfile.ZipInfo) -> bool:
    return not member.is_dir() and not member.filename.startswith(_NO_DATA) and not member.filename.endswith(_NO_DATA)


def _refuse_endless_directory(archive: _Archive) -> None:
    """Raise UnreadableFile for a list of members that would fill our memory, before it is read."""
    size = archive.raw.seek(0, 2)
    archive.raw.seek(max(0, size - _END.size - 0xFFFF))
    tail = archive.raw.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0:
        raise zipfile.BadZipFile
    *_, members, directory, _, _ = _END.unpack_from(tail, place)
    if members > MOST_MEMBERS or directory > _MOST_DIRECTORY:
        raise UnreadableFile(
            f"{archive.file.name} has more than {MOST_MEMBERS:,} members, or more than 4 GB: unpack it, or split it"
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


def _copy(opened: zipfile.ZipFile, number: int, archive: _Archive, stack: ExitStack) -> SourceFile:
    """Unpack the member of this number, counted from 1, into a private file."""
    members = [one for one in opened.infolist() if _is_data(one)]
    member, alone = members[number - 1], len(members) == 1
    name = f"{archive.file.name}/{path_text(member.filename)}"
    spool = stack.enter_context(private_copy())
    with opened.open(member) as packed:
        shutil.copyfileobj(packed, spool, 1024 * 1024)
    spool.flush()
    spool.seek(0)
    if spool.read(len(ZIP[0])).startswith((GZIP, ZSTD, *ZIP)):
        raise UnreadableFile(f"{name} is an archive in an archive: unpack the outer one")
    digest = hashlib.sha256(f"{archive.origin.sha256}\0{member.filename}".encode(errors="surrogatepass")).hexdigest()
    rejects = archive.origin.rejects_path
    if not alone:
        rejects = _of_member(rejects, number)
    return SourceFile(
        path_of(spool), name, spooled=True, origin=replace(archive.origin, sha256=digest, rejects_path=rejects)
    )


def _of_member(rejects: Path, number: int) -> Path:
    """Return where a member's rejected rows go: by its number, since its name is not ours to use."""
    return rejects.with_name(f"{rejects.name.removesuffix(REJECTS_ENDING)}.member-{number}{REJECTS_ENDING}")
