"""How the files of a place are prepared: by the rules of providers and feeds, and checked against their manifests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from consent.feed import Feed
from consent.row import ConsentRow
from producers.files.file import PreparedFile
from producers.files.prepare import prepare
from producers.files.sources import Manifest, SourceFile
from producers.options import IngestOptions


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are read: the row model of each connection, what fills empty columns, the options, and the feeds."""

    rows: Mapping[str, type[ConsentRow]]
    defaults: Mapping[str, Mapping[str, str]]
    options: IngestOptions
    feeds: Mapping[str, Feed] = field(default_factory=dict)

    def prepare(self, source: SourceFile) -> PreparedFile:
        """Look a file over and find its feed; raises UnusableInput, and ConfigurationError."""
        return prepare(source, self.options, self.rows, self.defaults, self.feeds)


def check_manifest(manifest: Manifest, source: SourceFile, members: Sequence[PreparedFile]) -> None:
    """Compare a file, with all members of an archive, with its manifest; raise UnreadableFile if they differ."""
    with source.path.open("rb") as file:
        manifest.check_digest(hashlib.file_digest(file, "sha256").hexdigest())
    if manifest.rows is not None:
        manifest.check_rows(sum(map(_count, members)))


def _count(file: PreparedFile) -> int:
    found = 0
    with file.open() as reader:
        while some := reader.some():
            found += len(some)
    return found
