"""A ledger in memory, twin of the one in SQL, and a small row model with its file maker."""

from __future__ import annotations

import csv
import gzip
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from consent.change import ConsentChange
from consent.connection import ConnectionSettings
from consent.feed import Feed
from consent.imports import Accepted, Checkpoint, ImportProgress, ImportSource, RejectedRow
from consent.row import ConsentRow, Identifier, RowChanges, SlotChange
from producers.files.file import PreparedFile
from producers.files.prepare import prepare
from producers.files.sources import SourceFile
from producers.ingest_file import ImportResult, ingest_file
from producers.options import IngestOptions

HOUR_AGO = 3600
HEADER = "user_id,channel,action,reason"


class PersonRow(ConsentRow):
    """A customer's channel, as a provider might want it."""

    names_target: ClassVar[frozenset[str]] = frozenset({"user_id"})

    user_id: Identifier
    channel: Literal["SMS", "EMAIL"]
    priority: Annotated[int, Field(ge=0, le=9)] = 1
    reason: Annotated[str | None, Field(max_length=70_000)] = None

    def changes(self) -> RowChanges:
        """Name the customer and the channel, and keep the reason, where there is one."""
        slot = SlotChange(self.channel, {"reason": self.reason} if self.reason else {})
        return RowChanges({"user_id": self.user_id}, (slot,))


class WordyRow(PersonRow):
    """A row whose slot, for the reason `long`, is longer than an index entry of PostgreSQL and compresses badly."""

    def changes(self) -> RowChanges:
        """Name the channel, or something endless."""
        odds = random.Random(1)
        endless = (chr(odds.randrange(0x4E00, 0x9FFF)) for _ in range(4_000))
        found = super().changes()
        return (
            found._replace(slots=(found.slots[0]._replace(slot="".join(endless)),)) if self.reason == "long" else found
        )


ROWS: dict[str, type[ConsentRow]] = {"crm": PersonRow}


@dataclass
class _Import:
    source: ImportSource
    progress: ImportProgress
    changes: list[ConsentChange] = field(default_factory=list)
    rejects: list[RejectedRow] = field(default_factory=list)
    duplicates: int = 0


def _nothing(number: int) -> None:
    """Let the chunk of this number pass."""


class MemoryLedger:
    """Keeps imports as the real ledger does: a chunk and its checkpoint together, or neither."""

    def __init__(self) -> None:
        self.imports: dict[str, _Import] = {}
        self.due: list[ConsentChange] = []
        self.calls: list[str] = []
        self.undisturbed()
        self._known: set[tuple[object, ...]] = set()
        self._accepts = 0

    def undisturbed(self) -> None:
        """Let every chunk pass from now on."""
        self.before_accept: Callable[[int], None] = _nothing
        self.after_accept: Callable[[int], None] = _nothing

    def open_import(self, source: ImportSource) -> ImportProgress:
        """Find the import with this fingerprint, or start one."""
        for one in self.imports.values():
            if one.source.fingerprint == source.fingerprint:
                return one.progress
        import_id = f"import-{len(self.imports) + 1}"
        progress = ImportProgress(import_id, "reading", Checkpoint(), source.default_effective_at)
        self.imports[import_id] = _Import(source, progress)
        return progress

    def accept(
        self, import_id: str, changes: Sequence[ConsentChange], rejects: Sequence[RejectedRow], checkpoint: Checkpoint
    ) -> Accepted:
        """Record a chunk that follows the last one, each change once."""
        one = self.imports[import_id]
        self._accepts += 1
        self.before_accept(self._accepts)
        assert one.progress.state == "reading"
        assert checkpoint.changes == one.progress.checkpoint.changes + len(changes) + len(rejects)
        fresh = [change for change in changes if not self._holds(change)]
        one.changes.extend(fresh)
        one.rejects.extend(rejects)
        one.duplicates += len(changes) - len(fresh)
        one.progress = replace(one.progress, checkpoint=checkpoint)
        if one.source.stream:
            self.due.extend(fresh)
        self.after_accept(self._accepts)
        return Accepted(len(fresh), len(changes) - len(fresh))

    def finish_reading(self, import_id: str) -> None:
        """Note that the file has been read whole."""
        self.calls.append("finish_reading")
        self._move(import_id, "read")

    def publish(self, import_id: str, on_progress: Callable[[int], None] | None = None) -> None:
        """Let the changes become due."""
        self.calls.append("release")
        one = self.imports[import_id]
        assert one.progress.state != "reading"
        self.due.extend(change for change in one.changes if change not in self.due)
        if on_progress:
            on_progress(len(one.changes))
        self._move(import_id, "released")

    def _move(self, import_id: str, state: Literal["read", "released"]) -> None:
        one = self.imports[import_id]
        one.progress = replace(one.progress, state=state)

    def _holds(self, change: ConsentChange) -> bool:
        key = (
            change.connection,
            *sorted(change.address.items()),
            change.slot,
            change.action,
            change.effective_at,
            change.change_id,
            *sorted(change.details.items()),
        )
        known = key in self._known
        self._known.add(key)
        return known

    @property
    def changes(self) -> list[ConsentChange]:
        """Every change that was recorded."""
        return [change for one in self.imports.values() for change in one.changes]

    @property
    def rejects(self) -> list[RejectedRow]:
        """Every row that was refused."""
        return [reject for one in self.imports.values() for reject in one.rejects]

    @property
    def users(self) -> list[str]:
        """The customers of the recorded changes."""
        return [change.address["user_id"] for change in self.changes]

    @property
    def codes(self) -> list[tuple[int, str | None, str]]:
        """Where and why rows were refused."""
        return [(reject.line, reject.column, reject.code) for reject in self.rejects]


def file_of(path: Path, content: str | bytes, *, age: float = HOUR_AGO) -> SourceFile:
    """Write a file that no one has touched for `age` seconds."""
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    return SourceFile(path, str(path))


def csv_of(path: Path, lines: Iterable[str], header: str = HEADER) -> SourceFile:
    """Write a file of these lines under a header."""
    return file_of(path, "\n".join([header, *lines]) + "\n")


def take_in(
    file: SourceFile | PreparedFile,
    ledger: MemoryLedger,
    options: IngestOptions | None = None,
    rows: Mapping[str, type[ConsentRow]] | None = None,
    connections: Mapping[str, ConnectionSettings] | None = None,
    on_progress: Any = None,
    *,
    feeds: Mapping[str, Feed] | None = None,
) -> ImportResult:
    """Import a file as the console would."""
    if isinstance(file, SourceFile):
        defaults = {name: one.defaults for name, one in (connections or {}).items()}
        file = prepare(file, options or IngestOptions(), rows or ROWS, defaults, feeds or {})
    return ingest_file(file, ledger, on_progress)


def rejects_of(path: Path, delimiter: str = ",") -> list[list[str]]:
    """Read a rejects file as a table."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream, delimiter=delimiter))
