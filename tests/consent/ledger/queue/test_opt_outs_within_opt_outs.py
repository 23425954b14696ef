"""Opt-outs of everything and of one channel: whichever the provider holds, no opt-out is kept back for the other."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from consent.ledger.ledger import Ledger
from consent.outcome import Outcome, PermanentFailure
from consent.times import from_micros, to_micros
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.providers.blocklist import (
    BUCKET,
    MORNING,
    Blocklist,
    Statement,
    delivered,
    record_changes,
    recorded,
    settlement,
)
from worker.providers.infobip import INFOBIP
from worker.providers.infobip.row import BLOCKLIST


def record_dump(ledger: Ledger, moment: datetime, *statements: Statement) -> None:
    """Record a file whose rows bring no time, so that they hold since its own."""
    record_changes(
        ledger, [replace(one.change(), effective_at=to_micros(moment), own_time=False) for one in statements]
    )


@POSTGRESQL_IN_PROOFS
def test_an_opt_out_since_a_wider_one_was_confirmed_is_sent(ledger: Ledger) -> None:
    """Someone lifts Ann's block at Infobip, she opts out of SMS again, and a dump keeps that from being sent."""
    provider = Blocklist()
    record_dump(ledger, MORNING, Statement())
    delivered(ledger, provider)
    confirmed_at = from_micros(ledger.now())
    record_dump(ledger, confirmed_at + timedelta(minutes=2), Statement())
    provider.entries.clear()

    record_changes(
        ledger, [replace(Statement("SMS").change(), effective_at=to_micros(confirmed_at + timedelta(minutes=1)))]
    )
    delivered(ledger, provider)
    assert provider.entries == {("SMS", "", "CUSTOM")}


def test_an_opt_out_is_not_overtaken_by_a_wider_one_that_died(ledger: Ledger) -> None:
    """Infobip refuses to block everything for Ann, and her older opt-out of SMS is never tried."""
    provider = Blocklist()
    recorded(ledger, Statement(minute=2))
    (task,) = ledger.queue.claim(BUCKET, 10, "delivery", 60, overlap=INFOBIP.overlap(BLOCKLIST))
    dead: dict[int, Outcome] = {change.id: PermanentFailure("400", "refused") for change in task.changes}
    ledger.queue.settle("delivery", [settlement(ledger, task, dead)])

    recorded(ledger, Statement("SMS", minute=1))
    delivered(ledger, provider)
    assert provider.entries == {("SMS", "", "CUSTOM")}


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize("sender", ["SHOP", ""])
def test_an_opt_out_that_an_opt_in_overtook_is_not_sent_for_a_wider_one_that_died(ledger: Ledger, sender: str) -> None:
    """Ann opts in to everything after an opt-out of SMS; a refused opt-out of more brings the old one back."""
    provider = Blocklist()
    recorded(ledger, Statement(action="OPTIN", minute=2))
    delivered(ledger, provider)
    recorded(ledger, Statement(sender=sender, minute=3))
    (task,) = ledger.queue.claim(BUCKET, 10, "delivery", 60, overlap=INFOBIP.overlap(BLOCKLIST))
    dead: dict[int, Outcome] = {change.id: PermanentFailure("400", "refused") for change in task.changes}
    ledger.queue.settle("delivery", [settlement(ledger, task, dead)])

    recorded(ledger, Statement("SMS", "SHOP", minute=1))
    delivered(ledger, provider)
    assert not provider.entries


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize("rows", [(Statement(), Statement("SMS")), (Statement("SMS"), Statement())])
def test_a_dump_that_opts_out_of_everything_and_of_sms_calls_once(
    ledger: Ledger, rows: tuple[Statement, Statement]
) -> None:
    """Each night a call is made for everybody who opted out twice, since either call makes the other forgotten."""
    provider = Blocklist()
    calls = []
    for night in range(4):
        record_dump(ledger, MORNING + timedelta(days=night), *rows)
        delivered(ledger, provider)
        calls.append(provider.calls)
    assert calls[1:] == [calls[1]] * 3
