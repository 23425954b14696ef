"""Requests share commits, and none of them pays for another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from consent.errors import LedgerUnavailable
from consent.ledger.ledger import Ledger
from producers.events.event import Event
from producers.events.ingest import Result
from producers.http import batch_writer, middleware
from tests.support.http_server import ANN, server, statuses

DONE = [Result("accepted", ("00",))]


class SlowIntake:
    """An intake that takes its time for each commit, and has its faults."""

    def __init__(self, seconds: float = 0.0, poison: str = "") -> None:
        self.seconds = seconds
        self.poison = poison.encode()
        self.commits: list[int] = []
        self.closed = False

    def take(self, events: Sequence[Event]) -> list[list[Result]]:
        """Record nothing, slowly."""
        time.sleep(self.seconds)
        if self.poison and any(self.poison in bytes(event.body) for event in events):  # type: ignore[arg-type]
            raise ZeroDivisionError("ann@example.com")
        self.commits.append(len(events))
        return [DONE for _ in events]

    def close(self) -> None:
        """Remember it."""
        self.closed = True


def test_requests_that_come_together_share_a_commit(books: Ledger) -> None:
    """Thirty requests at once cost a few commits, and a lone one waits for no one."""
    intake = SlowIntake(0.1)
    with server(books, intake) as served, ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda _: served.post(ANN), range(30)))

    assert {one.status_code for one in answers} == {202}
    assert sum(intake.commits) == 30
    assert len(intake.commits) <= 15
    assert intake.closed


def test_a_request_that_breaks_our_code_breaks_alone(books: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """An error that no one expected is 500 for its own request and says nothing; the others are recorded."""
    with server(books, SlowIntake(0.05, poison="boom")) as served, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: served.post(ANN | {"reason": "boom" if n == 3 else "fine"}), range(8)))

    assert [one.status_code for one in answers] == [202, 202, 202, 500, 202, 202, 202, 202]
    assert answers[3].json()["code"] == "unexpected"
    assert "example.com" not in answers[3].text + caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_too_much_at_once_is_put_off(books: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """When more waits than can be kept, further requests are told when to come again, and nothing fills the memory."""
    monkeypatch.setattr(batch_writer, "_MOST_WAITING", 2)
    with server(books, SlowIntake(0.3)) as served, ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: served.post(ANN), range(6)))

    assert {one.status_code for one in answers} == {202, 503}
    assert {one.headers["retry-after"] for one in answers if one.status_code == 503} == {"2"}


def test_a_request_under_way_is_not_let_go(books: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is for heads: an answer may take longer, also after other requests on the same connection."""
    monkeypatch.setattr(middleware, "HEAD_SECONDS", 0.3)
    with server(books, SlowIntake(0.8)) as served:
        answered = [served.post(ANN) for _ in range(2)]

    assert [one.status_code for one in answered] == [202, 202]


def test_a_ledger_that_hangs_acknowledges_nothing(books: Ledger) -> None:
    """After a while the client is told to ask again; what was handed over may be recorded, and is known then."""
    with server(books, SlowIntake(0.5), gathering={"patience": 0.1}) as served:
        answered = served.post(ANN)

    assert (answered.status_code, answered.json()["code"]) == (503, "ledger_unavailable")
    assert int(answered.headers["retry-after"]) >= 1


def test_a_ledger_that_is_away_acknowledges_nothing(books: Ledger) -> None:
    """The answer says that nothing was acknowledged, and nothing about the database."""

    class Away(SlowIntake):
        def take(self, _events: Sequence[Event]) -> list[list[Result]]:
            raise LedgerUnavailable("the ledger's database says: db.example.com refuses optrelay")

        def close(self) -> None:
            raise LedgerUnavailable("still away")

    with server(books, Away()) as served:
        answered = served.post(ANN)

    assert answered.status_code == 503
    assert "example" not in answered.text


def test_a_ledger_that_comes_back_takes_the_same_request(books: Ledger) -> None:
    """The client sends the same again, and it is accepted."""
    with server(books) as served:
        take = served.state.batch_writer._intake.take
        served.state.batch_writer._intake.take = Away_once(take)  # type: ignore[method-assign]

        first, again = served.post(ANN), served.post(ANN)

    assert (first.status_code, again.status_code, statuses(again)) == (503, 202, ["accepted"])


class Away_once:  # noqa: N801 - it stands for a function
    """A ledger that is away for one call."""

    def __init__(self, take: object) -> None:
        self.take = take
        self.calls = 0

    def __call__(self, events: Sequence[Event]) -> list[list[Result]]:
        """Fail the first time."""
        self.calls += 1
        if self.calls == 1:
            raise LedgerUnavailable("away")
        return self.take(events)  # type: ignore[operator,no-any-return]
