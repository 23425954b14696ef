"""Blocks of everything and of one channel, in whatever order they come: what holds is the newest of all that cover it.

The ledger and Infobip's translations are the real ones; the blocklist is that of the model.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.ledger import Ledger
from tests.support.clock import Clock
from tests.support.examples import POSTGRESQL_IN_PROOFS, examples
from tests.support.providers.blocklist import (
    BUCKET,
    OVERLAP,
    Blocklist,
    Statement,
    _called,
    _numbers,
    delivered,
    recorded,
    settlement,
)
from worker.providers.contract import Request

CHANNELS, SENDERS = ("", "SMS", "EMAIL"), ("", "SHOP")
CELLS = tuple(product(("SMS", "EMAIL", "VIBER"), ("SHOP", "CLUB")))
"""Where a message may come from: VIBER and CLUB stand for every channel and sender that no one names."""


def states(ledger: Ledger) -> dict[tuple[str, str], tuple[str, str | None]]:
    """What became of each change, by slot and action."""
    (found,) = ledger.queries.histories([{"destination": "ANN@example.com"}], None, 10)
    return {(one.slot, one.action): (one.state.value, one.code) for one in found.changes}


@POSTGRESQL_IN_PROOFS
def test_a_block_of_sms_is_sent_again_after_everything_was_let_through(ledger: Ledger) -> None:
    """Ann opts out of SMS again, her word is `unchanged`, nothing is called, and SMS go on coming."""
    provider = Blocklist()
    for minute, statement in enumerate((Statement("SMS"), Statement(action="OPTIN"), Statement("SMS"))):
        recorded(ledger, statement._replace(minute=minute))
        delivered(ledger, provider)
    assert provider.entries == {("SMS", "", "CUSTOM")}


@POSTGRESQL_IN_PROOFS
def test_everything_is_let_through_again_after_a_block_of_sms(ledger: Ledger) -> None:
    """Ann opts in to everything again, her word is `unchanged`, and the block of SMS stays for ever."""
    provider = Blocklist()
    for minute, statement in enumerate((Statement(action="OPTIN"), Statement("SMS"), Statement(action="OPTIN"))):
        recorded(ledger, statement._replace(minute=minute))
        delivered(ledger, provider)
    assert provider.entries == set()


@pytest.mark.parametrize("late", [True, False])
def test_a_part_of_a_block_is_never_said_to_be_lifted(ledger: Ledger, late: bool) -> None:  # noqa: FBT001
    """Ann is told that SMS come again: `applied`, or `unchanged`. But everything stays blocked."""
    provider = Blocklist()
    changes = [Statement(minute=1), Statement("SMS", action="OPTIN", minute=2)]
    import_id = ""
    for statement in reversed(changes) if late else changes:
        import_id = recorded(ledger, statement)
        delivered(ledger, provider)

    assert provider.entries == {("", "", "CUSTOM")}
    assert states(ledger)['blocked:["SMS",""]', "OPTIN"] == ("dead", "under_wider_block")
    (letter,) = ledger.dead_letters.find(DeadLetterFilter())
    assert "channel and sender left empty" in letter.reason
    found = ledger.queries.report(import_id)
    assert found is not None
    assert found.sealed

    ledger.dead_letters.replay([letter], who="ann", why="tried")
    delivered(ledger, provider)
    assert states(ledger)['blocked:["SMS",""]', "OPTIN"] == ("dead", "under_wider_block")
    recorded(ledger, Statement(action="OPTIN", minute=3))
    ledger.dead_letters.replay(ledger.dead_letters.find(DeadLetterFilter()), who="ann", why="-")
    delivered(ledger, provider)
    assert provider.entries == set()
    assert states(ledger)['blocked:["SMS",""]', "OPTIN"][0] == "superseded"


@POSTGRESQL_IN_PROOFS
def test_what_a_person_said_at_infobip_stays(ledger: Ledger) -> None:
    """Ann unsubscribes by SMS, and an opt-in that was given before takes her block away."""
    provider = Blocklist({("SMS", "", "MO")})
    recorded(ledger, Statement(action="OPTIN", minute=1))
    delivered(ledger, provider)
    assert provider.entries == {("SMS", "", "MO")}
    assert states(ledger)["blocked", "OPTIN"] == ("dead", "newer_optout")


one_statement = st.builds(
    Statement,
    st.sampled_from(CHANNELS),
    st.sampled_from(SENDERS),
    st.sampled_from(("OPTIN", "OPTOUT")),
    st.integers(0, 7),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(("deliver", "deliver", "deliver", "nothing", "cut", "killed", "late", "replay")),
        st.lists(one_statement, min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=8,
)
ALL, SMS = Statement(), Statement("SMS")


def opt_in(change: Statement, minute: int) -> Statement:
    """The opposite, said then."""
    return change._replace(action="OPTIN", minute=minute)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger to copy."""
    path = tmp_path_factory.mktemp("ledger") / "template.db"
    ledger = Ledger(f"sqlite:///{path}")
    ledger.maintenance.migrate()
    ledger.close()
    return path


@given(steps)
@example([("deliver", [SMS._replace(minute=2)]), ("deliver", [opt_in(ALL, 1)])])
@example([("deliver", [opt_in(ALL, 2)]), ("deliver", [SMS._replace(minute=1)])])
@example([("deliver", [ALL, opt_in(SMS, 1), opt_in(ALL, 2)])])
@example([("deliver", [ALL, opt_in(Statement("SMS", "SHOP"), 1), opt_in(Statement("", "SHOP"), 1)])])
@example([("deliver", [opt_in(SMS, 3)]), ("late", [Statement("", "SHOP", minute=2)])])
@example([("deliver", [opt_in(ALL, 2), SMS._replace(minute=3)]), ("deliver", [opt_in(ALL, 5)])])
@example([("deliver", [SMS]), ("deliver", [opt_in(ALL, 1)]), ("deliver", [SMS._replace(minute=2)])])
@example([("deliver", [SMS]), ("nothing", [opt_in(ALL, 1)]), ("late", [SMS._replace(minute=2)])])
@settings(max_examples=examples(80, share=20), deadline=None)
def test_what_holds_is_the_newest_of_all_that_cover_it(template: Path, steps: list[Any]) -> None:
    """Ann is blocked where her newest change lets messages through, or the other way round, for ever."""
    path = template.with_name(f"{next(_numbers)}.db")
    shutil.copy(template, path)
    clock = Clock()
    ledger, provider = Ledger(f"sqlite:///{path}", clock=clock), Blocklist()
    arrived = _live_through(ledger, provider, clock, steps)
    delivered(ledger, provider)

    dead = {slot for (slot, _), (state, code) in states(ledger).items() if state == "dead"} if arrived else set()
    for cell in CELLS:
        covering = [one for one in arrived if one.covers(cell)]
        if not covering:
            assert not provider.blocks(cell)
            continue
        newest = max(covering, key=lambda one: (one.minute, one.action))
        if newest.action == "OPTOUT":
            assert provider.blocks(cell), (cell, provider.entries)
        elif provider.blocks(cell):
            tied = [one for one in covering if (one.minute, one.action) == (newest.minute, newest.action)]
            assert any(one.change().slot in dead for one in tied), (cell, tied, provider.entries)
    ledger.close()
    path.unlink()


def _live_through(ledger: Ledger, provider: Blocklist, clock: Clock, steps: list[Any]) -> list[Statement]:
    arrived: list[Statement] = []
    for step, statements in steps:
        arrived += statements
        if step == "late":
            _loses_its_lease(ledger, provider, clock, statements)
            continue
        recorded(ledger, *statements)
        match step:
            case "deliver":
                delivered(ledger, provider)
            case "cut":
                turns = count()
                delivered(ledger, provider, lambda _, turns=turns: next(turns) == 1)  # type: ignore[misc]
            case "killed":
                ledger.queue.claim(BUCKET, 10, "killed", 60, overlap=OVERLAP)
                clock.forward(61)
            case "replay":
                found = ledger.dead_letters.find(DeadLetterFilter())
                ledger.dead_letters.replay(found, who="ann", why="-")
    return arrived


def _loses_its_lease(ledger: Ledger, provider: Blocklist, clock: Clock, changes: Sequence[Statement]) -> None:
    """A delivery is stopped before its first write, another one is quicker, and the first one goes on and settles."""
    tasks = ledger.queue.claim(BUCKET, 10, "slow", 60, overlap=OVERLAP)
    stopped = not tasks

    def stops(request: Request) -> bool:
        nonlocal stopped
        if request.method != "GET" and not stopped:
            stopped = True
            clock.forward(61)
            recorded(ledger, *changes)
            delivered(ledger, provider)
        return False

    if tasks:
        called = list(_called(tasks, provider, stops))
        ledger.queue.settle("slow", [settlement(ledger, task, outcomes) for task, outcomes in called])
    if not tasks or not stopped:
        recorded(ledger, *changes)
