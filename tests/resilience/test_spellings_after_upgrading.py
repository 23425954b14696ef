"""What an older ledger held under odd spellings is sent as it was meant, and the newest opt-out is not lost."""

from __future__ import annotations

import json

from sqlalchemy import select

from consent.ledger.ledger import Ledger
from consent.ledger.schema import changes, customer_tasks, slots, targets
from tests.resilience.old_ledger import MORNING, Old, OldLedger, canonical, fill, hashed


def change_row(address: dict[str, str], number: int, action: str, since: int, state: str, **more: str) -> list[object]:
    """A change of before about a Capillary customer, as arguments for `ledger_with`."""
    return [address, number, action, MORNING + since, state, more]


def ledger_with(url: str, changes: list[list[object]]) -> Ledger:
    """A ledger of before in which each of these words is the newest of its own target's slot."""
    old = OldLedger()
    slot = '["EMAIL","","BULK",-1]'
    for address, number, action, since, state, more in changes:
        target = old.target("capillary", "", address)  # type: ignore[arg-type]
        details = canonical(more)  # type: ignore[arg-type]
        key = hashed(old.targets[target - 1][0] + f"{slot}\0{action}\0{since}\0{details}".encode())
        facts = (target, key, action, since, details, False, state, "whole")
        old.changes.append(Old(number, ("x",), slot, slot, *facts))  # type: ignore[arg-type]
        old.folded[target, slot].append(number)  # type: ignore[arg-type]
    ledger = Ledger(url)
    fill(ledger, old)
    assert ledger.maintenance.migrate() is True
    return ledger


def standing_in(ledger: Ledger) -> list[tuple[str, str, str | None, int]]:
    """Each target's address as it is sent; of its newest change the state, what is confirmed, and if it has a task."""
    task = select(customer_tasks.c.target_id).where(customer_tasks.c.target_id == targets.c.id).exists()
    query = (
        select(targets.c.address, changes.c.state, slots.c.confirmed, task)
        .join(slots, slots.c.target_id == targets.c.id)
        .join(changes, changes.c.id == slots.c.newest_id)
        .order_by(targets.c.id)
    )
    rows = ledger.database.read(lambda tx: tx.execute(query).all())
    ledger.close()
    found = [(json.loads(address), state, confirmed, int(waits)) for address, state, confirmed, waits in rows]
    return [(f"{one['identifier_value']} in {one['source']}", *more) for one, *more in found]


def email(value: str, source: str = "INSTORE") -> dict[str, str]:
    """An address of before."""
    return {"identifier_name": "email", "identifier_value": value, "source": source}


def test_an_opt_out_that_names_no_one_is_sent_as_it_is_meant(empty_ledger_url: str) -> None:
    """A person whose address came with an invisible character stays opted in, and every later opt-out goes astray."""
    meant_by = {
        "ann\u200b@example.com": "ann@example.com",
        "Zoe\u0308@Example.com": "zo\xeb@example.com",
        "+44 7700 900123": "+447700900123",
        "44-7700-900124": "447700900124",
    }
    written = [email(one) | ({} if "@" in one else {"identifier_name": "mobile"}) for one in meant_by]
    opt_outs = [change_row(one, number, "OPTOUT", 5, "applied") for number, one in enumerate(written, 1)]

    ledger = ledger_with(empty_ledger_url, opt_outs)

    assert standing_in(ledger) == [(f"{meant} in INSTORE", "pending", None, 1) for meant in meant_by.values()]


def test_an_address_that_was_right_is_kept_as_it_is(empty_ledger_url: str) -> None:
    """An update calls for everybody whose address has a capital letter or a +, or is someone else from then on."""
    mobile = {**email("+447700900123"), "identifier_name": "mobile"}
    changes = [change_row(email("Ann@Example.com"), 1, "OPTOUT", 5, "applied")]
    changes += [change_row(mobile, 2, "OPTOUT", 5, "applied")]
    assert standing_in(ledger_with(empty_ledger_url, changes)) == [
        ("Ann@Example.com in INSTORE", "applied", "OPTOUT", 0),
        ("+447700900123 in INSTORE", "applied", "OPTOUT", 0),
    ]


def test_the_address_by_which_a_person_was_found_is_kept(empty_ledger_url: str) -> None:
    """A person is looked up in the source that knew no one, since that came first: each opt-out dies from then on."""
    changes = [
        change_row(email("Ann@example.com", "FACEBOOK"), 1, "OPTOUT", 5, "dead", source_name="FACEBOOK"),
        change_row(email("ann@example.com"), 2, "OPTOUT", 4, "applied"),
        change_row(email("bob@example.com", "FACEBOOK"), 3, "OPTOUT", 5, "dead", source_name="FACEBOOK"),
        change_row(email("eve@example.com", "FACEBOOK"), 4, "OPTOUT", 5, "applied", source_name="FACEBOOK"),
    ]
    assert [address for address, *_ in standing_in(ledger_with(empty_ledger_url, changes))] == [
        "ann@example.com in INSTORE",
        "bob@example.com in INSTORE",
        "eve@example.com in FACEBOOK",
    ]


def test_an_opt_out_that_waits_is_not_overtaken_by_one_that_died(empty_ledger_url: str) -> None:
    """An opt-out that was about to be sent is dropped, for the same under another spelling, which was refused."""
    changes = [
        change_row(email("ann@example.com"), 1, "OPTOUT", 4, "pending"),
        change_row(email("Ann@example.com"), 2, "OPTOUT", 5, "dead"),
    ]
    assert standing_in(ledger_with(empty_ledger_url, changes)) == [("ann@example.com in INSTORE", "pending", None, 1)]
