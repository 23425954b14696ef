"""A gateway before the provider that refuses single customers, whatever it says to them: no one else must wait.

A firewall that dislikes one identifier answers 403 to it, a misrouted shard 404 or a redirect, a broken one 502. Each
of these answers speaks of the connection; only that others are served shows that it is about one customer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.company import Company, Row, assert_balanced, company

proof, param = pytest.mark.proof, pytest.param

FIRST = 500_000_000
CUSTOMERS = 600


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Company]:
    """A company that may make a hundred calls a second and tries each change three times."""
    with company(tmp_path, latency=(0.0, 0.01)) as one:
        one.settings |= {
            "CONNECTIONS__CAPILLARY__RATE": "100/second",
            "CONNECTIONS__CAPILLARY__TIMEOUT": "1",
            "MAX_ATTEMPTS": "3",
            "BACKOFF_SECONDS": "0.5",
        }
        yield one


def rows(count: int) -> list[Row]:
    """An opt-out for each customer."""
    return [
        {
            "user_id": str(FIRST + number),
            "channel": "EMAIL",
            "priority": "BULK",
            "action": "OPTOUT",
            "effective_at": "2026-11-20T08:00:00+00:00",
            "reason": "nightly",
            "org_unit_id": "-1",
            "account_id": "",
        }
        for number in range(count)
    ]


def refuse(shop: Company, answer: dict[str, Any], customers: list[str]) -> None:
    """Let the gateway answer these customers like this, and no one else."""
    shop.fault(**answer, users=customers)


POISON = [str(FIRST + number) for number in (0, 1, 2, 3, 300)]
"""Four of them are the oldest opt-outs: the first to be called, and what each probe used to take."""


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        param({"kind": "html", "http_status": 403}, "403", marks=proof),
        param({"kind": "html", "http_status": 404}, "404", marks=proof),
        param({"kind": "html", "http_status": 302}, "302", marks=proof),
        param({"kind": "html", "http_status": 405}, "405", marks=proof),
        param({"kind": "html", "http_status": 415}, "415", marks=proof),
        param({"kind": "throttle", "retry_after": 1}, "429", marks=proof),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_customers_that_a_gateway_refuses_stop_no_one(shop: Company, answer: dict[str, Any], code: str) -> None:
    """595 people went on getting mail for as long as five others were refused: each run ended after one call."""
    refuse(shop, answer, POISON)
    started = time.monotonic()

    exit_code, found, stderr = shop.run("run", shop.write(rows(CUSTOMERS)), timeout=100)

    assert exit_code == 1, stderr
    assert_balanced(found)
    assert (found["applied"], found["dead"]) == (CUSTOMERS - 5, 5)
    assert not shop.held().keys() & {(user, "EMAIL", "BULK") for user in POISON}
    _, letters, _ = shop.run("dead-letters", "list")
    assert {letter["code"] for letter in letters} == {code}
    assert all("while other customers were served" in letter["reason"] for letter in letters)
    print(code, round(time.monotonic() - started, 1), "s")
    assert time.monotonic() - started < 30


@proof
def test_refused_customers_who_stand_side_by_side_stop_no_one(shop: Company) -> None:
    """A file begins with the 30 customers of a closed branch: night after night no one behind them was called.

    Each probe took the next one of them, and after three the credentials were said to be wrong.
    """
    branch = [str(FIRST + number) for number in range(30)]
    refuse(shop, {"kind": "html", "http_status": 403}, branch)

    exit_code, found, stderr = shop.run("run", shop.write(rows(300)), timeout=100)

    assert exit_code == 1, stderr
    assert (found["applied"], found["dead"]) == (270, 30)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"kind": "html", "http_status": 502}, "502"),
        param({"kind": "html", "http_status": 504}, "504", marks=proof),
        param({"kind": "latency", "delay": 5, "commit": False}, "timed_out", marks=proof),
        param({"kind": "reset"}, "cut", marks=proof),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_customers_that_draw_no_answer_stop_no_one(shop: Company, answer: dict[str, Any], code: str) -> None:
    """Everybody's opt-outs stood still while five customers' calls failed; those end as dead letters, alone."""
    refuse(shop, answer, POISON)
    started = time.monotonic()

    exit_code, found, stderr = shop.run("run", shop.write(rows(CUSTOMERS)), timeout=100)

    assert exit_code == 1, stderr
    assert_balanced(found)
    assert (found["applied"], found["dead"]) == (CUSTOMERS - 5, 5)
    _, letters, _ = shop.run("dead-letters", "list")
    # A call that hangs at the provider makes it refuse the next one for the same customer as busy.
    assert {letter["code"] for letter in letters} <= {code, "521"}
    print(code, round(time.monotonic() - started, 1), "s")
