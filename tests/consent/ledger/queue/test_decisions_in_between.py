"""A person decides about a file at any moment of its publishing, and before he publishes it, the publisher goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count

import pytest
from sqlalchemy import Connection

from consent.change import Action
from consent.ledger.ledger import Ledger
from consent.ledger.review.holds import Decision
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import change_of, counts, deliver, guarded, imported, record_event

ALL = (None,)
WAYS = {"ann": "OPTIN", "bob": "OPTOUT", "dan": "OPTOUT"}
OUTS, INS = (Action.OPTOUT,), (Action.OPTIN,)


def approve(ledger: Ledger, file: str, *only: Action | None) -> None:
    """Approve, and be killed before it is published."""
    for one in only:
        ledger.review.approve(file, Decision("ann", "checked", one))


def a_held_file(ledger: Ledger, who: str) -> str:
    """It would opt Ann in again. That Dan is out was true when it was read, and is not any more."""
    imported(ledger, change_of(f"ann{who}"), change_of(f"dan{who}"))
    deliver(ledger)
    rows = [change_of(f"{name}{who}", way, 10) for name, way in WAYS.items()]
    file = guarded(ledger, *rows, resurrects_most=0)
    record_event(ledger, change_of(f"dan{who}", "OPTIN", 5))
    deliver(ledger)
    return file


@contextmanager
def decided_before(ledger: Ledger, number: int, file: str, *only: Action | None) -> Iterator[count]:
    """Approve right before the transaction with this number."""
    begin, begun = ledger.database._transaction, count()

    def transaction(*, writes: bool) -> AbstractContextManager[Connection]:
        if next(begun) == number:
            ledger.database._transaction = begin
            approve(ledger, file, *only)
        return begin(writes=writes)

    ledger.database._transaction = transaction
    try:
        yield begun
    finally:
        ledger.database._transaction = begin


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize(("before", "then"), [((), ALL), (OUTS, ALL), (OUTS, INS), (INS, OUTS)])
def test_a_decision_in_between_loses_nothing(
    ledger: Ledger, before: tuple[Action | None, ...], then: tuple[Action | None, ...]
) -> None:
    """Not what it lets go, which the publisher's block did not hold; nor no-ops, which are none any more."""
    for number in count():
        file = a_held_file(ledger, str(number))
        approve(ledger, file, *before)

        with decided_before(ledger, number, file, *then) as begun:
            ledger.intake.publish(file)
        if next(begun) <= number:
            break
        for unpublished in ledger.intake.unpublished():
            ledger.intake.publish(unpublished)

        assert sorted(deliver(ledger)) == [(f"{who}{number}", f"EMAIL|BULK {way}") for who, way in WAYS.items()]
        assert counts(ledger, file) == {"applied": 3}
    assert number > 1
