"""The story of the targets that some columns name: what was said about them, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product

import orjson
from sqlalchemy import ColumnElement, Connection, and_, or_, select

from consent.change import Bucket
from consent.identifiers.identity import is_same
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.statements import bulk, plain_rows, portions
from consent.ledger.keys import LOOKED_UP_BY, Form, Keys, aliases_of, known_forms
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

    def histories(
        self, named: Sequence[Mapping[str, str]], connection: str | None, limit: int, latest: int | None = None
    ) -> list[History]:
        """Return the stories of at most `limit` targets whose address holds all of one of these sets of columns.

        Spelling does not matter where it does not matter for who a change is about. A whole name is looked up by its
        key, however large the ledger is. A part of one, such as a subscription's app alone, is compared with the
        addresses of every connection that has such names. Of each target all changes are told, or the `latest`. Raises
        LedgerUnavailable.
        """
        secret = self.database.hash_key

        def work(tx: Connection) -> list[History]:
            found = _find(tx, secret, named, connection, limit)
            return [_history(tx, found[number], latest) for number in sorted(found)[:limit]]

        return self.database.read(work)

    def targets_named(self, named: Sequence[Mapping[str, str]], connection: str | None) -> tuple[int, ...]:
        """Return the numbers of the targets that `histories` would tell of; raises LedgerUnavailable."""
        secret = self.database.hash_key
        return self.database.read(lambda tx: tuple(sorted(_find(tx, secret, named, connection, None))))

    def latest_customer(self, connection: str) -> tuple[Bucket, CustomerTask] | None:
        """Return the target that came last to a connection, as a task with nothing to deliver, or None."""
        query = select(targets.c.id, targets.c.bucket, targets.c.address).where(targets.c.connection == connection)
        row = self.database.read(lambda tx: tx.execute(query.order_by(targets.c.id.desc()).limit(1)).first())
        return None if row is None else (Bucket(connection, row[1]), CustomerTask(row[0], orjson.loads(row[2]), ()))


_AT_ONCE = 100
_TARGETS = "id, connection, address, target_key FROM targets WHERE target_key"

_Target = tuple[int, str, str]
"""A target's number, its connection, and its address as text."""


def _find(
    tx: Connection, secret: bytes, named: Sequence[Mapping[str, str]], connection: str | None, limit: int | None
) -> dict[int, _Target]:
    """Return the targets whose address holds one of these sets, by number; of each hundred parts `limit` at most."""
    keys, wanted = Keys(secret), list[bytes]()
    parts, theirs = dict[tuple[tuple[str, str], ...], Mapping[str, str]](), set[str]()
    for name, forms in known_forms(tx).items():
        for columns, form in product(named, forms) if connection in {None, name} else ():
            if _fits(columns, form) and form.keys() - columns.keys() <= set(LOOKED_UP_BY):
                wanted.append(keys.target(name, {**form, **columns})[0])
            elif _fits(columns, form):
                parts[tuple(columns.items())] = columns
                theirs.add(name)
    main = (key for key, _ in aliases_of(tx, wanted))
    rows = bulk(tx).select_by_key(_TARGETS, list(dict.fromkeys([*wanted, *main])))
    found: dict[int, _Target] = {row[0]: row[:3] for row in rows}
    for some in portions(list(parts.values()), _AT_ONCE):
        found |= {row[0]: row for row in islice(_compared(tx, some, sorted(theirs)), limit)}
    return found


def _fits(columns: Mapping[str, str], form: Form) -> bool:
    """Whether an address of this form can hold these columns."""
    same = all(form.get(name) == columns[name] for name in LOOKED_UP_BY if name in columns)
    return same and columns.keys() <= form.keys()


def _compared(tx: Connection, some: Sequence[Mapping[str, str]], theirs: Sequence[str]) -> Iterator[_Target]:
    """Give the targets of these connections whose address holds one of these sets, a few at a time."""
    query = select(targets.c.id, targets.c.connection, targets.c.address).where(targets.c.connection.in_(theirs))
    near = query.where(or_(*(_holds(tx, one) for one in some))).order_by(targets.c.id)
    with tx.execute(near, execution_options={"yield_per": 1_000}) as rows:
        for number, connection, address in rows:
            if any(is_same(orjson.loads(address), columns) for columns in some):
                yield number, connection, address


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


def _history(tx: Connection, target: _Target, latest: int | None) -> History:
    number, connection, address = target
    confirmed = (slots.c.confirmed, slots.c.confirmed_at)
    now = select(slots.c.slot, slots.c.newest_action, slots.c.newest_at, *confirmed, slots.c.newest_id)
    registers = plain_rows(tx.execute(now.where(slots.c.target_id == number).order_by(slots.c.slot)))
    return History(
        connection,
        orjson.loads(address),
        [SlotNow(*register[:-1]) for register in registers],
        changes_of(tx, number, latest),
        [register[-1] for register in registers],
    )
