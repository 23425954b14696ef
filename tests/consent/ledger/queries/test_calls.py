"""What the latest calls were like, as the ledger has them, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from consent.change import Bucket
from consent.ledger.ledger import Ledger
from consent.ledger.schema import attempts, targets
from tests.support.examples import POSTGRESQL_IN_PROOFS

SECOND = 1_000_000


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """An empty ledger."""
    one = Ledger(ledger_url)
    one.maintenance.migrate()
    yield one
    one.close()


def called(ledger: Ledger, connection: str, *calls: tuple[float, int, int | None], each: int = 1) -> None:
    """Write down calls: seconds since the beginning, milliseconds and status; `each` for so many targets."""

    def work(tx) -> None:
        ids = [
            tx.execute(
                targets.insert().values(
                    target_key=f"{connection}{n}".encode().ljust(16), connection=connection, bucket="", address="{}"
                )
            ).inserted_primary_key[0]
            for n in range(each)
        ]
        for at, milliseconds, status in calls:
            rows = {"at": int(at * SECOND), "milliseconds": milliseconds, "status": status, "purpose": "write"}
            tx.execute(attempts.insert(), [rows | {"target_id": one, "code": "", "change_ids": "[]"} for one in ids])

    ledger.database.write(work)


@POSTGRESQL_IN_PROOFS
def test_calls_a_second_and_their_latency_are_known_for_each_bucket(ledger: Ledger) -> None:
    """Ten calls a second at 150 ms in one connection, one every two seconds at 400 ms in another."""
    called(ledger, "quick", *((100 + n / 10, 150, 200) for n in range(51)))
    called(ledger, "slow", *((100 + 2 * n, 400, 200) for n in range(4)))

    found = ledger.queries.recent_calls()

    quick, slow = found[Bucket("quick")], found[Bucket("slow")]
    assert (quick.per_second, quick.seconds, quick.failed) == (pytest.approx(10), 0.15, 0)
    assert (quick.under_way, slow.under_way) == (pytest.approx(1.5), pytest.approx(0.2))
    assert (slow.per_second, slow.seconds, slow.newest) == (pytest.approx(0.5), 0.4, 106 * SECOND)


def test_a_call_that_carries_many_targets_is_one_call(ledger: Ledger) -> None:
    """A thousand destinations travel in one call: three such calls in two seconds are no overrun limit."""
    called(ledger, "infobip", (1, 90, 200), (2, 95, 200), (3, 91, 200), each=50)

    assert ledger.queries.recent_calls()[Bucket("infobip")].per_second == pytest.approx(1)


def test_no_answer_a_429_and_a_5xx_have_failed_and_a_4xx_has_not(ledger: Ledger) -> None:
    """An unknown customer (404) is an answer; what came an hour before says nothing of now."""
    called(ledger, "capillary", (1, 5, None), (3600, 5, None), (3601, 5, 429), (3602, 5, 503), (3603, 5, 404))

    assert ledger.queries.recent_calls()[Bucket("capillary")].failed == 0.75


@POSTGRESQL_IN_PROOFS
def test_a_single_call_says_nothing_of_calls_a_second(ledger: Ledger) -> None:
    """And a ledger without calls says nothing at all."""
    assert ledger.queries.recent_calls() == {}

    called(ledger, "capillary", (1, 5, 200))

    found = ledger.queries.recent_calls()[Bucket("capillary")]
    assert (found.per_second, found.under_way) == (None, None)
