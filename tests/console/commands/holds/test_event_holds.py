"""Opt-ins of events that are held, as people see and decide about them on the command line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consent.guards.rules import GuardRules
from consent.ledger.ledger import Ledger
from tests.support.command_line import Cli
from tests.support.ledgers import change_of, counts, deliver, imported, run_of

MANY = GuardRules().overruling_from + 1


@pytest.fixture
def held(url: str) -> str:
    """The import that holds the opt-ins of a key, all over opt-outs that stand."""
    ledger = Ledger(url)
    ledger.maintenance.prepare()
    people = [f"{10_000 + one}" for one in range(MANY)]
    imported(ledger, *(change_of(who) for who in people))
    deliver(ledger)
    said = [replace(change_of(who, "OPTIN", 5), sent_by="key crm") for who in people]
    ledger.intake.accept_events(run_of(ledger), said, [])
    [one] = ledger.review.held_imports()
    ledger.close()
    return one.import_id


def test_they_are_shown_and_approved(cli: Cli, url: str, held: str) -> None:
    """`held` says why and how to go on; once approved they are delivered, and saying it again does no harm."""
    shown = cli("held")
    assert shown.code == 3
    for text in ("opt-ins of key crm at capillary", "overruling_optins", "more than 25 opt-outs", "1.00%", "approve"):
        assert text in shown.out

    assert cli("approve", held, "--expect", "1", "--why", "checked").code == 2
    assert cli("approve", held, "--expect", str(MANY), "--why", "checked").code == 0
    cli("approve", held, "--why", "checked")

    assert cli("held").code == 0
    ledger = Ledger(url)
    assert len(deliver(ledger)) == MANY
    assert counts(ledger, held) == {"applied": MANY}
    ledger.close()


def test_they_are_withdrawn(cli: Cli, url: str, held: str) -> None:
    """None of it is ever delivered."""
    answer = cli("withdraw", held, "--why", "a wrong job", "--json")

    assert (answer.code, cli("held").code) == (0, 0)
    ledger = Ledger(url)
    assert deliver(ledger) == []
    assert counts(ledger, held) == {"withdrawn": MANY}
    ledger.close()


@pytest.mark.parametrize(("command", "decided"), [("approve", "approved"), ("withdraw", "withdrawn")])
def test_what_was_decided_is_no_longer_called_held(cli: Cli, held: str, command: str, decided: str) -> None:
    """A run's summary and `status` say of a guard's finding what a person has decided since."""
    assert "  held: overruling_optins" in cli("status", held).out
    cli(command, held, "--why", "checked")

    shown = cli("status", held).out

    assert f"was held, {decided} since: overruling_optins" in shown
    assert "  held: " not in shown


def test_undoing_says_to_which_state_people_go_back(cli: Cli, held: str) -> None:
    """All of them had opted out before, by the file that is named; the import that was undone says so, too."""
    cli("approve", held, "--why", "checked")
    said = f"{MANY} back to opted out, as before ({MANY} by nightly.csv, import "

    assert said in cli("undo", held, "--dry-run").out
    assert said in cli("undo", held, "--why", "not so").out
    assert "  undone 20" in cli("status", held).out


def test_a_command_cannot_switch_that_guard_off(cli: Cli) -> None:
    """It holds no file: the setting is named."""
    answer = cli("import", "people.csv", "--guard-off", "overruling_optins", "--why", "in a hurry")

    assert answer.code == 2
    assert "OPTRELAY_GUARDS__OFF" in answer.err
