"""What stands still is said, and cron is told by the exit code."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from consent.broker.wakeups import KEY_PREFIX, redis_client
from consent.change import Bucket
from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import Breaker, BucketHealth, Trip
from consent.outcome import Retry
from console.local.broker import LocalBroker
from tests.support.command_line import Cli
from tests.support.ledgers import BUCKET, change_of, imported, settlement

HOUR = 3_600_000_000


def recorded_before(url: str, hours: float, action: str = "OPTOUT") -> None:
    """A file of one change that became due so long ago."""
    ledger = Ledger(url, clock=lambda: time.time_ns() // 1_000 - int(hours * HOUR))
    ledger.maintenance.prepare()
    imported(ledger, change_of("7", action))
    ledger.close()


def checked(cli: Cli) -> tuple[int, list[str]]:
    """The exit code for cron, and what is said."""
    answer = cli("status", "--check", "--json")
    return answer.code, answer.json["problems"]


def test_nothing_stands_still_at_first(cli: Cli, url: str) -> None:
    """A change of a moment ago is no reason to call anyone; its age is told."""
    recorded_before(url, 0.01)
    answer = cli("status", "--check")

    assert (answer.code, "problem" in answer.out) == (0, False)
    assert "oldest pending opt-out: " in answer.out
    assert cli("status", "--json").json["oldest_pending_opt_out"]["seconds"] >= 36


def test_changes_that_no_worker_takes(cli: Cli, url: str) -> None:
    """Due for an hour, without broker and run: `status` and the doctor both say so."""
    recorded_before(url, 1, "OPTIN")
    code, [problem] = checked(cli)
    doctor = cli("doctor")

    assert code == 4
    assert problem.startswith("changes have been due for 1 h")
    assert "optrelay run" in problem
    assert cli("status").code == 0
    assert (doctor.code, problem in doctor.out, "no problem found" in doctor.out) == (1, True, False)


def test_an_opt_out_that_waits_for_its_next_try_for_days(cli: Cli, url: str) -> None:
    """It is put off, not due: it is as old all the same."""
    recorded_before(url, 30)
    ledger = Ledger(url)
    [task] = ledger.queue.claim(BUCKET, 1, "token", 60)
    later = ledger.now() + HOUR
    ledger.queue.settle("token", [settlement(task, Retry("500", "busy", counts=False), ledger.now(), later)])
    ledger.close()
    code, problems = checked(cli)

    assert code == 4
    assert problems == ["the oldest pending opt-out has waited for 1 d 6 h: `optrelay status` says on what"]


def test_a_stopped_connection(cli: Cli, url: str) -> None:
    """Its breaker is open: that alone is something to look at."""
    recorded_before(url, 0.01)
    ledger = Ledger(url)
    trip = Trip(Breaker.REFUSED, "Capillary refused the credentials", ledger.now() + 60_000_000)
    ledger.breakers.open_breaker(BucketHealth("capillary"), trip, now=ledger.now())
    ledger.close()
    code, [problem] = checked(cli)

    assert (code, "Capillary refused the credentials" in problem) == (4, True)


def test_what_reports_at_the_broker(cli: Cli, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Worker and sweep report there; whichever does not is named with its remedy."""
    broker = LocalBroker(tmp_path / "broker")
    broker.ensure()
    monkeypatch.setenv("OPTRELAY_BROKER_URL", broker.url)
    recorded_before(url, 1)
    _, [neither] = checked(cli)
    client = redis_client(broker.url)
    client.set(f"{KEY_PREFIX}worker:celery@test", "{}")
    _, [one] = checked(cli)
    client.set(f"{KEY_PREFIX}sweep", "1")
    both = checked(cli)
    client.close()
    broker.stop()

    assert "optrelay worker" in neither
    assert "optrelay sweep" in neither
    assert ("optrelay worker" in one, "optrelay sweep" in one) == (False, True)
    assert both == (0, [])


def test_the_first_of_many_is_found(ledger: Ledger) -> None:
    """Of both lanes and of those put off, the first is told, on both databases."""
    assert ledger.queries.backlog([BUCKET]).opt_out_since is None
    imported(ledger, change_of("1", "OPTIN"))
    first = ledger.now()
    assert ledger.queries.backlog([BUCKET]).due_since is not None
    assert ledger.queries.backlog([BUCKET]).opt_out_since is None
    imported(ledger, change_of("2"), change_of("3"))
    found = ledger.queries.backlog([BUCKET, Bucket("other")])

    assert found.due_since is not None
    assert found.opt_out_since is not None
    assert found.due_since <= first <= found.opt_out_since


def test_looking_makes_no_ledger(cli: Cli, tmp_path: Path) -> None:
    """In the wrong folder the check is no success."""
    assert cli("status", "--check").code == 2
    assert not list(tmp_path.iterdir())
