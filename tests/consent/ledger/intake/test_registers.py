"""What each change of a chunk is compared with: the register of its own slot, looked up by the whole key."""

from __future__ import annotations

from itertools import product

import pytest
from sqlalchemy import Connection, text

from consent.ledger.dialects.statements import Held, bulk
from consent.ledger.keys import target_key
from consent.ledger.ledger import Ledger
from consent.times import to_micros
from tests.support.ledgers import MORNING, change_of, deliver, imported

ODD = (
    *(
        "EMAIL|BULK",
        '["EMAIL","","BULK",-1]',
        "a\\b",
        "\\u0041",
        "it's",
        '"',
        "%s %b :keys {}",
        " blank ",
        "",
        "1",
        "null",
    ),
    *("caf\u00e9", "cafe\u0301", "\u2028", "\ufeff", "\U0001f4e7", "x" * 3_000),
)
READ = text("SELECT coalesce(idx_tup_fetch, 0) + seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'slots'")


def held(ledger: Ledger, asked: list[tuple[str, str]]) -> list[Held | None]:
    """Ask for the registers of some customers' slots."""
    secret = ledger.database.hash_key
    keys = [target_key(secret, "capillary", {"user_id": customer}) for customer, _ in asked]
    found = ledger.database.read(lambda tx: bulk(tx).select_registers(keys, [slot for _, slot in asked]))
    return [found.get(place) for place in range(len(asked))]


def test_each_change_is_compared_with_its_own_slot(ledger: Ledger) -> None:
    """Whatever the slots are called, in whatever order and however often they are named."""
    imported(ledger, *(change_of("1", minute=minute, slot=slot) for minute, slot in enumerate(ODD)), change_of("2"))
    deliver(ledger)
    asked = [*product(("1", "2", "unknown"), ODD), ("1", ODD[0]), ("2", "none such")]

    found = held(ledger, asked)

    one, two = (next(row[0] for (who, _), row in zip(asked, found, strict=True) if who == name) for name in ("1", "2"))
    nothing = (None, None, None, None)
    for (customer, slot), row in zip(asked, found, strict=True):
        if customer == "unknown":
            assert row is None
        elif customer == "2":
            since = to_micros(MORNING)
            assert row == ((two, since, "OPTOUT", row[3], "OPTOUT") if slot == ODD[0] else (two, *nothing))
        else:
            assert (row[0], row[1] - to_micros(MORNING)) == (one, ODD.index(slot) * 60_000_000)
    assert held(ledger, []) == []


def test_a_customer_with_many_slots_costs_no_more_than_many_customers(ledger: Ledger) -> None:
    """A thousand words about one customer look a thousand slots up, even if the database has seen one customer only."""
    if ledger.database.is_sqlite:
        pytest.skip("SQLite does not count what it reads")
    imported(ledger, *(change_of("1", slot=f"slot {n}") for n in range(1_000)))
    ledger.database.write(lambda tx: tx.execute(text("ANALYZE")))
    imported(ledger, *(change_of(str(n), slot="slot 7") for n in range(2, 2_000)))
    secret = ledger.database.hash_key
    customers = [("1", f"slot {n}") for n in range(1_000)] + [(str(n), "slot 7") for n in range(2, 1_000)]
    keys = [target_key(secret, "capillary", {"user_id": customer}) for customer, _ in customers]

    def count(tx: Connection) -> int:
        before = tx.execute(READ).scalar() or 0
        bulk(tx).select_registers(keys, [slot for _, slot in customers])
        return tx.execute(READ).scalar_one() - before

    assert ledger.database.read(count) == len(customers)
