"""Opt-ins of wide slots, which lift the opt-outs of narrower ones, are counted by the guards; on both databases."""

from __future__ import annotations

from itertools import count

import pytest
from sqlalchemy import update

from consent.change import ConsentChange
from consent.guards.rules import GuardRules, ImportGuards
from consent.imports import Checkpoint, ImportSource
from consent.ledger.ledger import Ledger
from consent.ledger.schema import imports
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import change_of, deliver, imported

SHOP, NEWS, ANY, ALL = 'blocked:["SMS","SHOP"]', 'blocked:["EMAIL","NEWS"]', 'blocked:["SMS",""]', "blocked"
SENDER = 'blocked:["","SHOP"]'
_number = count()


def checked(ledger: Ledger, *changes: ConsentChange, overlapping: tuple[str, ...] = ("capillary",)) -> list[dict]:
    """What the guards say of a file, each opt-in over an opt-out of which holds it."""
    rules = GuardRules(resurrects_most=0)
    guards = ImportGuards("blocked.csv", rules, columns=("destination",), overlapping=overlapping)
    source = ImportSource("csv", "blocked.csv", f"wide {next(_number)}", 1, None, guards=guards)
    import_id = ledger.intake.open_import(source).import_id
    ledger.intake.accept(import_id, changes, [], Checkpoint(len(changes), len(changes) + 1, 0, len(changes)))
    ledger.intake.finish_reading(import_id)
    ledger.intake.publish(import_id)
    found = ledger.queries.report(import_id)
    assert found is not None
    assert (found.state == "held") == any(one["holds"] for one in found.findings)
    return [dict(one) for one in found.findings if one["guard"] == "resurrects"]


def known(ledger: Ledger) -> None:
    """Ann has opted out of one sender's messages and of another one's mail, Bob of nothing."""
    imported(ledger, change_of("ann", slot=SHOP), change_of("ann", slot=NEWS), change_of("bob", "OPTIN", slot=SHOP))
    deliver(ledger)


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize(("slot", "lifted"), [(ALL, 2), (ANY, 1), (SENDER, 1), ('blocked:["VIBER",""]', 0)])
def test_a_wide_opt_in_over_narrow_opt_outs_holds_a_file(ledger: Ledger, slot: str, lifted: int) -> None:
    """Nothing is known of the wide slot itself: but the worker would lift what Ann had said of narrower ones."""
    known(ledger)
    found = checked(ledger, change_of("ann", "OPTIN", 10, slot=slot), change_of("bob", "OPTIN", 10, slot=slot))
    assert [one["says"].split(" in capillary")[0] for one in found] == (
        [f"would opt in again {lifted:,} slot{'s' * (lifted > 1)}"] if lifted else []
    )
    if lifted:
        assert "ann" not in str(found)
        assert "blocked" in found[0]["examples"][0]


@POSTGRESQL_IN_PROOFS
def test_an_older_opt_in_and_a_wide_opt_out_lift_nothing(ledger: Ledger) -> None:
    """The opt-out is newer; and of a connection whose slots stand apart nothing is compared."""
    known(ledger)
    assert checked(ledger, change_of("ann", "OPTIN", -5, slot=ALL)) == []
    assert checked(ledger, change_of("ann", "OPTOUT", 10, slot=ANY)) == []
    assert checked(ledger, change_of("ann", "OPTIN", 20, slot=SENDER), overlapping=()) == []


@POSTGRESQL_IN_PROOFS
def test_exact_and_wide_ones_are_counted_together(ledger: Ledger) -> None:
    """One opt-in of the very slot, and one that covers the other."""
    known(ledger)
    [found] = checked(
        ledger, change_of("ann", "OPTIN", 10, slot=SHOP), change_of("ann", "OPTIN", 10, slot='blocked:["EMAIL",""]')
    )
    assert "would opt in again 2 slots" in found["says"]


def test_slots_with_marks_of_a_pattern_are_no_error(ledger: Ledger) -> None:
    """A backslash, a percent sign or an underline in a sender's name."""
    imported(ledger, change_of("ann", slot='blocked:["SMS","A\\"]'), change_of("ann", slot="odd\\"))
    changes = [change_of("ann", "OPTIN", 10, slot=one) for one in ('blocked:["","A\\"]', "odd", "%", "_\\")]
    [found] = checked(ledger, *changes)
    assert "1 slot" in found["says"]


def test_guards_that_cannot_be_read_hold_the_file(ledger: Ledger) -> None:
    """What another version has written must not stop the sweep, nor let the file pass."""
    for text in ('{"feed": "a", "rules": {"new_rule": 1}}', "null", "[]", "{"):
        source = ImportSource("csv", "a.csv", f"unreadable {next(_number)}", 1, None, guards=ImportGuards("a.csv"))
        import_id = ledger.intake.open_import(source).import_id
        ledger.intake.accept(import_id, [change_of("ann")], [], Checkpoint(1, 2, 0, 1))
        ledger.intake.finish_reading(import_id)
        damaged = update(imports).where(imports.c.id == import_id).values(guards=text)
        ledger.database.write(lambda tx, damaged=damaged: tx.execute(damaged))

        ledger.intake.publish(import_id)

        [held] = [one for one in ledger.review.held_imports() if one.import_id == import_id]
        assert [one["guard"] for one in held.findings] == ["guard_failed"]
