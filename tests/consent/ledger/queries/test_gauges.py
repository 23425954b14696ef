"""What stands in the ledger, as counts, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from consent.change import Lane
from consent.errors import LedgerUnavailable
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.ledger import Ledger
from consent.outcome import PermanentFailure
from tests.support.ledgers import BUCKET, change_of, deliver, guarded, imported

EVERY = {"resurrects_most": 0}
NO = PermanentFailure("404", "there is no such customer")


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """An empty ledger."""
    one = Ledger(ledger_url)
    yield one
    one.close()


def test_who_waits_is_counted_wherever_it_waits(ledger: Ledger) -> None:
    """Of three opt-outs one is under lease: all three wait, and the opt-in in its own lane."""
    before = ledger.now()
    imported(ledger, change_of("1"), change_of("2"), change_of("3"), change_of("4", "OPTIN"))
    ledger.queue.claim(BUCKET, 1, "delivery", 60)

    found = ledger.queries.waiting()

    assert {lane: count for (_, lane), count in found.items()} == {Lane.BULK_OPTOUT: 3, Lane.BULK_OPTIN: 1}
    assert set(ledger.queries.waiting_since()) == set(found)
    assert all(before <= since <= ledger.now() for since in ledger.queries.waiting_since().values())


def test_dead_letters_feeds_held_imports_and_rows_are_counted(ledger: Ledger) -> None:
    """A letter that was put away does not stand any more; a held import does."""
    guarded(ledger, change_of("1"), change_of("2"))
    deliver(ledger, NO)
    letters = ledger.dead_letters.find(DeadLetterFilter())
    ledger.dead_letters.discard(letters[:1], who="ann", why="gone")
    deliver(ledger)
    imported(ledger, change_of("5"))
    deliver(ledger)
    guarded(ledger, change_of("5", "OPTIN", 10), **EVERY)

    assert ledger.queries.dead_letters_by_code() == {("capillary", "404"): 1}
    assert list(ledger.queries.last_published()) == ["nightly-#.csv"]
    assert ledger.queries.rows_read()["accepted"] == 4
    assert ledger.queries.imports_held() == len(ledger.review.held_imports()) == 1


def test_a_question_that_takes_too_long_is_given_up(ledger: Ledger) -> None:
    """The database ends the statement, and the next one is not hindered."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

    with pytest.raises(LedgerUnavailable):
        ledger.database.read(lambda tx: tx.execute(text(endless)).scalar(), within=0.1)

    assert ledger.queries.imports_held() == 0
