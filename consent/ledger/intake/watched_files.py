"""The files of watched places: which were seen, who reads each, and what became of it.

A watcher claims a file here before it reads it, so that of several watchers only one takes it. A claim is a lease: it
ends by itself when its watcher is killed, and the next one goes on with the import.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Row,
    Table,
    Text,
    and_,
    delete,
    or_,
    select,
    update,
)

from consent.ledger.database import Database
from consent.ledger.dialects.statements import NEW, among, bulk, portions
from consent.ledger.schema import NUMBER, metadata

watched_files = Table(
    "watched_files",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("place", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("taken_at", BigInteger),
    Column("import_id", Text),
    Column("reason", Text),
    Column("lease_token", Text),
    Column("lease_until", BigInteger),
)
"""One row for each version of a file that was seen at a place: its size, time and tag are the version."""
Index("ix_watched_files", *(watched_files.c[name] for name in ("place", "name", "version")), unique=True)


FileState = Literal["seen", "claimed", "recorded", "failed", "done"]
"""How far a watched file has come.

Of one that is `recorded` the import is committed, one that is `failed` cannot be used: both may be moved away. One that
is `done` was moved away, or is there no more.
"""


@dataclass(frozen=True, slots=True)
class WatchedFile:
    """One version of a file at a place; `seen_at` is in microseconds, of the first time that it was seen there."""

    number: int
    name: str
    version: str
    state: FileState
    seen_at: int
    import_id: str | None
    reason: str | None


class WatchedPlace:
    """The files of one place (`place`, without credentials) as the ledger knows them.

    Every method raises LedgerUnavailable.
    """

    def __init__(self, database: Database, place: str) -> None:
        self._database = database
        self._here = watched_files.c.place == place
        self._place = place

    def look(self, found: Sequence[tuple[str, str]], now: int) -> dict[str, WatchedFile]:
        """Note which files, by name and version, are at the place now; return what is known of each, by name.

        A file that was moved away and is there again is a new one. One that is there no more is forgotten, unless it
        is being read.
        """
        there, columns = dict(found), ("place", "name", "version", "state", "seen_at")

        def known(tx: Connection) -> list[Row[tuple[object, ...]]]:
            rows = list(tx.execute(select(watched_files).where(self._here, watched_files.c.state != "done")))
            for names in portions(list(there)):
                mine = (self._here, watched_files.c.state == "done", among(watched_files.c.name, names))
                rows += tx.execute(select(watched_files).where(*mine))
            return rows

        def work(tx: Connection) -> list[Row[tuple[object, ...]]]:
            rows = known(tx)
            again = [row.id for row in rows if row.state == "done" and there.get(row.name) == row.version]
            cleared = {"lease_token": None, "lease_until": None, "reason": None}
            self._update(tx, again, state="seen", seen_at=now, **cleared)
            gone = [row for row in rows if row.state != "done" and there.get(row.name) != row.version]
            unread = [row for row in gone if row.state != "claimed" or (row.lease_until or 0) <= now]
            for ids in portions([row.id for row in unread if row.taken_at is None]):
                tx.execute(delete(watched_files).where(among(watched_files.c.id, ids)))
            self._update(tx, [row.id for row in unread if row.taken_at is not None], state="done")
            have = {(row.name, row.version) for row in rows}
            new = [(self._place, *one, "seen", now) for one in there.items() if one not in have]
            if new:
                bulk(tx).insert(watched_files, columns, new, NEW)
            return known(tx)

        rows = self._database.read(known)
        if {(row.name, row.version) for row in rows if row.state != "done"} != set(there.items()):
            rows = self._database.write(work)
        return {row.name: _file(row) for row in rows if there.get(row.name) == row.version}

    def claim(self, number: int, token: str, *, now: int, until: int, dead: Iterable[str] = ()) -> bool:
        """Take a file to read it, unless another watcher has it; return whether it is ours until then.

        `dead` are tokens of watchers that are known to have ended.
        """
        free = or_(
            watched_files.c.state == "seen",
            and_(
                watched_files.c.state == "claimed",
                or_(watched_files.c.lease_until <= now, watched_files.c.lease_token.in_([token, *dead])),
            ),
        )
        return self._set(number, free, state="claimed", lease_token=token, lease_until=until)

    def holders(self) -> dict[int, str]:
        """Return the tokens under which files of the place are being read, by the files' numbers."""
        columns = (watched_files.c.id, watched_files.c.lease_token)
        query = select(*columns).where(self._here, watched_files.c.state == "claimed")
        return {row.id: row.lease_token for row in self._database.read(lambda tx: tx.execute(query).all())}

    def renew(self, number: int, token: str, until: int) -> bool:
        """Prolong a claim; return whether it is still ours."""
        return self._set(number, self._is_mine(token), lease_until=until)

    def release(self, number: int, token: str, now: int) -> None:
        """Give a file back unread; its version counts as seen anew."""
        self._set(number, self._is_mine(token), state="seen", seen_at=now, lease_token=None, lease_until=None)

    def settle(
        self, number: int, token: str, state: FileState, *, now: int, import_id: str | None = None, reason: str = ""
    ) -> bool:
        """Write down what became of a file that is claimed; return whether the claim was still ours."""
        facts = {"state": state, "import_id": import_id, "reason": reason or None}
        return self._set(number, self._is_mine(token), **facts, taken_at=now, lease_token=None, lease_until=None)

    def finish(self, number: int) -> None:
        """Note that a file that was settled is no longer at the place."""
        settled = watched_files.c.state.in_(["recorded", "failed"])
        self._set(number, settled, state="done")

    def arrivals(self, limit: int = 1000) -> list[tuple[str, int]]:
        """Return the files that were recorded last, with the moments (microseconds), newest first."""
        columns = (watched_files.c.name, watched_files.c.taken_at)
        query = select(*columns).where(self._here, watched_files.c.import_id.is_not(None))
        newest = query.order_by(watched_files.c.taken_at.desc()).limit(limit)
        return [(row.name, row.taken_at) for row in self._database.read(lambda tx: tx.execute(newest).all())]

    @staticmethod
    def _is_mine(token: str) -> ColumnElement[bool]:
        return and_(watched_files.c.state == "claimed", watched_files.c.lease_token == token)

    def _set(self, number: int, which: ColumnElement[bool], **values: object) -> bool:
        mine = update(watched_files).where(watched_files.c.id == number, which).values(**values)
        counted = mine.execution_options(preserve_rowcount=True)
        return self._database.write(lambda tx: tx.execute(counted).rowcount) == 1

    @staticmethod
    def _update(tx: Connection, ids: Sequence[int], **values: object) -> None:
        for some in portions(ids):
            tx.execute(update(watched_files).where(among(watched_files.c.id, some)).values(**values))


def _file(row: Row[tuple[object, ...]]) -> WatchedFile:
    state = cast("FileState", row.state)
    return WatchedFile(row.id, row.name, row.version, state, row.seen_at, row.import_id, row.reason)
