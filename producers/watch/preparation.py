"""How the files of a place are prepared: by the rules of providers and feeds, and checked against their manifests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from consent.errors import UnreadableFile
from consent.feed import Feed
from consent.row import ConsentRow
from producers.files.file import PreparedFile, prepare
from producers.files.sources import SourceFile
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


def check_manifest(manifest: str | None, source: SourceFile, members: Sequence[PreparedFile]) -> None:
    """Compare a file with its manifest, {"rows": 3, "sha256": "…"}; raise UnreadableFile if they differ."""
    name = source.name
    try:
        said = json.loads(manifest or "")
        rows, digest = said.get("rows"), said.get("sha256")
    except (ValueError, AttributeError):
        raise UnreadableFile(f'the manifest of {name} is no JSON object like {{"rows": 3, "sha256": "…"}}') from None
    if rows is None and digest is None:
        raise UnreadableFile(f"the manifest of {name} has neither rows nor sha256")
    with source.path.open("rb") as file:
        if digest is not None and str(digest).lower() != hashlib.file_digest(file, "sha256").hexdigest():
            raise UnreadableFile(f"{name} has another sha256 than its manifest says: bring it again")
    if rows is not None and rows != (found := sum(map(_count, members))):
        raise UnreadableFile(f"{name} has {found:,} rows, and its manifest says {rows}: bring it again")


def _count(file: PreparedFile) -> int:
    found = 0
    with file.open() as reader:
        while some := reader.some():
            found += len(some)
    return found
