"""Statements about many rows at once: `bulk(tx)` does each in the way that the transaction's database likes best."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, ClassVar, TypeVar, cast

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    CursorResult,
    Dialect,
    Insert,
    Integer,
    Select,
    String,
    Table,
    Update,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import UserDefinedType

from consent.ledger.dialects import dialect_named
from consent.ledger.schema import changes

PARAMETERS = 5_000
"""Values in one IN list: well under the limit of either database (SQLite 32,766; PostgreSQL 65,535)."""

Row = tuple[Any, ...]

Held = tuple[int, Any, Any, Any, Any]
"""A target's number, and of one of its slots `newest_at`, `newest_action`, `newest_key` and `confirmed`."""

T = TypeVar("T")
Writing = TypeVar("Writing", Insert, Update)


class Among(FunctionElement[bool]):
    """Says that a column holds one of the values of a list; each dialect's module tells how it is written.

    The list is one parameter: numbers as a NumberList, texts as JSON.
    """

    type = Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> Among:  # noqa: ARG002 - SQLAlchemy's shape
        """Return this as it is: to be compared with 1, as a plain function, would keep an index from being used."""
        return self


class NumberList(UserDefinedType[Sequence[int]]):
    """Numbers as one parameter: JSON, or for PostgreSQL an array as it writes one, `{1,2}`."""

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Sequence[int] | None], str]:
        """Write them as the database reads them."""

        def process(numbers: Sequence[int] | None) -> str:
            text = orjson.dumps(list(numbers or ())).decode()
            return text if dialect.name == "sqlite" else f"{{{text[1:-1]}}}"

        return process


def among(column: Column[T], values: Sequence[T]) -> ColumnElement[bool]:
    """Say that a column of numbers or texts holds one of these values, as one parameter.

    A mark for each would be planned anew, and cost SQLAlchemy more than the query costs the database.
    """
    if isinstance(column.type, Integer):
        return Among(column, literal(values, NumberList()))
    return Among(column, literal(orjson.dumps(list(values)).decode()))


def among_given(column: Column[int], name: str) -> ColumnElement[bool]:
    """Say the same of numbers that a statement is given under this name when it is executed.

    So the statement can be a constant: to build one takes longer than to execute it for a few rows.
    """
    return Among(column, bindparam(name, type_=NumberList()))


def portions(values: Sequence[Any], size: int = PARAMETERS) -> Iterator[Sequence[Any]]:
    """Yield `values` in slices that fit into one statement."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


@dataclass(frozen=True, slots=True, eq=False)
class Upsert:
    """A module's constant: insert the rows that a query finds, which must have a WHERE, or renew those that are there.

    A row whose key is there already has columns set to SQL expressions, if `where` says so; `excluded.x` is the new
    value. `where` spares the database rows that would be written as they are. The `source` finds one row for a key; in
    `parts` there may be several, each of which renews what the one before it has left.
    """

    table: Table
    columns: Sequence[str]
    source: Select[Any]
    parts: Select[Any]
    values: Mapping[str, str]
    where: str = "true"


@dataclass(frozen=True, slots=True)
class UpdateEach:
    """An update of one row for each of many sets of values: `{name}` stands for a value in its SQL.

    `types` names the values, and what PostgreSQL calls their types. No two sets may mean the same row.
    """

    table: str
    types: Mapping[str, str]
    values: str
    where: str

    @property
    def sql(self) -> str:
        """The statement; `{source}` stands for where the values come from."""
        return f"UPDATE {self.table} SET {self.values}{{source}} WHERE {self.where}"  # noqa: S608 - names of our own


@dataclass(frozen=True, slots=True)
class Bulk(ABC):
    """What a transaction does to many rows. Rows are values in the order of the columns that are named."""

    tx: Connection

    upsert: ClassVar[Any]
    """The dialect's `insert`, which knows ON CONFLICT."""

    mark: ClassVar[str]  # what stands for a parameter in the driver's own statements

    hashes_groups: ClassVar[bool]
    """Whether GROUP BY keeps a sum for each group on one walk; otherwise all rows are sorted for it."""

    upserts_parts: ClassVar[bool]
    """Whether an upsert may renew what it has inserted itself."""

    entry: ClassVar[str]
    """SQL of the number under which a transaction adds to counts that others add to at the same time."""

    @abstractmethod
    def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row], conflict: str = "") -> int:
        """Insert rows, of which none can be there yet unless `conflict` (ON CONFLICT …) is given; return how many."""

    def insert_numbered(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> dict[bytes, int]:
        """Insert rows while no one else does; return the database's numbers by the rows' first column, their key."""
        if len(rows) <= 1:
            return {row[0]: self._insert_one(table, columns, row, "RETURNING id").scalar_one() for row in rows}
        last, behind_last = _numbers_of(table, columns[0])
        before = self.tx.execute(last).scalar_one()
        self.insert(table, columns, rows)
        return dict(plain_rows(self.tx.execute(behind_last, {"last": before})))

    def insert_new_from(self, table: Table, columns: Sequence[str], source: Select[Any]) -> int:
        """Insert the rows that a query finds, which must have a WHERE, if their keys are new; return how many."""
        new = self.upsert(table).from_select(list(columns), source).on_conflict_do_nothing()
        return self.tx.execute(new.execution_options(preserve_rowcount=True)).rowcount

    def insert_or_update(self, upsert: Upsert, given: Mapping[str, Any]) -> int:
        """Insert or renew what the query finds that is given these parameters; return how many rows."""
        made = self.tx.execute(_upsert_of(upsert, type(self)), given).rowcount
        self._notice_growth(upsert.table, made)  # at once
        return made

    @abstractmethod
    def update_each(self, update: UpdateEach, rows: Sequence[Mapping[str, Any]]) -> None:
        """Update a row for each set of values."""

    @abstractmethod
    def select_by_key(self, columns: str, keys: Sequence[bytes]) -> list[Row]:
        """Return columns of the rows with these keys; each is looked up, however many there are.

        `columns` is SQL that names the key last: "id FROM targets WHERE target_key". It is the driver's own statement:
        Core would take as long again as the query.
        """

    @abstractmethod
    def select_changes(self, columns: str, whose: Collection[tuple[bytes, int]]) -> list[Row]:
        """Return columns of the recorded ones of these changes, which are dedupe keys, with their targets' numbers."""

    @abstractmethod
    def select_registers(self, targets: Sequence[bytes], slots: Sequence[str]) -> dict[int, Held]:
        """Return what the slots of some changes hold, whose targets' keys and slots these are, by their places there.

        A change about a target that the ledger does not know has none; a slot without a register holds nothing.
        """

    @staticmethod
    @abstractmethod
    def among_found(column: Column[T], found: Select[tuple[T]]) -> ColumnElement[bool]:
        """Say that a column holds one of the values that a query finds, which is run once and before all else."""

    @abstractmethod
    def json_text(self, column: Column[str], name: str) -> ColumnElement[str]:
        """Return a text out of a JSON object in a column, NULL if it has none of this name."""

    @abstractmethod
    def matches(self, column: Column[str], pattern: str, *, has_letters: bool) -> ColumnElement[bool]:
        """Say that a text is like a pattern, whatever the case of its ASCII letters.

        Unless the pattern `has_letters` whose case may differ, it need not be looked at.
        """

    def _insert_one(self, table: Table, columns: Sequence[str], row: Row, ending: str = "") -> CursorResult[Any]:
        names, marks = ", ".join(columns), ", ".join([self.mark] * len(columns))
        sql = f"INSERT INTO {table.name} ({names}) VALUES ({marks}) {ending}"  # noqa: S608 - names of our own
        return self.tx.exec_driver_sql(sql, row)

    def _notice_growth(self, table: Table, rows: int) -> None:  # noqa: B027 - one has no such need
        """Let the planner know of many rows that were just put into a table."""


@cache
def _numbers_of(table: Table, key: str) -> tuple[Select[tuple[int]], Select[tuple[bytes, int]]]:
    """Return what asks for a table's last number, and for those behind the `last` that is given, with their keys."""
    number = table.c.id
    behind = select(table.c[key], number).where(number > bindparam("last")).order_by(number)
    return select(func.coalesce(func.max(number), 0)), behind


@cache
def _upsert_of(upsert: Upsert, kind: type[Bulk]) -> Any:
    """Return the statement, as a dialect likes it best."""
    values: dict[str, ColumnElement[Any]] = {name: literal_column(sql) for name, sql in upsert.values.items()}
    source = upsert.parts if kind.upserts_parts else upsert.source
    made = kind.upsert(upsert.table).from_select(list(upsert.columns), source)
    key, where = list(upsert.table.primary_key), upsert.where
    renewed = made.on_conflict_do_update(index_elements=key, set_=values, where=literal_column(where))
    return renewed.execution_options(preserve_rowcount=True)


def bulk(tx: Connection) -> Bulk:
    """Return a transaction's way with many rows."""
    return dialect_named(tx.dialect.name).bulk(tx)


NEW = "ON CONFLICT DO NOTHING"
"""What makes `insert` leave out rows whose keys are there already."""


def as_whole(statement: Writing) -> Writing:
    """Return a statement that ends the transaction if it fails half way; not for savepoints.

    So SQLite need not keep each page as it was.
    """
    return statement.prefix_with("OR ROLLBACK", dialect="sqlite")


def first_change(tx: Connection, import_id: str, after: int, *which: ColumnElement[bool]) -> int | None:
    """Return the number of an import's first such change behind a number, or None; no other import's are read."""
    query = _FIRST.where(*which) if which else _FIRST
    return tx.execute(query, {"its": import_id, "after": after}).scalar()


# Of the two in one term: each on its own, PostgreSQL may go through the numbers of all imports.
_place, _its = tuple_(changes.c.import_id, changes.c.id), bindparam("its", type_=String)
BEHIND = (
    _place > tuple_(_its, bindparam("after", type_=BigInteger)),
    _place <= tuple_(_its, literal(2**63 - 1, BigInteger)),
)
"""Says that a change is of the import `its` and stands behind the number `after`; to be ordered by both."""
_FIRST = select(changes.c.id).where(*BEHIND).order_by(changes.c.import_id, changes.c.id).limit(1)


def plain_rows(result: CursorResult[Any]) -> list[Row]:
    """Return the driver's own tuples: SQLAlchemy's rows cost as much as the query."""
    rows = cast("list[Row]", result.cursor.fetchall())
    result.close()
    return rows


def plain_numbers(result: CursorResult[Any]) -> array[int]:
    """Return the numbers of a query for nothing else, eight bytes each, however many there are."""
    numbers = array("q")
    while some := result.cursor.fetchmany(PARAMETERS):  # one by one, psycopg takes three times as long
        numbers.extend(chain.from_iterable(some))
    result.close()
    return numbers
