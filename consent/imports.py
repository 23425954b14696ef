"""An import between producer and ledger: its source, its progress, and its rejected rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from consent.change import ConsentChange
from consent.guards.rules import ImportGuards
from consent.reassert import Reassert

ImportState = Literal["reading", "read", "held", "released", "withdrawn"]

FILE = "csv"
"""The kind of all imports of files, whatever their format."""


@dataclass(frozen=True, slots=True)
class ImportSource:
    """What is imported: which kind of source, which bytes, and when its changes may be delivered.

    `fingerprint` names the bytes and every option that changes their meaning; `size` is in bytes. With `stream`
    changes are delivered as they are read. `total_lines` is None where it cannot be known beforehand. `reassert` is the
    option of the command, None where the settings hold. `sha256` is that of the bytes alone, None where there are none.
    `guards` are those that check it, None if none does. It `replaces` an import that was undone, None for most.
    `importer` is the name of the account whose command reads it.
    """

    kind: str
    name: str
    fingerprint: str
    size: int
    default_effective_at: int | None
    stream: bool = False
    total_lines: int | None = None
    reassert: Reassert | None = None
    sha256: str | None = None
    guards: ImportGuards | None = None
    replaces: str | None = None
    importer: str | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far an import has been recorded.

    `records` counts the rows that were handed over, `changes` their changes (a row that names three slots has three; a
    rejected row counts as one), `skipped` those that its feed leaves out, `line` is the physical line after which the
    next one starts, `rejects_offset` the length in bytes of the rejects file that belongs to them, and `rejects_digest`
    the digest of its content, by which it is found again ("": not kept, by an earlier version).
    """

    records: int = 0
    line: int = 0
    rejects_offset: int = 0
    changes: int = 0
    rejects_digest: str = ""
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """Where an import stands: still being read, read whole, held, released (its changes are delivered), or withdrawn.

    `default_effective_at` is since when rows without a time hold (microseconds), if the ledger remembers it.
    """

    import_id: str
    state: ImportState
    checkpoint: Checkpoint
    default_effective_at: int | None = None


@dataclass(frozen=True, slots=True)
class EventContent:
    """What a rejected event held, so that it can be fixed and sent again.

    `body` is its text, or the first MOST_KEPT bytes of the event's `size`; `headers` are its envelope; `published_at`
    and `key` are its source's time and id for it; `position` is its place in the event that it came in.
    `is_own_time` says that the time is the sender's, and `sender` is the scope in which ids are unique.
    """

    body: bytes = field(repr=False)
    size: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    published_at: datetime | None = None
    key: str | None = field(default=None, repr=False)
    position: int = 0
    is_own_time: bool = False
    sender: str = ""


MOST_KEPT = 16 * 1024 * 1024
"""Bytes of a rejected event that are kept: as many as RabbitMQ 4 lets a message have."""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One row or event that was not recorded: where it stands, which column is wrong, and how to fix it.

    `line` is the physical line where a row starts, or the number of an event in its run. `place` says where an event
    stands in its source, if the source can say it: it never changes, so an event that comes twice is rejected once.
    The message never repeats what stands in a cell. `content` is what an event held; a row of a file stands in the
    rejects file.
    """

    line: int
    column: str | None
    code: str
    message: str
    place: str | None = None
    content: EventContent | None = None


REFUSED = (
    "refused_by_the_ledger",
    "the ledger's database cannot keep this: shorten its longest values and remove unusual characters",
)
"""Code and message of what is rejected because of LedgerRefused."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """How many changes of a chunk were new to the ledger, and how many it held already."""

    recorded: int
    duplicates: int


class RunEvents(NamedTuple):
    """What some events of one run say, and which were refused."""

    run_id: str
    changes: Sequence[ConsentChange]
    refused: Sequence[RejectedRow]


@dataclass(frozen=True, slots=True)
class EventsAccepted:
    """What became of the changes of some events, in the order in which they were handed over.

    `ids` are the changes' public ids, the same whenever and wherever the same change comes; `fresh` says which of them
    the ledger had not held before. `rejected` counts the rejected events that are new.
    """

    ids: tuple[str, ...]
    fresh: tuple[bool, ...]
    rejected: int


PublishProgress = tuple[str, int, int, int]
"""How far the publishing of an import has come: it differs after each step, and says nothing more to other code."""
