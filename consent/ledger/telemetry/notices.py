"""Notices: what a person has to know, told once when it begins and once when it is over.

What is found opens a notice by its key, or goes on with the one that is open; what is found no more resolves it. Each
of these edges writes a message into the outbox in the same transaction. Senders take messages under a lease: one that
was sent and not noted, because its sender was killed, is sent again with the same id.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    Row,
    SmallInteger,
    Table,
    Text,
    delete,
    func,
    select,
    union_all,
    update,
)

from consent.ledger.database import LedgerPart
from consent.ledger.dialects.locks import lock_tallies
from consent.ledger.dialects.statements import bulk
from consent.ledger.schema import NUMBER, audit_log, metadata
from consent.times import from_micros

notices = Table(
    "notices",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("key", Text, nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("words", Text, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("resolved_at", BigInteger),
    Column("count", Integer, nullable=False),
    Column("told_at", BigInteger, nullable=False),
    Column("acknowledged_at", BigInteger),
    Column("acknowledged_by", Text),
    Column("why", Text),
)
"""What people are told of; no person is named. Of those with one key at most one is open (`resolved_at` is empty)."""

notice_messages = Table(
    "notice_messages",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Column("sent", SmallInteger, nullable=False, server_default="0"),
    Column("done", Text, nullable=False, server_default="[]"),
    Column("next_at", BigInteger, nullable=False, server_default="0"),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("reason", Text),
)
"""The outbox: a message for each edge, and the channels that have taken it (`done`, numbers). `next_at` is a lease."""

REPEAT_MICROS = 86_400_000_000
"""After so long an open notice that no one has acknowledged is told again."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One notice; moments in microseconds. `count` says how often it was found."""

    id: int
    key: str
    kind: str
    message: str
    opened_at: int
    last_at: int
    resolved_at: int | None
    count: int
    acknowledged_at: int | None
    acknowledged_by: str | None
    why: str | None

    def as_json(self) -> dict[str, Any]:
        """Return it as programs read it."""
        moments = ("opened_at", "last_at", "resolved_at", "acknowledged_at")
        times = {name: None if (at := getattr(self, name)) is None else from_micros(at).isoformat() for name in moments}
        facts = {"id": self.id, "key": self.key, "kind": self.kind, "words": self.message, "count": self.count}
        return facts | {"acknowledged_by": self.acknowledged_by, "why": self.why} | times


@dataclass(frozen=True, slots=True)
class Message:
    """A message that is to be sent: its id, when it was written (microseconds), and its body in JSON."""

    id: int
    at: int
    body: str
    done: frozenset[int]
    tries: int


class Notices(LedgerPart):
    """Notices and their outbox. Each method raises LedgerUnavailable."""

    def observe(
        self, kinds: Collection[str], found: Mapping[str, tuple[str, str]], *, tell: bool = True, within: str = ""
    ) -> None:
        """Open, go on with and resolve the notices of these kinds; `found` has kind and message of each by its key.

        Unless `tell`, no message is written: no channel is configured. Only keys that begin with `within` are resolved:
        where several look, each does so for its own.
        """
        now = self.core.now()
        mine = (notices.c.resolved_at.is_(None), notices.c.kind.in_(kinds), notices.c.key.startswith(within))

        def work(tx: Connection) -> None:
            lock_tallies(tx)
            edges: list[tuple[str, Row[Any]]] = []
            known = {row.key: row for row in tx.execute(select(notices).where(*mine)).all()}
            for key, (kind, message) in found.items():
                is_new = key not in known
                edges += _open(tx, key, kind, message, now) if is_new else _go_on(tx, known[key], message, now)
            for key, row in known.items():
                if key not in found:
                    _set(tx, row.id, resolved_at=now)
                    edges.append(("notice.resolved", row))
            for what, row in edges if tell else ():
                _tell(tx, what, row, now)

        known = select(notices.c.id).where(*mine).limit(1)
        if found or self.database.read(lambda tx: tx.execute(known).scalar()) is not None:
            self.database.write(work)

    def current(self, limit: int = 100) -> list[Notice]:
        """Return the open notices, newest first."""
        query = select(notices).where(notices.c.resolved_at.is_(None)).order_by(notices.c.id.desc()).limit(limit)
        return [_notice(row) for row in self.database.read(lambda tx: tx.execute(query).all())]

    def acknowledge(self, number: int, *, who: str, why: str) -> bool:
        """Note that a person knows of an open notice: it is not told again; return whether there is such a one.

        The audit log keeps it, too.
        """
        now = self.core.now()
        known = update(notices).where(notices.c.id == number, notices.c.resolved_at.is_(None))
        known = known.values(acknowledged_at=now, acknowledged_by=who, why=why)

        def work(tx: Connection) -> bool:
            kind = tx.execute(known.returning(notices.c.kind)).scalar()
            if kind is not None:
                row = (now, who, f"acknowledged notice {number}, {kind}", why, 0)
                bulk(tx).insert(audit_log, ("at", "who", "what", "why", "change_id"), [row])
            return kind is not None

        return self.database.write(work)

    def purge(self, before: int) -> int:
        """Remove notices that were over before a moment (microseconds), and messages sent before it; return how many.

        What is open, and what is still to be sent, stays.
        """
        old = (
            delete(notices).where(notices.c.resolved_at < before),
            delete(notice_messages).where(notice_messages.c.sent == 1, notice_messages.c.at < before),
        )
        found = union_all(
            select(notices.c.id).where(notices.c.resolved_at < before),
            select(notice_messages.c.id).where(notice_messages.c.sent == 1, notice_messages.c.at < before),
        ).limit(1)
        if self.database.read(lambda tx: tx.execute(found).first()) is None:
            return 0
        return self.database.write(lambda tx: sum(tx.execute(one).rowcount for one in old))

    def test_message(self) -> Message:
        """Return a message that only shows whether a channel works; it is not kept."""
        now = self.core.now()
        body = _body("notice.test", {"words": "a test of the channels: nothing is wrong"}, now)
        return Message(0, now, body, frozenset(), 1)

    def unsent_since(self) -> int | None:
        """Return when the oldest message was written that is not sent yet (microseconds), or None."""
        query = select(func.min(notice_messages.c.at)).where(notice_messages.c.sent == 0)
        return self.database.read(lambda tx: tx.execute(query).scalar())

    def take(self, seconds: float) -> Message | None:
        """Take the next message to send it, or None; no other sender takes it for so many seconds."""
        now = self.core.now()
        due = (notice_messages.c.sent == 0, notice_messages.c.next_at <= now)
        query = select(notice_messages).where(*due).order_by(notice_messages.c.id).limit(1)

        def work(tx: Connection) -> Message | None:
            lock_tallies(tx)
            if (row := tx.execute(query).first()) is None:
                return None
            mine = update(notice_messages).where(notice_messages.c.id == row.id)
            tx.execute(mine.values(next_at=now + int(seconds * 1e6), tries=row.tries + 1))
            return Message(row.id, row.at, row.body, frozenset(orjson.loads(row.done)), row.tries + 1)

        return self.database.write(work) if self.database.read(lambda tx: tx.execute(query).first()) else None

    def note_sent(
        self, message: Message, done: Collection[int], *, all_of_them: bool, reason: str, wait: float
    ) -> None:
        """Note which channels took a message; what is left is tried again after so many seconds."""
        values = {"done": orjson.dumps(sorted(done)).decode(), "sent": int(all_of_them), "reason": reason or None}
        values["next_at"] = self.core.now() + int(wait * 1e6)
        mine = update(notice_messages).where(notice_messages.c.id == message.id).values(**values)
        self.database.write(lambda tx: tx.execute(mine))


def _open(tx: Connection, key: str, kind: str, message: str, now: int) -> list[tuple[str, Row[Any]]]:
    facts = {"key": key, "kind": kind, "words": message, "opened_at": now, "last_at": now, "count": 1, "told_at": now}
    row = tx.execute(notices.insert().values(**facts).returning(notices)).one()
    return [("notice.opened", row)]


def _go_on(tx: Connection, row: Row[Any], message: str, now: int) -> list[tuple[str, Row[Any]]]:
    _set(tx, row.id, last_at=now, count=notices.c.count + 1, words=message)
    if row.acknowledged_at is not None or now - row.told_at < REPEAT_MICROS:
        return []
    _set(tx, row.id, told_at=now)
    return [("notice.repeated", row)]


def _set(tx: Connection, number: int, **values: Any) -> None:
    tx.execute(update(notices).where(notices.c.id == number).values(**values))


def _tell(tx: Connection, what: str, row: Row[Any], now: int) -> None:
    since = from_micros(row.opened_at).isoformat()
    data = {"id": row.id, "key": row.key, "kind": row.kind, "words": row.words, "since": since}
    tx.execute(notice_messages.insert().values(at=now, body=_body(what, data, now)))


def _body(what: str, data: Mapping[str, Any], now: int) -> str:
    """Return a message in the form of Standard Webhooks."""
    return orjson.dumps({"type": what, "timestamp": from_micros(now).isoformat(), "data": data}).decode()


def _notice(row: Row[Any]) -> Notice:
    facts = row._asdict()  # a row has a method `count`
    facts["message"] = facts.pop("words")
    return Notice(**{name: facts[name] for name in Notice.__dataclass_fields__})
