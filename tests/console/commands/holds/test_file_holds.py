"""A held file, as people see it on the command line: why, and only such ways on as change something."""

from __future__ import annotations

import pytest

from consent.guards.rules import Guard
from consent.ledger.ledger import Ledger
from console.ui.decisions import GUARD_IN_WORDS
from tests.support.command_line import Cli
from tests.support.ledgers import change_of, deliver, guarded, imported


def held_file(ledger: Ledger, *, optouts: int) -> str:
    """A file that opts one in again who is out, and others out."""
    imported(ledger, change_of("100"))
    deliver(ledger)
    others = [change_of(f"20{n}", "OPTOUT", 5) for n in range(optouts)]
    return guarded(ledger, change_of("100", "OPTIN", 5), *others, resurrects_from=1, resurrects_share=0.01)


@pytest.mark.parametrize("optouts", [0, 1])
def test_a_part_is_offered_only_of_a_file_that_has_both(cli: Cli, url: str, optouts: int) -> None:
    """`--only optouts` of a file without opt-outs would approve nothing."""
    ledger = Ledger(url)
    ledger.maintenance.prepare()
    import_id = held_file(ledger, optouts=optouts)
    ledger.close()
    held, status = cli("held").out, cli("status", import_id).out
    assert ("--only optouts" in held) is bool(optouts)
    assert "--only" not in status
    assert "optrelay held" in status
    for text in (held, status):
        assert "opts people in again who are opted out" in " ".join(text.split())


def test_every_guard_is_explained() -> None:
    """Its name alone says little to a person who sees it for the first time."""
    assert set(GUARD_IN_WORDS) == set(Guard)


@pytest.mark.parametrize(("newer", "line"), [(1, "1 has a newer change, or was undone"), (2, "2 have a newer change")])
def test_what_undoing_leaves_is_said_in_the_right_number(cli: Cli, url: str, newer: int, line: str) -> None:
    """A person reads it before deciding."""
    ledger = Ledger(url)
    ledger.maintenance.prepare()
    people = [f"10{n}" for n in range(2)]
    mistake = imported(ledger, *(change_of(one, "OPTIN") for one in people))
    deliver(ledger)
    imported(ledger, *(change_of(one, "OPTOUT", 5) for one in people[:newer]))
    deliver(ledger)
    ledger.close()
    assert line in cli("undo", mistake, "--dry-run").out
