"""What is said to the database: the same few statements however many rows there are, and nothing twice."""

from __future__ import annotations

from sqlalchemy import Connection, event, text

from consent.ledger.ledger import Ledger
from tests.contracts.test_claim_plans import is_scan, plans
from tests.contracts.test_ledger import deliver, imported, word


def heard_from(ledger: Ledger) -> dict[str, tuple[object, int]]:
    """Listen from now on: each statement, with its first parameters and the rows that it changed in all."""
    heard: dict[str, tuple[object, int]] = {}

    def hear(_c: Connection, cursor, statement: str, parameters, _x: object, many: bool) -> None:  # noqa: FBT001 - SQLAlchemy's shape
        said, rows = heard.get(statement, (parameters[0] if many else parameters, 0))
        heard[statement] = (said, rows + max(0, cursor.rowcount))

    event.listen(ledger.database.engine, "after_cursor_execute", hear)
    return heard


def test_files_of_any_length_are_the_same_statements(ledger: Ledger) -> None:
    """Drivers keep statements: if each number of rows had one of its own, long imports would fill the memory."""
    imported(ledger, word("0", "OPTIN"), word("0", "OPTOUT"))
    deliver(ledger)
    heard = heard_from(ledger)
    said = []

    for customers in (3, 4, 7):
        imported(ledger, *(word(str(n), "OPTOUT", customers) for n in range(customers)))
        assert deliver(ledger)
        said.append(set(heard))
        heard.clear()

    assert said[0] == said[1] == said[2]


def test_a_customer_who_is_due_already_is_not_written_again(ledger: Ledger) -> None:
    """A second file about a customer who waits to be told: he is told both, and his customer task stays as it is."""
    imported(ledger, word("1", slot="EMAIL|BULK"))
    heard = heard_from(ledger)
    imported(ledger, word("1", slot="MOBILE|BULK"))

    assert sum(rows for said, (_, rows) in heard.items() if said.startswith("INSERT INTO customer_tasks")) == 0
    assert sorted(deliver(ledger)) == [("1", "EMAIL|BULK OPTOUT"), ("1", "MOBILE|BULK OPTOUT")]


def test_a_few_rows_are_recorded_without_reading_a_large_ledger(ledger: Ledger) -> None:
    """Twenty thousand changes wait; a file of three rows looks up what it is about, and reads no table whole."""
    imported(ledger, *(word(str(number)) for number in range(20_000)))
    if not ledger.database.is_sqlite:
        ledger.database.write(lambda tx: tx.execute(text("ANALYZE")))
    heard = heard_from(ledger)

    imported(ledger, word("1", "OPTIN", 1), word("1", "OPTOUT", 2), word("2"))

    asked = [
        (said, how) for said, (how, _) in heard.items() if said.split()[0] in {"SELECT", "UPDATE", "INSERT", "WITH"}
    ]
    with ledger.database.engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1 FROM weighed")  # the same connection: else its statements have no plan
    whole = [plan for plan in plans(ledger.database.engine, asked) if is_scan(plan)]
    assert whole == []
    assert len(asked) > 12
