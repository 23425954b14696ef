"""One person is one target: every spelling of a name is about the same slots, and finds them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consent.change import Bucket, ConsentChange
from consent.ledger.ledger import Ledger
from consent.outcome import Applied
from tests.support.ledgers import BUCKET, change_of, imported, record_event, settlement
from worker.providers.infobip import INFOBIP

ANN = {"identifier_name": "email", "source": "INSTORE"}


def new_change(spelling: str, action: str = "OPTOUT", minute: int = 0, **details: str) -> ConsentChange:
    """A change about Ann in this spelling."""
    return replace(change_of("", action, minute, **details), address=ANN | {"identifier_value": spelling})


def delivered(ledger: Ledger) -> list[tuple[str, str]]:
    """Deliver what is due; return each target, in the spelling that was sent, and what."""
    tasks = ledger.queue.claim(BUCKET, 100, "delivery", 60)
    ledger.queue.settle("delivery", [settlement(task, Applied(), ledger.now()) for task in tasks])
    return [(task.address["identifier_value"], str(c.action)) for task in tasks for c in task.changes]


@pytest.mark.parametrize("older_first", [True, False])
def test_a_newer_opt_out_under_another_spelling_wins(ledger: Ledger, older_first: bool) -> None:  # noqa: FBT001
    """A person who opted out as Ann@Example.com stays opted in: the older opt-in of ann@example.com is sent last."""
    changes = [new_change("ann@example.com", "OPTIN", 0), new_change("\u200bAnn@Example.com", "OPTOUT", 9)]
    first, second = changes if older_first else reversed(changes)
    imported(ledger, first)
    imported(ledger, second)

    assert delivered(ledger) == [(first.address["identifier_value"], "OPTOUT")]
    assert delivered(ledger) == []


def test_where_consent_was_collected_is_told_and_splits_no_one(ledger: Ledger) -> None:
    """An opt-out collected in the shop is undone, because an older opt-in was collected on Facebook."""
    imported(ledger, new_change("ann@example.com", "OPTOUT", 9, source_name="INSTORE"))
    imported(ledger, new_change("ann@example.com", "OPTIN", 0, source_name="FACEBOOK"))

    (task,) = ledger.queue.claim(BUCKET, 100, "delivery", 60)
    assert [(c.action, c.details) for c in task.changes] == [("OPTOUT", {"source_name": "INSTORE"})]


def test_any_spelling_finds_a_person(ledger: Ledger) -> None:
    """Someone asks what was said about ANN@example.com and is told that nothing ever was."""
    imported(ledger, new_change("Ann@example.com"), replace(change_of("9"), address={"destination": "447700900123"}))

    for asked in ({"identifier_value": "ANN@Example.com"}, ANN | {"identifier_value": "\u200bann@EXAMPLE.com"}):
        (found,) = ledger.queries.histories([asked], None, 10)
        assert found.address["identifier_value"] == "Ann@example.com"
    (found,) = ledger.queries.histories([{"destination": "+44 7700-900 123"}], None, 10)
    assert len(found.changes) == 1
    assert ledger.queries.histories([{"destination": "+44 7700-900 12"}], None, 10) == []


def test_a_change_is_known_again_in_any_spelling(ledger: Ledger) -> None:
    """A click on an unsubscribe link finds no standing opt-in, because the link spells the address in another way."""
    imported(ledger, new_change("Ann@example.com", "OPTIN"))

    (id_,) = ledger.queries.public_ids([new_change("ann@EXAMPLE.com", "OPTIN")])
    found = ledger.queries.find_change(id_)
    assert found is not None
    assert ledger.queries.current_opt_in([new_change("ann@example.com")]) == (id_, found.effective_at)


def blocked(spelling: str, action: str, minute: int) -> ConsentChange:
    """A change about a person on Infobip's blocklist, as its row model reads a cell."""
    row = INFOBIP.row.model_validate({"action": action, "destination": spelling})
    (piece,) = row.changes().slots
    return replace(
        change_of("", action, minute, piece.slot),
        connection="infobip",
        address=row.changes().address,
        bucket=row.changes().bucket,
    )


@pytest.mark.parametrize("spellings", [("A@Example.com", "a@example.com"), ("a@example.com", "A@Example.com")])
@pytest.mark.parametrize("newest", ["file", "event"])
def test_a_person_on_the_blocklist_is_one_in_any_case(ledger: Ledger, spellings: tuple[str, str], newest: str) -> None:
    """A file and an event spell the part before @ and the domain in two ways: the newest wins, in either order."""
    of_file, of_event = spellings
    imported(ledger, blocked(of_file, "OPTOUT" if newest == "file" else "OPTIN", 9 if newest == "file" else 0))
    record_event(ledger, blocked(of_event, "OPTIN" if newest == "file" else "OPTOUT", 0 if newest == "file" else 9))

    tasks = ledger.queue.claim(Bucket("infobip", "blocklist"), 100, "delivery", 60)
    assert [(task.address["destination"].lower(), str(c.action)) for task in tasks for c in task.changes] == [
        ("a@example.com", "OPTOUT")
    ]
    ledger.queue.settle("delivery", [settlement(task, Applied(), ledger.now()) for task in tasks])
    for asked in spellings:
        (found,) = ledger.queries.histories([{"destination": asked}], None, 10)
        assert len(found.changes) == 2
