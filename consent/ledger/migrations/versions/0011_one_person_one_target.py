"""One person is one target, whatever the spelling, and slots are written without escapes.

Targets that name one person are merged into the first of them: what they held, waited for and were told goes on there,
and of each slot the newest word stands, an opt-out on a tie. Where the merged ones said different things, no one knows
what the provider holds, and what stands is delivered again. So is an opt-out that went to an address which names no one
as it was written, with an invisible character or spaces in it: from now on that is sent as it is meant.

A target's key is part of what changes are known by, so these keys are computed anew, where that can be done: of a
change with an id of its producer's the id is not kept. Ids that were given out stay good by `former_ids`.
"""

import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from typing import Any

import orjson
import sqlalchemy as sa
from alembic import op

from consent.identifiers.identity import identity_of
from consent.ledger.migrations import merging

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_LOCKED = "alembic_version, imports, targets, changes, repeats, slots, customer_tasks, attempts"
_ESCAPED = "SELECT DISTINCT target_id FROM changes WHERE slot LIKE '%\\u%' ESCAPE '!'"


def upgrade() -> None:
    """Make the tables of former names, and merge."""
    tx = op.get_bind()
    if tx.dialect.name == "postgresql":
        # Whoever writes has read the revision first: so everybody who took it for the old one ends before we begin.
        op.execute(f"LOCK TABLE {_LOCKED} IN ACCESS EXCLUSIVE MODE")
    key = sa.LargeBinary()
    op.create_table(
        "target_aliases",
        sa.Column("target_key", key, primary_key=True),
        sa.Column("target_id", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "former_ids", sa.Column("key", key, primary_key=True), sa.Column("change_id", sa.BigInteger(), nullable=False)
    )
    secret = tx.execute(sa.text("SELECT value FROM ledger_info WHERE name = 'hash_key'")).scalar()
    if secret is not None:
        _merge(tx, _Hashes(bytes.fromhex(secret)))


class _Hashes:
    """The keys of targets and changes as they were, and as they are from this revision on."""

    def __init__(self, secret: bytes) -> None:
        self._fresh = blake2b(key=secret, digest_size=16)

    def target(self, connection: str, address: Mapping[str, str]) -> bytes:
        return self._hash(f"{connection}\0{_canonical(address)}".encode())

    def change(self, target: bytes, slot: str, action: str, since: int, details: str) -> bytes:
        return self._hash(target + f"{slot}\0{action}\0{since}\0{details}".encode())

    def _hash(self, data: bytes) -> bytes:
        hashing = self._fresh.copy()
        hashing.update(data)
        return hashing.digest()


def _canonical(value: Mapping[str, Any]) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _merge(tx: sa.Connection, hashes: _Hashes) -> None:
    merging.prepare(tx)
    _name(tx, hashes)
    if merging.find_moving(tx):
        _move(tx, hashes)
    merging.clean_up(tx)


def _move(tx: sa.Connection, hashes: _Hashes) -> None:
    op.drop_index("ix_changes_target", "changes")
    merging.put(tx, "moved_changes", _moved_changes(tx, hashes))
    merging.put(tx, "moved_repeats", _moved_repeats(tx, hashes))
    merging.put(tx, "moved_slots", merging.moved_slots(tx, plainly))
    merging.move(tx)
    op.create_index("ix_changes_target", "changes", ["target_id", "dedupe_key"], unique=True)
    merging.tell(tx)


def _name(tx: sa.Connection, hashes: _Hashes) -> None:
    """Note of every target that may have several names which one it has from now on, and its slot if it has one."""
    by_name = _sources_by_name(tx)
    aliases: list[tuple[bytes, int]] = []
    escaped = {number for (number,) in merging.rows(tx, _ESCAPED)}

    def names() -> Iterator[tuple[Any, ...]]:
        query = "SELECT id, target_key, connection, address FROM targets"
        for number, old, connection, text in merging.rows(tx, query):
            if '"destination"' not in text and '"identifier_value"' not in text:
                if number in escaped:
                    yield number, bytes(old), None, text, 1, 0
                continue
            address = json.loads(text)
            slot = _block_of(address)
            written = {"destination": address["destination"]} if slot else address
            named, sent = dict(identity_of(written)), _as_meant(written)
            if number in by_name:
                aliases.append((hashes.target(connection, named), number))
                named["source"] = "INSTORE"
                sent = sent if by_name[number] else {**sent, "source": "INSTORE"}
            new = hashes.target(connection, named)
            amended = sent != written
            renamed = new != bytes(old) or number in escaped or (slot or "blocked") != "blocked" or amended
            yield number, new, slot, _canonical(sent), int(renamed), int(amended)

    merging.put(tx, "naming", names())
    merging.put(tx, "named_too", iter(aliases))


def _as_meant(address: Mapping[str, str]) -> Mapping[str, str]:
    """Return an address as it is sent, without what a provider finds no one by; letter case is kept, and a +."""
    named = identity_of(address)
    for column in ("destination", "identifier_value"):
        if column in address and named[column] not in (address[column], address[column].lower()):
            plus = "+" if address.get("identifier_name") == "mobile" and address[column].strip().startswith("+") else ""
            return address if plus + named[column] == address[column] else {**named, column: plus + named[column]}
    return address


def _block_of(address: Mapping[str, str]) -> str | None:
    """Return the slot of a person on Infobip's blocklist, whose channel and sender were part of the address."""
    if "destination" not in address:
        return None
    place = [address.get("channel", ""), address.get("sender", "")]
    return f"blocked:{_listed(place)}" if any(place) else "blocked"


def _listed(parts: list[Any]) -> str:
    return json.dumps(parts, separators=(",", ":"), ensure_ascii=False)


def plainly(slot: str) -> str:
    """Return a slot without escapes; of two lists, Capillary's and Infobip's criteria, the letters were escaped."""
    kind, parted, member = ("", "", slot) if slot.startswith("[") else slot.partition(":")
    if "\\u" not in slot or (parted and kind != "criteria"):
        return slot
    return f"{kind}{parted}{_listed(json.loads(member))}"


def _sources_by_name(tx: sa.Connection) -> dict[int, bool]:
    """Return the targets that were looked up in a source because consent had been collected there, and if it was found.

    Each of their changes tells the same `source_name`. No one can tell from who they differ who were given that source
    by a column of its own: so from now on they are found by both.
    """
    query = (
        "SELECT DISTINCT targets.id, address, details, state "
        "FROM targets JOIN changes ON changes.target_id = targets.id "
        """WHERE address LIKE '%"identifier_value"%' AND NOT address LIKE '%"source":"INSTORE"%'"""
    )
    told: dict[int, bool] = {}
    served: set[int] = set()
    for number, address, details, state in merging.rows(tx, query):
        source = json.loads(address).get("source")
        told[number] = told.get(number, True) and json.loads(details).get("source_name") == source
        if state in {"applied", "unchanged"}:
            served.add(number)
    return {number: number in served for number, same in told.items() if same}


def _moved_changes(tx: sa.Connection, hashes: _Hashes) -> Iterator[tuple[Any, ...]]:
    for target, found in groupby(_said(tx, hashes, "changes", "changes.id"), key=itemgetter(1)):
        words = list(found)
        known = {new for _, _, _, old, new, _ in words if old == new}
        for number, _, slot, old, anew, renamed in words:
            # Two spellings may have said the very same: the second keeps its key, which nothing is compared with.
            new = old if anew in known else anew
            known.add(new)
            yield number, target, slot, old, new, int(renamed or old != new)


def _moved_repeats(tx: sa.Connection, hashes: _Hashes) -> Iterator[tuple[Any, ...]]:
    found = _said(tx, hashes, "repeats", "repeats.import_id, repeats.number")
    for import_id, number, target, slot, _, new, _ in found:
        yield import_id, number, target, slot, new


def _said(tx: sa.Connection, hashes: _Hashes, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    """Give the words of targets that move: what names them, target, slot, key, new key, and if the target's is new."""
    query = (
        f"SELECT {columns}, new_id, target_key, new_key, moving.slot, {table}.slot, action, effective_at, details, "  # noqa: S608
        f"dedupe_key FROM moving JOIN targets ON targets.id = moving.id JOIN {table} ON {table}.target_id = moving.id "
        f"ORDER BY new_id, {columns}"
    )
    for *own, target, before, after, narrowed, slot, action, since, details, found in merging.rows(tx, query):
        old, was, now = bytes(found), bytes(before), bytes(after)
        said = narrowed or plainly(slot)
        new = old
        if (was, slot) != (now, said) and hashes.change(was, slot, action, since, details) == old:
            new = hashes.change(now, said, action, since, details)
        yield (*own, target, said, old, new, was != now)
