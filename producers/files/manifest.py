"""A manifest: what the writer of a file promises of it, as FILE.manifest.json beside it.

It is a JSON object like {"rows": 3, "sha256": "…"}, of which either may be left out, but not both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from consent.errors import UnreadableFile
from producers.files.sources import SourceFile

MANIFEST_ENDING = ".manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is promised of a file: how many rows it has (of an archive, all members), and its digest in lower case."""

    file: str
    rows: int | None
    sha256: str | None

    @classmethod
    def of_text(cls, text: str | bytes | None, file: str) -> Self:
        """Read the manifest of a file of this name; raises UnreadableFile if it promises nothing to check."""
        what = f"the manifest of {file}"
        try:
            said = json.loads(text or "")
            rows, digest = said.get("rows"), said.get("sha256")
        except (ValueError, AttributeError):
            raise UnreadableFile(
                f'{what} is no JSON object like {{"rows": 3, "sha256": "…"}}: write it again'
            ) from None
        if not isinstance(rows, int | None) or isinstance(rows, bool) or not isinstance(digest, str | None):
            raise UnreadableFile(f'{what} is wrong: "rows" is a number and "sha256" a text; write it again')
        if rows is None and digest is None:
            raise UnreadableFile(f"{what} has neither rows nor sha256: write it again")
        return cls(file, rows, digest and digest.strip().lower())

    @classmethod
    def beside(cls, source: SourceFile) -> Self | None:
        """Return the manifest that stands beside a file, None if there is none; raises UnreadableFile."""
        path = Path(f"{source.path}{MANIFEST_ENDING}")
        if source.spooled or not path.exists():
            return None
        try:
            return cls.of_text(path.read_bytes(), source.name)
        except OSError as error:
            raise UnreadableFile(f"the manifest of {source.name} cannot be read: {error.strerror}") from None

    def check_digest(self, sha256: str) -> None:
        """Raise UnreadableFile if the file has another digest (in lower case) than is promised."""
        if self.sha256 not in (None, sha256):
            raise UnreadableFile(f"{self.file} has another sha256 than its manifest says: bring it again")

    def check_most(self, rows: int) -> None:
        """Raise UnreadableFile if the file has fewer rows than promised, even if each of its lines is one."""
        if self.rows is not None and rows < self.rows:
            has = f"{max(0, rows):,} rows at most"
            raise UnreadableFile(f"{self.file} has {has}, and its manifest says {self.rows:,}: bring it again")

    def check_rows(self, rows: int) -> None:
        """Raise UnreadableFile if the file has another number of rows than is promised."""
        if self.rows not in (None, rows):
            raise UnreadableFile(f"{self.file} has {rows:,} rows, and its manifest says {self.rows:,}: bring it again")
