"""What a person is told of, as a real ledger shows it, and that it is over when it is; no person is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from consent.connection import ConnectionSettings
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import Breaker, Trip
from consent.outcome import PermanentFailure
from consent.settings import Settings
from tests.support.clock import Clock
from tests.support.ledgers import change_of, deliver, guarded, imported
from worker import notices
from worker.notices import CONDITIONS, look

SETTINGS = Settings(
    connections={"capillary": ConnectionSettings(provider="capillary", base_url="http://127.0.0.1:1")},
    notify=(SecretStr("https://example.com/hook"),),
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    one = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    one.maintenance.prepare()
    yield one
    one.close()


def kinds(ledger: Ledger) -> set[str]:
    """What is open after a look."""
    look(SETTINGS, ledger)
    return {one.kind for one in ledger.notices.current()}


def test_a_held_import_is_told_until_it_is_withdrawn(ledger: Ledger) -> None:
    """By its id, and not by the name of its file."""
    from consent.ledger.review.holds import Decision

    imported(ledger, change_of("ann"))
    deliver(ledger)
    import_id = guarded(ledger, change_of("ann", "OPTIN", 10), resurrects_most=0)
    assert kinds(ledger) == {"import_held"}
    assert import_id in ledger.notices.current()[0].message
    assert "nightly" not in ledger.notices.current()[0].message
    ledger.review.withdraw(import_id, Decision("bob", "wrong file"))
    assert kinds(ledger) == set()


def test_dead_letters_are_told_until_all_are_put_away(ledger: Ledger) -> None:
    """With their code and how many, and without the customer."""
    for number, message in (("387006417", "1 dead letter of capillary"), ("387006418", "2 dead letters of capillary")):
        imported(ledger, change_of(number))
        deliver(ledger, PermanentFailure("404", "there is no customer 387006417"))
        look(SETTINGS, ledger)
        assert message in ledger.notices.current()[0].message
    assert kinds(ledger) == {"dead_letters_new"}
    assert "38700" not in ledger.notices.current()[0].message
    ledger.dead_letters.discard(ledger.dead_letters.find(DeadLetterFilter()), who="ann", why="gone")
    assert kinds(ledger) == set()


def test_a_stopped_connection_is_told_at_once_if_refused_and_later_if_down(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that is away for a minute calls no one out of bed; one that refuses us will not come back alone."""
    well, now = ledger.breakers.health_of("capillary"), ledger.now()
    ledger.breakers.open_breaker(well, Trip(Breaker.DOWN, "no answer about 387006417", now), now=now)
    assert kinds(ledger) == set()
    monkeypatch.setattr(notices, "DOWN_SECONDS", 0.0)
    assert kinds(ledger) == {"connection_stopped"}
    assert "38700" not in ledger.notices.current()[0].message
    monkeypatch.undo()
    down = ledger.breakers.health_of("capillary")
    ledger.breakers.open_breaker(down, Trip(Breaker.REFUSED, "HTTP 401", now), now=now)
    assert kinds(ledger) == {"connection_stopped"}
    ledger.breakers.close_breaker(ledger.breakers.health_of("capillary"), served=None)
    assert kinds(ledger) == set()


def test_a_missed_deadline_is_told(ledger: Ledger) -> None:
    """An opt-out of a week ago that no one has delivered."""
    imported(ledger, change_of("387006417"))
    assert "deadline_breached" in kinds(ledger)
    deliver(ledger)
    assert kinds(ledger) == set()


def test_a_disk_that_is_nearly_full_is_told(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the ledger is a file."""
    monkeypatch.setattr(notices, "_LEAST_BYTES", 10**18)
    assert kinds(ledger) == {"ledger_full"}


def test_a_database_that_nears_its_limit_is_told(ledger_url: str) -> None:
    """On a server no one else says it: the disk there ended in a morning without opt-outs."""
    ledger = Ledger(ledger_url)
    size = ledger.maintenance.size() / 1e9
    assert size > 0
    for share, open_ones in ((0.85, 0), (0.95, 1)):
        look(SETTINGS.model_copy(update={"ledger_gb": size / share}), ledger)
        assert [one.key for one in ledger.notices.current()] == ["ledger_full:size"] * open_ones
    look(SETTINGS.model_copy(update={"ledger_gb": 0.0}), ledger)
    assert ledger.notices.current() == []
    ledger.close()


def test_every_kind_is_documented() -> None:
    """docs/notices.md has a row for each."""
    page = (Path(__file__).parents[2] / "docs" / "notices.md").read_text()
    assert [kind for kind in (*CONDITIONS, notices.FILE_MISSING) if f"| `{kind}` |" not in page] == []


def test_a_provider_that_invents_codes_floods_no_one(ledger: Ledger) -> None:
    """It refuses each customer with a code of its own: one notice tells of all of them, and not a hundred."""
    for number in range(notices.MOST_CODES + 5):
        imported(ledger, change_of(f"3870064{number:02}"))
        deliver(ledger, PermanentFailure(f"{9_000 + number}", "no"))
    look(SETTINGS, ledger)
    (one,) = ledger.notices.current()
    assert one.kind == "dead_letters_new"
    assert f"{notices.MOST_CODES + 5} dead letters of capillary" in one.message


def test_a_backlog_that_does_not_fall_is_told_until_it_falls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many wait as an hour ago, though workers run; what less than an hour shows says nothing, nor what falls."""
    seen = notices.standstill
    monkeypatch.setattr(notices, "standstill", lambda *asked: replace(seen(*asked), no_worker=""))
    monkeypatch.setattr(notices, "MANY_WAIT", 3)
    clock = Clock()
    one = Ledger(f"sqlite:///{tmp_path / 'slow.db'}", clock=clock)
    one.maintenance.prepare()
    imported(one, *(change_of(f"38700641{n}") for n in range(4)))
    found = []
    for _ in range(4):
        found.append("backlog_not_falling" in kinds(one))
        clock.forward(1_200)
    found.append("backlog_not_falling" in kinds(one))
    (open_one,) = [notice for notice in one.notices.current() if notice.kind == "backlog_not_falling"]
    assert open_one.key == "backlog_not_falling:capillary"
    assert "4 opt-outs of capillary" in open_one.message
    deliver(one)
    found.append("backlog_not_falling" in kinds(one))
    one.close()
    assert found == [False, False, False, True, True, False]


def test_a_long_pause_of_opt_outs_is_told_until_it_ends(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a quarter of the shortest deadline, which is 48 hours; a pause of opt-ins is not."""
    change = replace(change_of("ann"), effective_at=ledger.now())
    imported(ledger, change)
    ledger.pauses.pause("capillary", None, only_optins=True, who="bob", why="a test")
    hours = 3_600_000_000
    later = ledger.now() + 13 * hours
    monkeypatch.setattr(ledger, "now", lambda: later)
    assert "paused_long" not in kinds(ledger)

    monkeypatch.undo()
    ledger.pauses.pause("capillary", None, only_optins=False, who="bob", why="a test")
    assert "paused_long" not in kinds(ledger)
    monkeypatch.setattr(ledger, "now", lambda: later)
    assert "paused_long" in kinds(ledger)
    [notice] = [one for one in ledger.notices.current() if one.kind == "paused_long"]
    assert "1 customer of capillary with opt-outs waits" in notice.message

    ledger.pauses.resume("capillary", None, who="bob", why="tested")
    assert "paused_long" not in kinds(ledger)


def test_a_backlog_that_is_paused_on_purpose_is_no_standstill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`paused_long` tells of it; a pause of opt-ins alone holds no opt-out back, and hides nothing."""
    seen = notices.standstill
    monkeypatch.setattr(notices, "standstill", lambda *asked: replace(seen(*asked), no_worker=""))
    monkeypatch.setattr(notices, "MANY_WAIT", 3)
    clock = Clock()
    one = Ledger(f"sqlite:///{tmp_path / 'paused.db'}", clock=clock)
    one.maintenance.prepare()
    imported(one, *(change_of(f"38700641{n}") for n in range(4)))
    found = []
    one.pauses.pause("capillary", None, only_optins=False, who="ann", why="a migration")
    for _ in range(5):
        found.append("backlog_not_falling" in kinds(one))
        clock.forward(1_200)
    one.pauses.resume("capillary", None, who="ann", why="done")
    one.pauses.pause("capillary", None, only_optins=True, who="ann", why="a migration")
    for _ in range(4):
        found.append("backlog_not_falling" in kinds(one))
        clock.forward(1_200)
    one.close()
    assert found == [False] * 8 + [True]
