"""The story of the targets that some columns name: what was said about them, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import orjson
from sqlalchemy import ColumnElement, Connection, Row, and_, or_, select

from consent.change import Bucket
from consent.identifiers.identity import is_same
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.statements import bulk, portions
from consent.ledger.queries.changes import ChangeReport, changes_of
from consent.ledger.queue.tasks import CustomerTask
from consent.ledger.schema import slots, targets


@dataclass(frozen=True, slots=True)
class SlotNow:
    """A slot's newest change and the moment since when it holds (microseconds, also of words that only repeated it).

    `confirmed` is what the provider is confirmed to hold (None: not known), and `confirmed_at` when it confirmed that
    (microseconds; None also where that was before the ledger kept it).
    """

    slot: str
    action: str
    since: int
    confirmed: str | None
    confirmed_at: int | None


@dataclass(frozen=True, slots=True)
class History:
    """A target, its slots as they are now, and every change about it. `address` names the person.

    `newest_ids` are the numbers of its slots' newest changes.
    """

    connection: str
    address: Mapping[str, str] = field(repr=False)
    slots: Sequence[SlotNow]
    changes: Sequence[ChangeReport]
    newest_ids: Sequence[int] = ()


class HistoryQueries(LedgerPart):
    """The stories of targets."""

    def histories(self, named: Sequence[Mapping[str, str]], connection: str | None, limit: int) -> list[History]:
        """Return the stories of at most `limit` targets whose address holds all of one of these sets of columns.

        Spelling does not matter where it does not matter for who a change is about. No index knows what an address
        holds: all targets are read for every hundred sets. Raises LedgerUnavailable.
        """

        def work(tx: Connection) -> list[History]:
            found: dict[int, Row[int, str, str]] = {}
            for some in portions(named, _AT_ONCE):
                found |= {row.id: row for row in islice(_named(tx, some, connection), limit)}
            return [_history(tx, found[number]) for number in sorted(found)[:limit]]

        return self.database.read(work)

    def targets_named(self, named: Sequence[Mapping[str, str]], connection: str | None) -> tuple[int, ...]:
        """Return the numbers of the targets that `histories` would tell of; raises LedgerUnavailable."""

        def work(tx: Connection) -> tuple[int, ...]:
            groups = portions(named, _AT_ONCE)
            return tuple(sorted({row.id for some in groups for row in _named(tx, some, connection)}))

        return self.database.read(work)

    def latest_customer(self, connection: str) -> tuple[Bucket, CustomerTask] | None:
        """Return the target that came last to a connection, as a task with nothing to deliver, or None."""
        query = select(targets.c.id, targets.c.bucket, targets.c.address).where(targets.c.connection == connection)
        row = self.database.read(lambda tx: tx.execute(query.order_by(targets.c.id.desc()).limit(1)).first())
        return None if row is None else (Bucket(connection, row[1]), CustomerTask(row[0], orjson.loads(row[2]), ()))


_AT_ONCE = 100


def _named(tx: Connection, some: Sequence[Mapping[str, str]], connection: str | None) -> Iterator[Row[int, str, str]]:
    """Give the targets whose address holds one of these sets, a few at a time."""
    wanted = [targets.c.connection == connection] if connection else []
    query = select(targets.c.id, targets.c.connection, targets.c.address)
    near = query.where(or_(*(_holds(tx, one) for one in some)), *wanted).order_by(targets.c.id)
    with tx.execute(near, execution_options={"yield_per": 1_000}) as rows:
        yield from (row for row in rows if any(_names(row, columns) for columns in some))


def _holds(tx: Connection, columns: Mapping[str, str]) -> ColumnElement[bool]:
    """Say that the address, which is JSON without blanks, may have these columns in some spelling.

    Of a value only its letters and digits are looked for, in their order: other spellings have others between them.
    """
    matches = bulk(tx).matches
    plain = {name: "".join(filter(_is_plain, value)) for name, value in columns.items()}
    parts = ((f'%"{name}":"%{"%".join(value)}%', not value.isdigit()) for name, value in plain.items())
    return and_(*(matches(targets.c.address, part, has_letters=letters) for part, letters in parts))


def _is_plain(letter: str) -> bool:
    return letter.isascii() and letter.isalnum()


def _names(row: Row[int, str, str], columns: Mapping[str, str]) -> bool:
    return is_same(orjson.loads(row.address), columns)


def _history(tx: Connection, row: Row[int, str, str]) -> History:
    confirmed = (slots.c.confirmed, slots.c.confirmed_at)
    now = select(slots.c.slot, slots.c.newest_action, slots.c.newest_at, *confirmed, slots.c.newest_id)
    registers = tx.execute(now.where(slots.c.target_id == row.id).order_by(slots.c.slot)).all()
    return History(
        row.connection,
        orjson.loads(row.address),
        [SlotNow(*register[:-1]) for register in registers],
        changes_of(tx, row.id),
        [register.newest_id for register in registers],
    )
