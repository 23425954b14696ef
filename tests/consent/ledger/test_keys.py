"""When two changes are one: what an id says, together with the time and with whose id it is."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from consent.change import ConsentChange
from consent.imports import ImportSource
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.keys import Keys
from consent.ledger.ledger import Ledger
from consent.outcome import PermanentFailure
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import BUCKET, change_of, counts, deliver, imported, recorded

_names = count()
OUT = [("1", "EMAIL|BULK OPTOUT")]


def named(id_: str, action: str = "OPTOUT", minute: int = 0, **more: object) -> ConsentChange:
    """What a sender says of customer 1 under an id of its own."""
    return replace(change_of("1", action, minute), change_id=id_, **more)  # type: ignore[arg-type]


def record(ledger: Ledger, *changes: ConsentChange) -> tuple[bool, ...]:
    """Hand events over; return which of them are new."""
    run = ledger.intake.open_import(ImportSource("http", "api", f"run {next(_names)}", 0, None, stream=True)).import_id
    return ledger.intake.accept_events(run, changes, []).fresh


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize("stream", [True, False])
def test_an_opt_out_under_a_used_id_is_not_lost(ledger: Ledger, stream: bool) -> None:  # noqa: FBT001 - a parameter
    """November's file counts its rows from 1 again: a person who opted out in it stays opted in, as October's row 1."""
    for change in (named("1"), named("2", "OPTIN", 10)):
        imported(ledger, change)
        deliver(ledger)

    november = recorded(ledger, named("1", minute=20), stream=stream)
    ledger.intake.finish_reading(november)
    ledger.intake.publish(november)

    assert deliver(ledger) == OUT
    assert counts(ledger, november) == {"applied": 1}


@POSTGRESQL_IN_PROOFS
def test_an_event_under_a_used_id_is_not_lost(ledger: Ledger) -> None:
    """A publisher's counter starts anew: the opt-out that gets number 7 again is one of its own."""
    record(ledger, named("7"), named("8", "OPTIN", 10))
    deliver(ledger)

    assert record(ledger, named("7", minute=20)) == (True,)
    assert deliver(ledger) == OUT


@POSTGRESQL_IN_PROOFS
def test_a_retry_is_a_duplicate_also_of_the_second_change_of_its_id(ledger: Ledger) -> None:
    """A client that got no answer sends the same again, and undoes nothing that was said in between."""
    first, second = named("7", "OPTIN"), named("7", "OPTIN", 20)
    record(ledger, first, second, named("8", minute=30))
    deliver(ledger)

    assert record(ledger, first, second, second) == (False, False, False)
    assert counts(ledger, imported(ledger, second, first)) == {"duplicates": 2}


@POSTGRESQL_IN_PROOFS
def test_two_times_under_one_id_in_one_batch_are_two_changes(ledger: Ledger) -> None:
    """An opt-in and, later in the same batch, an opt-out of one id and slot: both are kept; the same twice is one."""
    assert record(ledger, named("7"), named("7", minute=5), named("7"), named("7", minute=5)) == (
        True,
        True,
        False,
        False,
    )


@POSTGRESQL_IN_PROOFS
def test_an_earlier_time_under_a_used_id_is_superseded(ledger: Ledger) -> None:
    """It is another change, which came late."""
    record(ledger, named("7", minute=20))

    assert record(ledger, named("7", minute=5)) == (True,)
    [task] = ledger.queue.claim(BUCKET, 1, "delivery", 60)
    assert [change.effective_at for change in task.changes] == [named("7", minute=20).effective_at]


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize("first", [True, False])
def test_without_a_time_of_its_own_the_id_says_it_all(ledger: Ledger, first: bool) -> None:  # noqa: FBT001 - a parameter
    """A stream entry that was added twice, or a list that was exported again, has another time and no other meaning."""
    record(ledger, named("7", "OPTIN", own_time=first), named("8", minute=10))
    deliver(ledger)

    assert record(ledger, named("7", "OPTIN", 20, own_time=False)) == (False,)
    assert deliver(ledger) == []


@POSTGRESQL_IN_PROOFS
def test_two_senders_may_use_one_id(ledger: Ledger) -> None:
    """System 2's opt-out number 1 was taken for system 1's, acknowledged, and lost."""
    record(ledger, named("1", sender="system 1", own_time=False))
    deliver(ledger)
    record(ledger, named("2", "OPTIN", 10, sender="system 1", own_time=False))
    deliver(ledger)

    assert record(ledger, named("1", minute=20, sender="system 2", own_time=False)) == (True,)
    assert deliver(ledger) == OUT


@POSTGRESQL_IN_PROOFS
def test_what_was_recorded_before_senders_belonged_to_ids_is_known_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request whose answer was lost is sent again after the upgrade: it is the same, and has the same id."""
    run = ledger.intake.open_import(ImportSource("http", "api", "run", 0, None, stream=True)).import_id
    with monkeypatch.context() as patch:
        patch.setattr(Keys, "change", lambda keys, target, change, *_: (keys.without_sender(target, change), "{}"))
        before = ledger.intake.accept_events(run, [named("1", sender="system 1")], [])

    after = ledger.intake.accept_events(
        run, [named("1", sender="system 1"), named("1", minute=5, sender="system 1")], []
    )

    assert (after.ids[0], after.fresh) == (before.ids[0], (False, True))


@POSTGRESQL_IN_PROOFS
def test_an_exported_letter_that_is_imported_unchanged_is_a_duplicate(ledger: Ledger) -> None:
    """Exported dead letters that are imported by mistake must not send what no person has looked at."""
    first = [named("A"), change_of("2"), replace(change_of("3"), own_time=False), named("B", own_time=False)]
    imported(ledger, *first)
    deliver(ledger, PermanentFailure("1012", "Capillary cannot find this customer"))
    dead = {letter.id: letter for letter in ledger.dead_letters.find(DeadLetterFilter())}
    assert len(dead) == 3  # A and B are of one slot and moment
    again = [
        replace(change_of(one.address["user_id"]), recorded_as=one.public_id, details=one.details)
        for one in dead.values()
    ]

    second = imported(ledger, *again)

    assert counts(ledger, second) == {"duplicates": 3}
    assert deliver(ledger) == []


@POSTGRESQL_IN_PROOFS
def test_an_exported_letter_that_was_fixed_is_sent(ledger: Ledger) -> None:
    """What a person has corrected is another change, whatever else of the row still says whose it was."""
    imported(ledger, named("A"))
    deliver(ledger, PermanentFailure("1012", "Capillary cannot find this customer"))
    [letter] = ledger.dead_letters.find(DeadLetterFilter())
    fixed = [change_of("1"), change_of("11"), change_of("1", minute=1), change_of("1", note="asked twice")]

    second = imported(ledger, *(replace(one, recorded_as=letter.public_id) for one in fixed))

    assert counts(ledger, second) == {"pending": 2, "superseded": 1, "duplicates": 1}


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize("damaged", ["", "zz", "00" * 20, "abc"])
def test_an_id_that_means_nothing_changes_nothing(ledger: Ledger, damaged: str) -> None:
    """A row whose id was damaged is read as if it had none."""
    assert counts(ledger, imported(ledger, replace(change_of("1"), recorded_as=damaged))) == {"pending": 1}
