"""How the ledger is reached: one engine a process, transactions that write or read, its clock, and its hashes' key."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from threading import get_ident
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError, TimeoutError  # noqa: A004 - of who waits for a connection of the pool

from consent.deadlines.rules import DeadlineRules
from consent.errors import LedgerOutdated, LedgerRefused, LedgerUnavailable
from consent.guards.rules import GuardRules, GuardsOf
from consent.ledger.dialects import Dialect, dialect_named
from consent.ledger.dialects.url import read_address
from consent.ledger.schema import REVISION, info
from consent.reassert import ReassertRules

T = TypeVar("T")
Member = TypeVar("Member")
Clock = Callable[[], int]
"""Tells the time in microseconds since 1970-01-01 UTC."""

HASH_KEY = "hash_key"
_FIND_KEY = select(info.c.value).where(info.c.name == HASH_KEY)
_TRIES = 5
_BELIEVED_SECONDS = 30.0


class _Undone(Exception):
    """Takes back what was only an attempt."""


class Database:
    """One ledger's database; it opens no connection before the first use, so it may be made before a fork."""

    def __init__(self, url: str) -> None:
        self.url = read_address(url)
        self.dialect: Dialect = dialect_named(self.url.get_backend_name())
        self._engines: dict[int, Engine] = {}
        self._open: dict[Connection, tuple[int, int]] = {}
        self._hash_key: bytes | None = None

    @property
    def is_sqlite(self) -> bool:
        """Whether the ledger is one file on this machine."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def engine(self) -> Engine:
        """The engine of the process that asks; a child of a fork gets its own."""
        pid = os.getpid()
        if (found := self._engines.get(pid)) is None:
            for other in [one for one in list(self._engines) if one != pid]:
                if (theirs := self._engines.pop(other, None)) is not None:
                    theirs.dispose(close=False)  # its connections are the parent's
            # Of two threads that come first, both get the engine of one; the other's has opened nothing yet.
            found = self._engines.setdefault(pid, self.dialect.make_engine(self.url))
        return found

    def write(self, work: Callable[[Connection], T], *, checked: bool = True) -> T:
        """Run `work` in one writing transaction, again if the database asks for it.

        Raises LedgerUnavailable, LedgerRefused if the database will never take what it was given, and LedgerOutdated if
        the ledger has been migrated meanwhile (unless not `checked`): a version that was written for another schema
        writes nothing.
        """
        in_doubt: Writing | None = None
        for remaining in reversed(range(_TRIES)):
            writing = Writing(self.dialect, checked=checked)
            try:
                if in_doubt is not None and self._was_committed(in_doubt):
                    return in_doubt.result  # type: ignore[no-any-return]
                with self._transaction(writes=True) as tx:
                    return writing.run(tx, work)
            except DBAPIError as error:
                if not (remaining and self.dialect.is_passing(error)):
                    raise self.dialect.explained(error) from error
                in_doubt = writing if writing.is_in_doubt(error) else in_doubt
                time.sleep(0.05 * (_TRIES - remaining))
            except (UnicodeError, OverflowError, orjson.JSONEncodeError) as error:  # the driver or we cannot write it
                raise LedgerRefused(f"the ledger's database cannot be told: {type(error).__name__}") from error
        raise AssertionError("unreachable")

    def write_or_name(
        self,
        members: Sequence[Member],
        work: Callable[[Connection], T],
        attempt: Callable[[Connection, Sequence[Member]], object],
    ) -> T:
        """Run `work` in a writing transaction; raise LedgerRefused with the members that the database refuses, if any.

        A batch is one transaction, so a text that an index cannot hold takes all of it back, each time that it is
        handed over. `attempt` does to some of the members what `work` does to all; nothing of it is kept. Nothing was
        recorded when this raises, so that the caller can leave those members out and hand the others over again.
        """
        try:
            return self.write(work)
        except LedgerRefused as error:
            error.members = self.refused(members, attempt)
            raise

    def refused(
        self, members: Sequence[Member], attempt: Callable[[Connection, Sequence[Member]], object]
    ) -> tuple[int, ...]:
        """Return the places of the members that the database refuses even alone; it tries halves, and keeps nothing."""

        def is_refused(some: range) -> bool:
            def work(tx: Connection) -> None:
                attempt(tx, members[some.start : some.stop])
                raise _Undone

            try:
                self.write(work)
            except _Undone:
                return False
            except LedgerRefused:
                return True
            return False

        found: list[int] = []
        waiting = [range(len(members))]
        while waiting:
            some = waiting.pop()
            if not some or not is_refused(some):
                continue
            if len(some) == 1:
                found.extend(some)
                continue
            half = some.start + len(some) // 2
            waiting.extend((range(half, some.stop), range(some.start, half)))
        return tuple(found)

    def _was_committed(self, writing: Writing) -> bool:
        """Ask the server what became of a transaction whose connection was lost while it was being committed."""
        while True:
            with self._transaction(writes=False) as tx:
                found = self.dialect.transaction_status(tx, writing.number or 0)
            if found != "in progress":
                return found == "committed"
            time.sleep(0.05)

    def read(self, work: Callable[[Connection], T], *, by_key: bool = False, within: float | None = None) -> T:
        """Run `work` on one consistent view of the ledger, looking rows up `by_key` if so asked.

        Raises LedgerUnavailable, also if a statement takes longer than `within` seconds; LedgerRefused as `write` does.
        """
        try:
            with self._transaction(writes=False) as tx:
                if by_key:
                    self.dialect.look_up_by_key(tx)
                with nullcontext() if within is None else self.dialect.time_limit(tx, within):
                    return work(tx)
        except DBAPIError as error:
            raise self.dialect.explained(error) from error
        except (UnicodeError, OverflowError) as error:  # the driver cannot ask for it, so nothing is called that
            raise LedgerRefused(f"the ledger's database cannot be asked: {type(error).__name__}") from error

    @property
    def hash_key(self) -> bytes:
        """The secret with which this ledger hashes the names of targets."""
        if self._hash_key is None:
            self._hash_key = bytes.fromhex(self.read(lambda tx: tx.execute(_FIND_KEY).scalar_one()))
        return self._hash_key

    def close(self) -> None:
        """Close what is open, also a transaction that a signal cut off: its locks would last until the process ends."""
        for connection in [one for one, owner in list(self._open.items()) if owner == (os.getpid(), get_ident())]:
            connection.invalidate()
        if (engine := self._engines.pop(os.getpid(), None)) is not None:
            engine.dispose()

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[Connection]:
        try:
            connection = self.engine.connect()
        except TimeoutError as error:  # threads have kept all of the pool for half a minute: the database is silent
            raise LedgerUnavailable("the ledger's database keeps all who ask it waiting") from error
        with connection:
            connection.execution_options(**(self.dialect.writes if writes else self.dialect.reads))
            self._open[connection] = os.getpid(), get_ident()
            try:
                with connection.begin():
                    yield connection
            finally:
                del self._open[connection]


@dataclass(slots=True)
class Writing:
    """One attempt at a writing transaction: its number at the server, and what came out of it."""

    dialect: Dialect
    checked: bool
    number: int | None = None
    ready: bool = False
    result: Any = None

    def run(self, tx: Connection, work: Callable[[Connection], T]) -> T:
        """Do the work, once it is seen in the same transaction that the schema is ours; no migration comes between."""
        self.number, found = self.dialect.begin_writing(tx, checked=self.checked)
        if self.checked:
            check(found)
        self.result = result = work(tx)
        self.ready = True
        return result

    def is_in_doubt(self, error: DBAPIError) -> bool:
        """Whether the connection was lost so late that the server may have committed."""
        return error.connection_invalidated and self.ready and self.number is not None


def check(found: str | None) -> None:
    """Raise LedgerOutdated, with the remedy, unless this revision is the one that this version was written for."""
    if found == REVISION:
        return
    if found is not None and found > REVISION:
        message = f"the ledger is at revision {found}, this version needs {REVISION}: start the newer version"
    else:
        state = f"at revision {found}" if found else "empty"
        message = f"the ledger is {state}, this version needs {REVISION}: run `optrelay migrate`"
    raise LedgerOutdated(message)


class ServerClock:
    """The database's clock, so that leases mean the same on every machine whatever its own clock says.

    It is asked now and then; in between, this machine's monotonic clock goes on from there. While the database is away
    the last answer holds. A ledger that is a file needs none. Threads may ask while another one has it set anew.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._found: tuple[int, float] | None = None  # the server's time, and when it was that by ours
        self._asked = 0.0

    def __call__(self) -> int:
        """Return the time in microseconds since 1970-01-01 UTC."""
        if self._found is None or time.monotonic() - self._asked > _BELIEVED_SECONDS:
            self._ask()
        if (found := self._found) is None:
            return wall_clock()
        return found[0] + int((time.monotonic() - found[1]) * 1_000_000)

    def _ask(self) -> None:
        before = self._asked = time.monotonic()
        try:
            found = self._database.dialect.server_time(self._database.read)
        except LedgerUnavailable:
            return
        after = time.monotonic()
        if found is not None:
            self._found = int(found * 1_000_000), (before + after) / 2


def wall_clock() -> int:
    """Return this machine's time of day in microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000


class LedgerCore:
    """What the objects of one ledger share: its database, its clock, which opt-outs are sent again, and till when.

    And the rules of the guards of each connection's events.
    """

    def __init__(
        self,
        url: str,
        reassert: ReassertRules | None = None,
        clock: Clock | None = None,
        deadline_rules: DeadlineRules | None = None,
        guards_of: GuardsOf | None = None,
    ) -> None:
        self.database = Database(url)
        self.reassert = reassert or ReassertRules()
        self.deadline_rules = deadline_rules or DeadlineRules()
        self.guards_of = guards_of or (lambda _connection: GuardRules())
        self.now = clock or (wall_clock if self.database.is_sqlite else ServerClock(self.database))


class LedgerPart:
    """One kind of work on a ledger."""

    def __init__(self, core: LedgerCore) -> None:
        self.core = core
        self.database = core.database
