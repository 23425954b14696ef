"""Faults on demand: each kind, which calls it hits, and how long it lasts."""

import time
from typing import Any

import pytest

from tests.sandbox.calling import Caller, code, row


@pytest.mark.parametrize(
    ("fault", "status", "expected"),
    [
        ({"kind": "error", "code": 500}, 500, 500),
        ({"kind": "error", "code": 500, "http_status": 200}, 200, 500),
        ({"kind": "error", "code": 503}, 503, 503),
        ({"kind": "error", "code": 461}, 461, 461),
        ({"kind": "error", "code": 1000}, 400, 1000),
        ({"kind": "error", "code": 8109, "http_status": 200}, 200, 8109),
        ({"kind": "error", "code": 99999}, 400, 99999),
        ({"kind": "busy"}, 521, 521),
        ({"kind": "unknown"}, 400, 1012),
        ({"kind": "throttle"}, 429, 429),
    ],
)
def test_an_error_has_its_code_and_changes_nothing(
    capillary: Caller, fault: dict[str, Any], status: int, expected: int
) -> None:
    """The reply carries the code in Capillary's error body, and the row is not held."""
    capillary.fault(**fault)

    reply = capillary.write()

    assert (reply.status_code, code(reply)) == (status, expected)
    assert capillary.rows() == []


def test_a_throttle_may_say_how_long_to_wait(capillary: Caller) -> None:
    """Retry-After is there only when the fault gives it."""
    capillary.fault("throttle", next=1, retry_after=7)
    capillary.fault("throttle", next=1)

    assert [capillary.write().headers.get("Retry-After") for _ in range(2)] == ["7", None]


def test_a_broken_reply_is_no_json(capillary: Caller) -> None:
    """An HTML page and an empty 200 change nothing; a reply that breaks off comes after the change was made."""
    for kind in ("html", "empty", "malformed"):
        capillary.fault(kind, next=1)

    html, empty, malformed = (capillary.write(user) for user in ("1", "2", "3"))

    assert (html.status_code, html.headers["Content-Type"]) == (502, "text/html")
    assert (empty.status_code, empty.content) == (200, b"")
    with pytest.raises(ValueError, match="Unterminated"):
        malformed.json()
    assert [len(capillary.rows(user)) for user in ("1", "2", "3")] == [0, 0, 1]


def test_a_row_can_fail_with_a_warning(capillary: Caller) -> None:
    """The chosen row gets 91022 and is not held; its neighbours are done."""
    capillary.fault("warn", channel="mobile", priority="BULK")

    reply = capillary.write("1001", row(), row("MOBILE"), row("MOBILE", "TRANS"))

    assert reply.status_code == 200
    assert reply.json()["warnings"] == [
        {
            "status": False,
            "message": "Failed to update subscription for MOBILE channel and priority BULK.",
            "code": 91022,
        }
    ]
    assert len(reply.json()["subscriptions"]) == len(capillary.rows()) == 2


def test_a_row_can_vanish_without_a_word(capillary: Caller) -> None:
    """The next three rows are neither held nor echoed, and no warning is given."""
    capillary.fault("drop", next=3)

    first = capillary.write("1001", row(), row("MOBILE")).json()
    second = capillary.write("1001", row(), row("MOBILE")).json()

    assert (first["subscriptions"], first["warnings"]) == ([], [])
    assert [kept["channel"] for kept in second["subscriptions"]] == ["MOBILE"]
    assert len(capillary.rows()) == 1


def test_a_fault_can_be_for_chosen_customers(capillary: Caller) -> None:
    """Only customers named by id or by pattern are hit."""
    capillary.fault("error", code=8109, users=["1001", "55*"])

    assert [code(capillary.write(user)) for user in ("1001", "5500")] == [8109, 8109]
    assert capillary.write("1002").status_code == 200


def test_a_fault_can_be_for_reads_only(capillary: Caller) -> None:
    """`on` keeps a fault away from the other kind of call."""
    capillary.fault("busy", on="read")

    assert (capillary.write().status_code, capillary.read().status_code) == (200, 521)


def test_a_fault_ends_after_its_number_of_calls(capillary: Caller) -> None:
    """`next` counts the calls that were hit, and the table tells when it is spent."""
    capillary.fault("busy", next=2)

    assert [capillary.write().status_code for _ in range(3)] == [521, 521, 200]
    assert capillary.faults() == [{"kind": "busy", "next": 2, "bites": 2, "spent": True}]


def test_a_fault_ends_after_its_seconds(capillary: Caller) -> None:
    """`seconds` counts from when it was ordered."""
    capillary.fault("busy", seconds=0.2)
    assert capillary.write().status_code == 521

    time.sleep(0.25)

    assert capillary.write().status_code == 200


def test_a_fault_by_chance_can_be_repeated(capillary: Caller) -> None:
    """The same seed hits the same calls, and about the probability's share of them."""
    runs = []
    for _ in range(2):
        capillary.http.post("/_sandbox/reset")
        capillary.fault("busy", probability=0.3, seed=11)
        runs.append([capillary.write().status_code for _ in range(100)])

    assert runs[0] == runs[1]
    assert 15 < runs[0].count(521) < 45


def test_latency_can_come_before_or_after_the_change(capillary: Caller) -> None:
    """A delayed call takes its time; with `commit` the change is already made while it waits."""
    capillary.fault("latency", delay=0.1, delay_to=0.15, next=1)
    capillary.fault("latency", delay=0.1, commit=True, next=1)

    began = time.monotonic()
    capillary.write("1")
    capillary.write("2")

    assert 0.2 <= time.monotonic() - began < 1
    (late,), (early,) = capillary.rows("1"), capillary.rows("2")
    answered = [call["answered"] for call in capillary.calls()]
    assert answered[0] - late["at"] < 0.05 < answered[1] - early["at"]


def test_faults_can_be_ordered_together_and_lifted(capillary: Caller) -> None:
    """A list orders several; DELETE lifts them all."""
    capillary.http.post("/_sandbox/faults", json=[{"kind": "busy", "users": ["1"]}, {"kind": "html"}])
    assert [capillary.write(user).status_code for user in ("1", "2")] == [521, 502]

    capillary.http.delete("/_sandbox/faults")

    assert capillary.write("1").status_code == 200


@pytest.mark.parametrize("wrong", [{"kind": "flood"}, {"kind": "error"}, {"kind": "busy", "nxt": 1}, 5])
def test_an_order_that_makes_no_sense_is_refused(capillary: Caller, wrong: Any) -> None:
    """A fault that is misspelt gets 400 and is not put in force."""
    assert capillary.http.post("/_sandbox/faults", json=wrong).status_code == 400
    assert capillary.faults() == []
