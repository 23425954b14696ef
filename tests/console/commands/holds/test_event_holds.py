"""Opt-ins of events that are held, as people see and decide about them on the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from consent.guards.rules import GuardRules
from consent.ledger.ledger import Ledger
from tests.support.command_line import Cli, settle_all, write
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
    changes = [replace(change_of(who, "OPTIN", 5), sent_by="key crm") for who in people]
    ledger.intake.accept_events(run_of(ledger), changes, [])
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
    message = f"{MANY} back to opted out, as before ({MANY} by nightly.csv, import "

    assert message in cli("undo", held, "--dry-run").out
    assert message in cli("undo", held, "--why", "not so").out
    assert "  undone 20" in cli("status", held).out


def test_a_file_is_followed_from_its_dry_run_to_its_undoing(cli: Cli, url: str, tmp_path: Path) -> None:
    """It would be held, is held, and was held; `status` says of each import in a word that it is held or was undone."""
    write(tmp_path, "out.csv", "1001417,EMAIL,BULK,OPTOUT,2025-01-02T00:00:00Z")
    write(tmp_path, "in.csv", "1001417,EMAIL,BULK,OPTIN", header="user_id,channel,priority,action")
    cli("import", "out.csv")
    settle_all(url)
    message = "undated_optins: would opt in again 1 slot in capillary that was opted out"

    assert f"would be held: {message}" in cli("import", "in.csv", "--dry-run").out
    assert f"  held: {message}" in cli("import", "in.csv").out
    assert " held " in cli("status").out.split("in.csv")[1].splitlines()[0]
    cli("approve", "latest", "--why", "asked")
    settle_all(url)
    refused = cli("undo", "latest", "--why", "not so", "--expect", "9")
    cli("undo", "latest", "--why", "not so")

    assert (refused.code, "cannot be undone" in refused.err) == (2, False)
    assert "it would undo 1 slot" in refused.err
    assert "yes, undone" in cli("status").out


def test_undoing_proposes_to_opt_in_again_those_alone_who_were_in(cli: Cli, tmp_path: Path) -> None:
    """Of new people's opt-outs nothing can be brought back: no option is named that would change nothing."""
    write(tmp_path, "new.csv", "1001417,EMAIL,BULK,OPTOUT,2026-01-02T00:00:00Z")
    cli("import", "new.csv")

    shown = cli("undo", "latest", "--dry-run").out

    assert "0 slots brought back" in shown
    assert "there is nothing to bring back" in shown
    assert "--opt-in-again" not in shown


def test_a_command_cannot_switch_that_guard_off(cli: Cli) -> None:
    """It holds no file: the setting is named."""
    answer = cli("import", "people.csv", "--guard-off", "overruling_optins", "--why", "in a hurry")

    assert answer.code == 2
    assert "OPTRELAY_GUARDS__OFF" in answer.err
