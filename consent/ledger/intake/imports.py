"""Imports and runs: how they begin, how far they have come, and how they end.

A full dump that stamps the time of its export on every row would call for everybody each night. So a time is taken for
the export's if it stands on more than half of a file's rows and on more than a thousand; times within one minute count
as one. Rows with it are treated like rows that bring no time, and only those.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

import orjson
from sqlalchemy import Connection, Row, bindparam, select, update

from consent.imports import Checkpoint, ImportProgress, ImportSource, ImportState
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.statements import NEW, bulk, first_change
from consent.ledger.review.effects import date_behind_undoing
from consent.ledger.schema import changes, imports
from consent.outcome import State
from consent.reassert import Reassert, ReassertRules

STAMPED_FROM = 1_000
"""An export's time stands on more rows than this."""
_SECOND = 1_000_000
_TOGETHER = 60
_KEPT = 1_000


class ExportTime(NamedTuple):
    """The first and the last moment (microseconds) that count as the time of an export."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class ReassertTerms:
    """Which opt-outs of one import are delivered although the provider is confirmed to hold them.

    `rules` are those of its command or of the settings; `export_time` is the time of its export, if it has one.
    """

    rules: ReassertRules
    export_time: ExportTime | None = None

    @property
    def columns(self) -> dict[str, int | None]:
        """The columns of an import that keep its export's time, for `reassert_terms`."""
        first, last = (None, None) if self.export_time is None else self.export_time
        return {"export_time_from": first, "export_time_to": last}

    @property
    def given(self) -> dict[str, int]:
        """The time of the export, for statements that were built for another one or none."""
        first, last = self.export_time or (1, 0)  # no moment lies between these
        return {"export_from": first, "export_to": last}


IMPORT = select(imports).where(imports.c.id == bindparam("its"))
IMPORT_LOCKED = IMPORT.with_for_update()
UPDATE_IMPORT = update(imports).where(imports.c.id == bindparam("its"))
"""The import `its`: what is known of it, the same so that no one else changes it meanwhile, and what changes it.

Made once, as what each import needs: to build a statement takes a few times as long as to run it.
"""


def reassert_terms(row: Row[Any], rules: ReassertRules) -> ReassertTerms:
    """Return the terms for an import, a row of `imports`, where the settings have these rules.

    The option of its command holds for all connections.
    """
    found = None if row.export_time_from is None else ExportTime(row.export_time_from, row.export_time_to)
    return ReassertTerms(rules if row.reassert is None else ReassertRules(Reassert(row.reassert)), found)


class Imports(LedgerPart):
    """Imports and runs: how they begin, how far they have come, and how they end."""

    def open_import(self, source: ImportSource) -> ImportProgress:
        """Find the import of these bytes, or start one; return how far it has come.

        Where all opt-outs are to be sent again, an import that is over is not gone on with: another one of the same
        bytes is begun.
        """
        now = self.core.now()

        def work(tx: Connection) -> ImportProgress:
            fingerprint, row = find_import(tx, source.fingerprint, source.reassert)
            if row is None:
                begin_import(tx, source, now, fingerprint)
                row = tx.execute(_OF_BYTES, {"its": fingerprint}).one()
            elif row.state in {"reading", "read"}:
                _renew_options(tx, row, source)
            return progress_of(row)

        return self.database.write(work)

    def is_known(self, source: ImportSource) -> bool:
        """Whether these bytes were recorded before, so that `open_import` would find nothing left to do."""

        def work(tx: Connection) -> bool:
            _, row = find_import(tx, source.fingerprint, source.reassert)
            return row is not None and row.state == "released"

        return self.database.read(work)

    def finish_reading(self, import_id: str) -> None:
        """Note that the whole file has been read and is trusted; its changes may now become due."""
        now = self.core.now()

        def work(tx: Connection) -> None:
            row = tx.execute(IMPORT_LOCKED, {"its": import_id}).first()
            if row is not None and row.state == "reading":
                terms = ReassertTerms(self.core.reassert, find_export_time(row.own_times, row.records - row.skipped))
                if row.replaces is not None:
                    date_behind_undoing(tx, import_id)
                read = {"its": import_id, "state": "read", "read_at": now, **terms.columns}
                tx.execute(UPDATE_IMPORT, read)

        self.database.write(work)

    def finish_run(self, run_id: str) -> None:
        """Note that a run of an event source has ended; it is sealed once nothing of it is pending."""
        now = self.core.now()
        ended = update(imports).where(imports.c.id == run_id, imports.c.state == "reading")
        self.database.write(lambda tx: tx.execute(ended.values(state="released", read_at=now, released_at=now)))

    def finish_abandoned_runs(self, kind: str, name: str) -> None:
        """Note that the runs of an event source whose process was killed have ended, those of its API keys too."""
        now = self.core.now()
        its = imports.c.name.endswith(f", as {name}", autoescape=True) | (imports.c.name == name)
        mine = (imports.c.kind == kind, its, imports.c.state == "reading")
        ended = update(imports).where(*mine).values(state="released", read_at=now, released_at=now)
        self.database.write(lambda tx: tx.execute(ended))


def _renew_options(tx: Connection, row: Row[Any], source: ImportSource) -> None:
    """Let the options of the command that goes on with an import hold, and note whose it is."""
    mine = update(imports).where(imports.c.id == row.id)
    names = (row.importers or "").split("\n")
    if source.importer is not None and source.importer not in names:
        tx.execute(mine.values(importers="\n".join(filter(None, [*names, source.importer]))))
    if source.reassert is not None:
        tx.execute(mine.values(reassert=source.reassert))
    if source.guards is not None:
        unchecked = mine.where(imports.c.checked_at.is_(None))
        tx.execute(unchecked.values(feed=source.guards.feed, guards=source.guards.as_text()))


def find_import(tx: Connection, fingerprint: str, reassert: Reassert | None) -> tuple[str, Row[Any] | None]:
    """Return the import that goes on with these bytes, None if one is to be begun; and the fingerprint that it has."""
    row = tx.execute(_OF_BYTES, {"its": fingerprint}).first()
    if reassert is not Reassert.ALWAYS:
        return fingerprint, row
    own, number = fingerprint, 0
    while row is not None and not _goes_on(tx, row):
        number += 1
        own = f"{fingerprint} sent again {number}"
        row = tx.execute(_OF_BYTES, {"its": own}).first()
    return own, row


def _goes_on(tx: Connection, row: Row[Any]) -> bool:
    if row.state != "released":
        return True
    pending = changes.c.state == State.PENDING.value
    return bool(row.reassert == Reassert.ALWAYS.value) and first_change(tx, row.id, 0, pending) is not None


_OF_BYTES = select(imports).where(imports.c.fingerprint == bindparam("its"))


_IMPORT_COLUMNS = (
    "id",
    "kind",
    "name",
    "fingerprint",
    "size",
    "default_effective_at",
    "stream",
    "total_lines",
    "state",
    "reassert",
    "sha256",
    "feed",
    "guards",
    "replaces",
    "importers",
    "started_at",
)


def begin_import(tx: Connection, source: ImportSource, now: int, fingerprint: str | None = None) -> str:
    """Begin an import that no other one has been begun for; return its id.

    It is known by this fingerprint, if one is given, instead of its source's.
    """
    row = _import_row(source, fingerprint or source.fingerprint, now)
    bulk(tx).insert(imports, _IMPORT_COLUMNS, [row], NEW)
    return str(row[0])


def _import_row(source: ImportSource, fingerprint: str, now: int) -> tuple[object, ...]:
    import_id = f"{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(4)}"
    facts = (
        source.kind,
        source.name,
        fingerprint,
        source.size,
        source.default_effective_at,
        int(source.stream),
        source.total_lines,
    )
    guards = (None, None) if source.guards is None else (source.guards.feed, source.guards.as_text())
    return (
        import_id,
        *facts,
        "reading",
        source.reassert,
        source.sha256,
        *guards,
        source.replaces,
        source.importer,
        now,
    )


def progress_of(row: Row[Any]) -> ImportProgress:
    """Return how far an import, a row of `imports`, has come."""
    state = cast("ImportState", "read" if row.state == "merged" else row.state)
    place = Checkpoint(row.records, row.line, row.rejects_offset, row.changes, row.rejects_digest or "", row.skipped)
    return ImportProgress(row.id, state, place, row.default_effective_at)


def count_times(counted: str | None, moments: Iterable[int]) -> str | None:
    """Add the own times of some rows (microseconds) to the count of a file's; None as long as no row brings one.

    They are counted second by second. A thousand seconds are kept, by the algorithm of Misra and Gries: where there are
    more, each count may be too small, by a thousandth of the rows at most. So a time may be missed that stands on
    hardly more than half of the rows, and its opt-outs are sent. https://doi.org/10.1016/0167-6423(82)90012-0
    """
    counts = Counter(_counts(counted))
    counts.update([moment // _SECOND for moment in moments])
    if len(counts) > _KEPT:
        least = sorted(counts.values(), reverse=True)[_KEPT]
        counts = Counter({second: count - least for second, count in counts.items() if count > least})
    return orjson.dumps(dict(counts), option=orjson.OPT_NON_STR_KEYS).decode() if counts else counted


def _counts(counted: str | None) -> dict[int, int]:
    return {int(second): count for second, count in orjson.loads(counted).items()} if counted else {}


def find_export_time(counted: str | None, rows: int) -> ExportTime | None:
    """Return the export's time of a file with so many rows, whose own times are counted; None if it has none."""
    counts = _counts(counted)
    seconds = sorted(counts)
    best, held, start, stamp = 0, 0, 0, None
    for second in seconds:
        held += counts[second]
        while second - seconds[start] >= _TOGETHER:
            held -= counts[seconds[start]]
            start += 1
        if held > best:
            best, stamp = held, ExportTime(seconds[start] * _SECOND, (second + 1) * _SECOND - 1)
    return stamp if best > STAMPED_FROM and 2 * best > rows else None
