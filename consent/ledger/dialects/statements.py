"""Statements about many rows at once, each in the way that the transaction's database likes best."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    CursorResult,
    Insert,
    Select,
    Table,
    Update,
    literal,
    literal_column,
    select,
    tuple_,
)

from consent.ledger.dialects import Held, Row, dialect_of
from consent.ledger.schema import changes

PARAMETERS = 5_000
"""Values in one IN list: well under the limit of either database (SQLite 32,766; PostgreSQL 65,535)."""

T = TypeVar("T")
Writing = TypeVar("Writing", Insert, Update)


def among(tx: Connection, column: Column[T], values: Sequence[T]) -> ColumnElement[bool]:
    """Say that a column holds one of these values, as one parameter: a mark for each would be planned anew."""
    return dialect_of(tx).among(column, values)


def portions(values: Sequence[Any], size: int = PARAMETERS) -> Iterator[Sequence[Any]]:
    """Yield `values` in slices that fit into one statement."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def insert_new(tx: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> int:
    """Insert the rows whose keys are not there yet; return how many there were. `rows` are values in column order."""
    return dialect_of(tx).insert(tx, table, columns, rows, "ON CONFLICT DO NOTHING")


def insert_all(tx: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Insert rows of which none can be there yet."""
    dialect_of(tx).insert_all(tx, table, columns, rows)


def insert_new_from(tx: Connection, table: Table, columns: Sequence[str], source: Select[Any]) -> int:
    """Insert the rows that a query finds, which must have a WHERE, if their keys are not there yet; return how many."""
    new = dialect_of(tx).upsert(table).from_select(list(columns), source).on_conflict_do_nothing()
    return tx.execute(new.execution_options(preserve_rowcount=True)).rowcount


@dataclass(frozen=True, slots=True)
class Renewal:
    """What becomes of a row whose key is there already: columns set to SQL expressions, if `where` says so.

    `excluded.x` is the new value. `where` spares the database rows that would be written as they are.
    """

    values: Mapping[str, str]
    where: str = "true"


def insert_or_update_from(
    tx: Connection, table: Table, columns: Sequence[str], source: Select[Any], renewal: Renewal
) -> int:
    """Insert the rows that a query finds, or renew those that are there; return how many. It must have a WHERE."""
    values: dict[str, ColumnElement[Any]] = {name: literal_column(sql) for name, sql in renewal.values.items()}
    upsert = dialect_of(tx).upsert(table).from_select(list(columns), source)
    renewed = upsert.on_conflict_do_update(
        index_elements=list(table.primary_key), set_=values, where=literal_column(renewal.where)
    )
    return tx.execute(renewed.execution_options(preserve_rowcount=True)).rowcount


@dataclass(frozen=True, slots=True)
class UpdateEach:
    """An update of one row for each of many sets of values: `{name}` stands for a value in its SQL.

    `types` names the values, and what PostgreSQL calls their types. No two sets may mean the same row.
    """

    table: str
    types: Mapping[str, str]
    values: str
    where: str

    def run(self, tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Update the rows."""
        if rows:
            sql = f"UPDATE {self.table} SET {self.values}{{source}} WHERE {self.where}"  # noqa: S608 - names of our own
            dialect_of(tx).update_each(tx, sql, self.types, rows)


def whole_or_nothing(statement: Writing) -> Writing:
    """Let the transaction end if this statement fails half way, so that SQLite need not keep each page as it was.

    It must not be said inside a savepoint, and the transaction is gone after it has failed.
    """
    return statement.prefix_with("OR ROLLBACK", dialect="sqlite")


def select_by_key(tx: Connection, columns: str, keys: Sequence[bytes]) -> list[Row]:
    """Return columns of the rows with these keys; each is looked up, however many there are.

    `columns` is SQL that names the key last: "id FROM targets WHERE target_key". It is the driver's own statement: Core
    would take as long again as the query.
    """
    return dialect_of(tx).select_by_key(tx, columns, keys) if keys else []


def select_registers(tx: Connection, targets: Sequence[bytes], slots: Sequence[str]) -> list[Held | None]:
    """Return what the slots of some changes hold, whose targets' keys and slots these are, side by side.

    None stands for a change about a target that the ledger does not know; a slot that has no register holds nothing.
    """
    held: list[Held | None] = [None] * len(targets)
    for place, *register in dialect_of(tx).select_registers(tx, targets, slots):
        held[place] = cast("Held", tuple(register))
    return held


def select_changes(tx: Connection, columns: str, whose: Mapping[bytes, int] | Sequence[tuple[bytes, int]]) -> list[Row]:
    """Return columns of the recorded ones of these changes, which are dedupe keys, each with its target's number."""
    if not whose:
        return []
    keys, numbers = zip(*(whose.items() if isinstance(whose, Mapping) else whose), strict=True)
    return dialect_of(tx).select_changes(tx, columns, keys, numbers)


def first_change(tx: Connection, import_id: str, after: int, *which: ColumnElement[bool]) -> int | None:
    """Return the number of an import's first such change behind a number, or None; no other import's are read."""
    # Of the two in one term: each on its own, PostgreSQL may go through the numbers of all imports.
    place = tuple_(changes.c.import_id, changes.c.id)
    first, last = (tuple_(literal(import_id), literal(number, BigInteger)) for number in (after, _LAST))
    query = select(changes.c.id).where(place > first, place <= last, *which)
    return tx.execute(query.order_by(changes.c.import_id, changes.c.id).limit(1)).scalar()


_LAST = 2**63 - 1


def plain_rows(result: CursorResult[Any]) -> list[Row]:
    """Return the driver's own tuples: SQLAlchemy's rows cost as much as the query."""
    rows = cast("list[Row]", result.cursor.fetchall())
    result.close()
    return rows


def plain_numbers(result: CursorResult[Any]) -> array[int]:
    """Return the numbers of a query for nothing else, eight bytes each, however many there are."""
    numbers = array("q", (number for (number,) in cast("Iterator[tuple[int]]", result.cursor)))
    result.close()
    return numbers
