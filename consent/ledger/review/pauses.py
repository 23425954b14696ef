"""Pauses: what a person does not want to be delivered for now: a connection, one of its buckets, or its opt-ins alone.

A pause changes no change: what is paused stays pending, and the newest change of each slot wins as ever. Each claim
looks for pauses in its own transaction, so that none is made once a pause is committed, and what is under way then is
settled. Claims leave whole lanes out, which the index of what is due begins with: what is paused costs them nothing,
however much it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Row,
    SmallInteger,
    Table,
    Text,
    and_,
    select,
)
from sqlalchemy import delete as delete_from
from sqlalchemy import update as update_of

from consent.change import Bucket, Lane, read_bucket
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.statements import NEW, bulk
from consent.ledger.queue.enqueue import of_bucket, within
from consent.ledger.review.fuse_steps import look_again
from consent.ledger.schema import audit_log, circuit_breakers, customer_tasks, is_due, is_put_off, metadata
from consent.times import from_micros

pauses = Table(
    "pauses",
    metadata,
    Column("connection", Text, primary_key=True),
    Column("every_bucket", SmallInteger, primary_key=True, autoincrement=False),
    Column("bucket", Text, primary_key=True),
    Column("only_optins", SmallInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("who", "why")),
)
"""What is paused: a connection with all its buckets, those to come as well (`every_bucket` = 1), or one bucket."""

ALL_LANES = tuple(Lane)
OPTOUT_LANES = tuple(lane for lane in Lane if lane <= Lane.BULK_OPTOUT)


@dataclass(frozen=True, slots=True)
class Pause:
    """One pause: since when (microseconds), who did it and why; `bucket` is None if it is the whole connection's."""

    connection: str
    bucket: str | None
    only_optins: bool
    since: int
    who: str
    why: str

    def covers(self, bucket: Bucket) -> bool:
        """Whether a bucket is paused by it."""
        return self.connection == bucket.connection and self.bucket in (None, bucket.name)

    @property
    def message(self) -> str:
        """Say it, with the command that ends it."""
        what = "opt-ins are paused" if self.only_optins else "paused"
        resume = f"optrelay resume {self.connection}" + ("" if self.bucket is None else f" --bucket '{self.bucket}'")
        return (
            f"{what} by {self.who} since {from_micros(self.since):%Y-%m-%d %H:%M} UTC ({self.why}): `{resume} --why …`"
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as programs read it; `only` is null where opt-outs are paused as well."""
        return {
            "connection": self.connection,
            "bucket": self.bucket,
            "only": "optins" if self.only_optins else None,
            "since": from_micros(self.since).isoformat(),
            "who": self.who,
            "why": self.why,
        }


def pause_of(found: Iterable[Pause], bucket: Bucket) -> Pause | None:
    """Return which of these pauses holds back most of a bucket, of several the oldest; None if none covers it."""
    covering = [one for one in found if one.covers(bucket)]
    return min(covering, key=lambda one: (one.only_optins, one.since), default=None)


class Pauses(LedgerPart):
    """What is paused, and who paused and resumed it. Each method raises LedgerUnavailable."""

    def current(self) -> list[Pause]:
        """Return the pauses that hold now."""
        query = select(pauses).order_by(pauses.c.connection, pauses.c.every_bucket.desc(), pauses.c.bucket)
        return [_pause(row) for row in self.database.read(lambda tx: tx.execute(query).all())]

    def known_buckets(self, connection: str) -> list[Bucket]:
        """Return the buckets of a connection that were called before, or are paused."""

        def work(tx: Connection) -> list[str]:
            called = map(read_bucket, tx.execute(select(circuit_breakers.c.name)).scalars())
            paused = (pauses.c.connection == connection, pauses.c.every_bucket == 0)
            its = tx.execute(select(pauses.c.bucket).where(*paused)).scalars()
            return [*(one.name for one in called if one.connection == connection), *its]

        return [Bucket(connection, name) for name in sorted(set(self.database.read(work)))]

    def stopping(self, buckets: Iterable[Bucket]) -> dict[Bucket, Pause]:
        """Return which of these buckets, which have something left, deliver nothing because of a pause."""
        found = self.current()
        covering = {bucket: pause for bucket in buckets if (pause := pause_of(found, bucket)) is not None}
        return {
            bucket: pause
            for bucket, pause in covering.items()
            if not (pause.only_optins and self.database.read(partial(_has_optouts, bucket=bucket)))
        }

    def pause(
        self, connection: str, bucket: str | None, *, only_optins: bool, who: str, why: str
    ) -> tuple[Pause, bool]:
        """Pause a connection (bucket None) or one bucket; return the pause that holds now, and whether that is new.

        One that pauses as much stays as it is; one of opt-ins alone becomes a whole one if that is asked for.
        """
        now = self.core.now()
        key, mine = (connection, int(bucket is None), bucket or ""), _is(connection, bucket)
        facts = {"only_optins": int(only_optins), "since": now, "who": who, "why": why}

        def work(tx: Connection) -> tuple[Pause, bool]:
            columns = ("connection", "every_bucket", "bucket", *facts)
            is_new = bulk(tx).insert(pauses, columns, [(*key, *facts.values())], NEW)
            row = tx.execute(select(pauses).where(mine).with_for_update()).one()
            if row.only_optins and not only_optins:
                is_new = tx.execute(update_of(pauses).where(mine).values(**facts)).rowcount
                row = tx.execute(select(pauses).where(mine)).one()
            found = _pause(row)
            if is_new:
                _note(tx, [found], "paused", who, why, now)
            return found, bool(is_new)

        return self.database.write(work)

    def resume(
        self, connection: str, bucket: str | None, *, only_optouts: bool = False, who: str, why: str
    ) -> list[Pause]:
        """End every pause of a connection (bucket None), or that of one bucket; return those that have ended.

        With `only_optouts` its opt-ins stay paused. Workers find what is due by the next sweep, which also enqueues the
        customers whose opt-ins were paused while a fuse held their opt-outs.
        """
        now = self.core.now()
        which = pauses.c.connection == connection if bucket is None else _is(connection, bucket)
        which = and_(which, pauses.c.only_optins == 0) if only_optouts else which

        def work(tx: Connection) -> list[Pause]:
            ended = [_pause(row) for row in tx.execute(select(pauses).where(which).with_for_update())]
            if only_optouts:
                tx.execute(update_of(pauses).where(which).values(only_optins=1))
            else:
                tx.execute(delete_from(pauses).where(which))
                look_again(tx, connection, bucket)
            _note(tx, ended, "resumed opt-outs of" if only_optouts else "resumed", who, why, now)
            return ended

        return self.database.write(work)


def _has_optouts(tx: Connection, bucket: Bucket) -> bool:
    one = select(customer_tasks.c.target_id).where(*of_bucket(bucket), *within(OPTOUT_LANES)).limit(1)
    return any(tx.execute(one.where(state)).first() is not None for state in (is_due, is_put_off))


def _is(connection: str, bucket: str | None) -> ColumnElement[bool]:
    key = (pauses.c.every_bucket == int(bucket is None), pauses.c.bucket == (bucket or ""))
    return and_(pauses.c.connection == connection, *key)


def _note(tx: Connection, found: Sequence[Pause], what: str, who: str, why: str, now: int) -> None:
    columns = ("at", "who", "what", "why", "change_id")
    bulk(tx).insert(audit_log, columns, [(now, who, f"{what} {_name(one)}", why, 0) for one in found])


def _name(one: Pause) -> str:
    place = one.connection if one.bucket is None else f"bucket {one.bucket!r} of {one.connection}"
    return f"the opt-ins of {place}" if one.only_optins else place


def _pause(row: Row[Any]) -> Pause:
    bucket = None if row.every_bucket else row.bucket
    return Pause(row.connection, bucket, bool(row.only_optins), row.since, row.who, row.why)
