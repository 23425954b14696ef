"""What revision 0011 does set by set: temporary tables of what moves where, and one statement for each table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, text

_BATCH = 10_000
_HONOUR_WITHIN = 48 * 3600 * 1_000_000
_DOUBTFUL = "a call may still be under way"

_TABLES = {
    "naming": "id BIGINT PRIMARY KEY, new_key {key}, slot TEXT, address TEXT, renamed SMALLINT, amended SMALLINT",
    "named_too": "target_key {key}, id BIGINT",
    "moved_changes": "id BIGINT PRIMARY KEY, target_id BIGINT, slot TEXT, old_key {key}, new_key {key}, "
    "former SMALLINT",
    "moved_repeats": "import_id TEXT, number BIGINT, target_id BIGINT, slot TEXT, new_key {key}, "
    "PRIMARY KEY (import_id, number)",
    "moved_slots": "target_id BIGINT, slot TEXT, newest_id BIGINT, newest_at BIGINT, newest_action TEXT, "
    "confirmed TEXT, newest_key {key}, confirmed_at BIGINT, told_again SMALLINT",
    "overtaken": "id BIGINT PRIMARY KEY, winner BIGINT",
}


def prepare(tx: Connection) -> None:
    """Make the temporary tables."""
    postgresql = tx.dialect.name == "postgresql"
    for name, columns in _TABLES.items():
        kinds = columns.format(key="BYTEA" if postgresql else "BLOB")
        if not postgresql:
            kinds = kinds.replace("id BIGINT PRIMARY KEY", "id INTEGER PRIMARY KEY")
        tx.execute(text(f"CREATE TEMPORARY TABLE {name} ({kinds}){' ON COMMIT DROP' if postgresql else ''}"))


def put(tx: Connection, name: str, found: Iterator[Sequence[Any]]) -> None:
    """Put rows into one of the tables, some at a time."""
    while some := list(islice(found, _BATCH)):
        if tx.dialect.name == "postgresql":
            with tx.connection.cursor() as cursor, cursor.copy(f"COPY {name} FROM STDIN") as copy:  # type: ignore[attr-defined]
                for row in some:
                    copy.write_row(row)
        else:
            marks = ", ".join("?" * len(some[0]))
            tx.exec_driver_sql(f"INSERT INTO {name} VALUES ({marks})", [tuple(row) for row in some])  # noqa: S608
    if tx.dialect.name == "postgresql":
        tx.execute(text(f"ANALYZE {name}"))


def rows(tx: Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """Give the rows of a query some at a time, while others are written."""
    with tx.execute(text(query), execution_options={"yield_per": _BATCH}) as found:
        for some in found.partitions():
            yield from map(tuple, some)


def find_moving(tx: Connection) -> int:
    """Find which targets change their name, or are joined by another; return how many."""
    tx.execute(text(_SAME_SOURCE))
    temporary = " ON COMMIT DROP" if tx.dialect.name == "postgresql" else ""
    tx.execute(
        text(
            f"CREATE TEMPORARY TABLE moving{temporary} AS SELECT id, new_key, slot, address, amended, "  # noqa: S608
            "first_value(id) OVER (PARTITION BY new_key ORDER BY id) AS new_id, "
            "count(*) OVER (PARTITION BY new_key) AS members, max(renamed) OVER (PARTITION BY new_key) AS renamed "
            "FROM naming"
        )
    )
    tx.execute(text("DELETE FROM moving WHERE members = 1 AND renamed = 0"))
    tx.execute(text("CREATE UNIQUE INDEX ix_moving ON moving (id)"))
    tx.execute(text(_ADDRESS_THAT_WORKED))
    if tx.dialect.name == "postgresql":
        tx.execute(text("ANALYZE moving"))
    return int(tx.execute(text("SELECT count(*) FROM moving")).scalar_one())


_SAME_SOURCE = """
    UPDATE naming SET new_key = named.new_key, renamed = 1
    FROM named_too JOIN naming AS named ON named.id = named_too.id WHERE naming.new_key = named_too.target_key
"""
"""Who was given by a column the source that others have by the name of theirs is one of them."""


_ADDRESS_THAT_WORKED = """
    UPDATE moving SET address = best.address FROM (
        SELECT id, first_value(address) OVER (PARTITION BY new_id ORDER BY served DESC, id) AS address FROM (
            SELECT id, new_id, address, EXISTS (
                SELECT 1 FROM changes WHERE target_id = moving.id AND state IN ('applied', 'unchanged')
            ) AS served FROM moving
        ) AS tried
    ) AS best WHERE best.id = moving.id
"""
"""Of several addresses the first is sent by which the provider has found the person, if it has by any."""


def moved_slots(tx: Connection, plainly: Callable[[str], str]) -> Iterator[tuple[Any, ...]]:
    """Give the registers of merged targets: of each slot the newest word, an opt-out on a tie.

    What was confirmed is kept only where nothing was merged or amended. Words that were overtaken are noted in
    `overtaken`. An opt-out is told again if others said otherwise, or if it was only told to an address that has been
    amended; one that died is so if it overtakes one that is pending.
    """
    query = (
        "SELECT new_id, moving.slot, slots.slot, newest_id, newest_at, newest_action, confirmed, "
        "CASE WHEN newest_key = old_key THEN moved_changes.new_key ELSE newest_key END, confirmed_at, members, "
        "amended, state FROM moving JOIN slots ON slots.target_id = moving.id "
        "LEFT JOIN moved_changes ON moved_changes.id = newest_id LEFT JOIN changes ON changes.id = newest_id "
        "ORDER BY new_id"
    )
    overtaken: list[tuple[int, int]] = []
    for target, found in groupby(rows(tx, query), key=itemgetter(0)):
        slots: dict[str, list[tuple[Any, ...]]] = {}
        for _, narrowed, slot, *register in found:
            slots.setdefault(narrowed or plainly(slot), []).append(tuple(register))
        one_block = all(slot.startswith("blocked") for slot in slots)
        everything = {register[2] for registers in slots.values() for register in registers}
        for slot, registers in slots.items():
            best = max(registers, key=lambda one: (one[1], one[2] == "OPTOUT", one[0]))
            number, since, action, confirmed, key, confirmed_at, members, amended, state = best
            overtaken += [(one[0], number) for one in registers if one[0] != number]
            said = everything if one_block else {register[2] for register in registers}
            kept = members == 1 and not amended
            held = (confirmed, key, confirmed_at) if kept else (None, key, None)
            told_again = (members > 1 and len(said) > 1) or (action == "OPTOUT" and not _reached(registers))
            revived = state == "dead" and action == "OPTOUT" and any(one[8] == "pending" for one in registers)
            yield target, slot, number, since, action, *held, 2 if revived else int(told_again)
    put(tx, "overtaken", iter(overtaken))


def _reached(registers: Sequence[tuple[Any, ...]]) -> bool:
    """Say whether the provider was told of these registers by an address that is sent from now on, too."""
    return any(not amended for *_, amended, _ in registers)


def move(tx: Connection) -> None:
    """Let everything refer to the targets as they are from now on."""
    now = time.time_ns() // 1_000
    for statement in _STATEMENTS:
        named = {"now": now, "deadline": now + _HONOUR_WITHIN}
        wanted = {name: value for name, value in named.items() if f":{name}" in statement}
        tx.execute(text(statement), wanted)
    if tx.dialect.name == "postgresql":
        for name in ("targets", "changes", "slots", "customer_tasks"):
            tx.execute(text(f"ANALYZE {name}"))


_STATEMENTS = (
    # Tasks first: their targets are known by the old numbers.
    f"""
    CREATE TEMPORARY TABLE moved_tasks AS SELECT new_id AS target_id, min(connection) AS connection,
        min(bucket) AS bucket, min(lane) AS lane, min(deadline) AS deadline,
        CASE WHEN max(lease_token) IS NULL THEN max(waiting) ELSE 0 END AS waiting,
        CASE WHEN max(lease_token) IS NULL THEN min(next_at)
            ELSE max(CASE WHEN lease_token IS NULL THEN 0 ELSE next_at END) END AS next_at,
        max(tries) AS tries, max(again) AS again,
        coalesce(max(CASE WHEN lease_token <> '{_DOUBTFUL}' THEN lease_token END), max(lease_token)) AS lease_token
    FROM moving JOIN customer_tasks ON target_id = moving.id GROUP BY new_id
    """,  # noqa: S608 - words of our own
    "DELETE FROM customer_tasks WHERE target_id IN (SELECT id FROM moving)",
    """
    INSERT INTO customer_tasks
        (target_id, connection, bucket, lane, deadline, waiting, next_at, tries, again, lease_token)
    SELECT target_id, connection, bucket, lane, deadline, waiting, next_at, tries, again, lease_token FROM moved_tasks
    """,
    "DROP TABLE moved_tasks",
    "INSERT INTO former_ids SELECT old_key, id FROM moved_changes WHERE former = 1 ON CONFLICT DO NOTHING",
    """
    UPDATE changes SET target_id = moved.target_id, slot = moved.slot, dedupe_key = moved.new_key
    FROM moved_changes AS moved WHERE moved.id = changes.id
    """,
    """
    UPDATE changes SET state = 'superseded', superseded_by = overtaken.winner, settled_at = :now
    FROM overtaken WHERE overtaken.id = changes.id AND state = 'pending'
    """,
    """
    UPDATE repeats SET target_id = moved.target_id, slot = moved.slot, dedupe_key = moved.new_key
    FROM moved_repeats AS moved WHERE moved.import_id = repeats.import_id AND moved.number = repeats.number
    """,
    "UPDATE attempts SET target_id = moving.new_id FROM moving WHERE moving.id = target_id AND moving.id <> new_id",
    "DELETE FROM slots WHERE target_id IN (SELECT id FROM moving)",
    """
    INSERT INTO slots (target_id, slot, newest_id, newest_at, newest_action, confirmed, newest_key, confirmed_at)
    SELECT target_id, slot, newest_id, newest_at, newest_action, confirmed, newest_key, confirmed_at FROM moved_slots
    ORDER BY target_id, slot
    """,
    """
    UPDATE changes SET state = 'pending', settled_at = NULL, attempts = CASE state WHEN 'dead' THEN 0 ELSE attempts END
    FROM moved_slots
    WHERE changes.id = newest_id AND (told_again = 1 AND state IN ('applied', 'unchanged')
        OR told_again = 2 AND state = 'dead' AND discarded_at IS NULL)
    """,
    """
    INSERT INTO customer_tasks (target_id, connection, bucket, lane, deadline, waiting, next_at)
    SELECT targets.id, connection, bucket, min(CASE newest_action WHEN 'OPTOUT' THEN 1 ELSE 3 END), :deadline, 1, :now
    FROM moved_slots JOIN targets ON targets.id = moved_slots.target_id JOIN changes ON changes.id = newest_id
    WHERE told_again > 0 AND state = 'pending' GROUP BY targets.id, connection, bucket
    ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO target_aliases SELECT named_too.target_key, min(new_id)
    FROM named_too JOIN moving ON moving.id = named_too.id GROUP BY named_too.target_key
    """,
    "DELETE FROM targets WHERE id IN (SELECT id FROM moving WHERE id <> new_id)",
    """
    UPDATE targets SET target_key = moving.new_key, address = moving.address FROM moving WHERE moving.id = targets.id
    """,
)


def tell(tx: Connection) -> None:
    """Note what was done, for whoever migrates."""
    counts = {name: int(tx.execute(text(query)).scalar_one()) for name, query in _COUNTS.items()}
    tx.execute(
        text("INSERT INTO ledger_info (name, value) VALUES ('merged_by_0011', :counts)"), {"counts": json.dumps(counts)}
    )


def clean_up(tx: Connection) -> None:
    """Drop the temporary tables; PostgreSQL does it by itself."""
    if tx.dialect.name != "postgresql":
        for name in (*_TABLES, "moving"):
            tx.execute(text(f"DROP TABLE IF EXISTS {name}"))


_COUNTS = {
    "targets_merged": "SELECT count(*) FROM moving WHERE id <> new_id",
    "targets_renamed": "SELECT count(*) FROM moving WHERE id = new_id AND renamed = 1",
    "changes_moved": "SELECT count(*) FROM moved_changes",
    "superseded": "SELECT count(*) FROM overtaken JOIN changes ON changes.id = overtaken.id "
    "WHERE winner = superseded_by",
    "delivered_again": "SELECT count(*) FROM moved_slots JOIN changes ON changes.id = newest_id "
    "WHERE told_again > 0 AND state = 'pending'",
}
