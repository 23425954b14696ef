"""What becomes of events: recorded, known already, or refused with a reason; on both databases."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, tzinfo
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from consent.change import Bucket
from consent.ledger.ledger import Ledger
from producers.events import ingest
from producers.events.ingest import EventIngest
from producers.parsing.row_parser import parse_context
from tests.support.event_intake import MORNING, OPT_OUT, Refusing, Taker, event
from tests.support.forked_commands.jobs import FORKABLE
from worker.providers import PROVIDERS


def test_an_opt_out_is_recorded_and_wakes_its_connection(taker: Taker) -> None:
    """It holds since the source says that it was published, for it names no time of its own."""
    [[result]] = taker.take(OPT_OUT)

    assert (result.status, len(result.ids)) == ("accepted", 1)
    assert taker.woken == [Bucket("capillary")]
    assert taker.times() == [MORNING]


def test_an_event_that_comes_again_is_a_duplicate(taker: Taker) -> None:
    """It has the same id and wakes no one."""
    [[first]] = taker.take(OPT_OUT)
    taker.woken.clear()
    [[second]] = taker.take(OPT_OUT)

    assert (second.status, second.ids) == ("duplicate", first.ids)
    assert taker.woken == []


def test_of_several_times_the_most_exact_holds(taker: Taker) -> None:
    """The event's own effective_at, else the CloudEvent's time, else when its source says it was published."""
    envelope = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "t", "time": "2026-11-20T07:00:00Z"}
    taker.take(
        {**OPT_OUT, "effective_at": "2026-11-20T06:00:00Z"},
        {**envelope, "data": OPT_OUT},
        {**envelope, "id": "2", "data": {**OPT_OUT, "effective_at": "2026-11-20T05:00:00Z"}},
    )

    assert [one.hour for one in taker.times()] == [6, 7, 5]


def test_an_event_without_any_time_is_refused(taker: Taker) -> None:
    """It never holds since now: delivered again it would look newer than it is."""
    [[result]] = taker.take(event(OPT_OUT, since=None))

    assert (result.status, result.code) == ("rejected", "missing_field")


def test_an_event_from_the_future_is_refused(taker: Taker) -> None:
    """It would win for ever."""
    [[result]] = taker.take({**OPT_OUT, "effective_at": "2999-01-01T00:00:00Z"})

    assert (result.code, result.field) == ("from_the_future", "effective_at")


def test_the_source_s_key_makes_an_event_known_again(taker: Taker) -> None:
    """A message with the same message id is the same, whenever it was received; an id of its own comes first."""
    later = MORNING.replace(hour=9)
    results = taker.take(
        event(OPT_OUT, key="m1"),
        event(OPT_OUT, key="m1", since=later),
        event(OPT_OUT, key="m2"),
        event({**OPT_OUT, "change_id": "own"}, key="m1"),
        event({**OPT_OUT, "change_id": "own"}, key="m3"),
    )

    assert [one.status for [one] in results] == ["accepted", "duplicate", "accepted", "accepted", "duplicate"]


def test_a_number_that_its_sender_uses_again_is_another_event(taker: Taker) -> None:
    """A publisher's counter starts anew, and its clock goes on: the opt-out that got number m1 again was lost."""
    sent = partial(event, OPT_OUT, key="m1", since_is_own=True)
    results = taker.take(
        sent(sender="queue a"),
        sent(sender="queue a", since=MORNING.replace(hour=9)),
        sent(sender="queue a"),
        sent(sender="queue b"),
    )

    assert [one.status for [one] in results] == ["accepted", "accepted", "duplicate", "accepted"]


@pytest.mark.parametrize(
    "named", [{"change_id": "7"}, {"specversion": "1.0", "id": "7", "source": "shop", "type": "x"}]
)
def test_an_entry_that_was_added_twice_is_one_change(taker: Taker, named: dict[str, str]) -> None:
    """A client that got no answer from the stream adds its entry again: only the moment of receipt is another."""
    body = named | ({"data": OPT_OUT} if "specversion" in named else OPT_OUT)
    results = taker.take(event(body), event(body, since=MORNING.replace(hour=9)))

    assert [one.status for [one] in results] == ["accepted", "duplicate"]


def test_a_cloud_event_of_another_time_is_another_event(taker: Taker) -> None:
    """Its sender has used its id again; from whichever source it comes, the same one is the same."""
    named = {"specversion": "1.0", "id": "7", "source": "shop", "type": "x", "data": OPT_OUT}
    results = taker.take(
        event({**named, "time": "2026-11-20T08:00:00Z"}, sender="queue a"),
        event({**named, "time": "2026-11-20T08:00:00Z"}, sender="queue b"),
        event({**named, "time": "2026-11-20T09:00:00Z"}, sender="queue b"),
    )

    assert [one.status for [one] in results] == ["accepted", "duplicate", "accepted"]


def test_a_run_that_was_killed_is_ended_by_the_next(taker: Taker) -> None:
    """A listener that was killed leaves a run that can be sealed once its successor has started."""
    taker.take({**OPT_OUT, "user_id": "1"})
    [killed] = taker.ledger.queries.recent_imports()
    assert taker.ledger.queries.report(killed).state == "reading"

    Taker(taker.ledger).intake.end_abandoned()

    assert taker.ledger.queries.report(killed).state == "released"


def test_each_key_has_a_run_of_its_own(ledger: Ledger) -> None:
    """What one key brings can be held and undone alone; each change is answered in its place, and all runs end."""
    keys = ["key a", "key b", "", "key a"]
    events = [event({**OPT_OUT, "user_id": f"{n}"}, sent_by=by) for n, by in enumerate(keys, 1)]
    bad = event({**OPT_OUT, "channel": "FAX"}, sent_by="key b")

    results = Taker(ledger).take(*events, bad, events[1])

    answers = [one.status for [one] in results]
    assert answers == ["accepted"] * 4 + ["rejected", "duplicate"]
    ids = [result.ids[0] for [result] in results[:4]]
    found = [ledger.queries.find_change(id_) for id_ in ids]
    names = [one.import_name for one in found if one is not None]
    assert names == ["key a, as consent", "key b, as consent", "consent", "key a, as consent"]
    runs = ledger.queries.recent_imports()
    reports = {one.name: one for one in map(ledger.queries.report, runs)}
    assert [(one.accepted, one.rejected, one.duplicates) for _, one in sorted(reports.items())] == [
        (1, 0, 0),
        (2, 0, 0),
        (1, 1, 1),
    ]
    Taker(ledger).intake.end_abandoned()
    assert {ledger.queries.report(one).state for one in runs} == {"released"}


def test_events_of_several_keys_share_a_transaction(ledger: Ledger) -> None:
    """Which the database refuses is rejected alone, whosever it is; each is answered in its place."""
    taker = Taker(ledger)
    taker.intake._intake = counting = Refusing(ledger, {"2", "5"})
    keys = ["key a", "key b", "key a", "key c", "key b"]
    events = [event({**OPT_OUT, "user_id": f"{n}"}, sent_by=by) for n, by in enumerate(keys, 1)]
    events.append(event({**OPT_OUT, "user_id": "1"}, sent_by="key c"))

    results = taker.take(*events)

    answers = [one.status for [one] in results]
    assert answers == ["accepted", "rejected", "accepted", "accepted", "rejected", "duplicate"]
    assert counting.calls == [6, 4]
    assert len({one.ids for [one] in results if one.ids}) == 3
    reports = [report for one in ledger.queries.recent_imports() if (report := ledger.queries.report(one)) is not None]
    assert all(one.balanced for one in reports)
    assert sorted((one.name, one.pending, one.rejected, one.duplicates) for one in reports if one.rows) == [
        ("key a, as consent", 2, 0, 0),
        ("key b, as consent", 0, 2, 0),
        ("key c, as consent", 1, 0, 1),
    ]


def test_a_day_that_ends_between_two_keys_ends_no_run_that_is_written_to(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at the clock is a day later: what is recorded together stands in runs that go on."""
    days = count(1)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime(2026, 11, next(days), tzinfo=tz)

    taker = Taker(ledger)
    monkeypatch.setattr(ingest, "datetime", Clock)
    for ended in (0, 2):
        taker.take(*(event(OPT_OUT, sent_by=by) for by in ("key a", "key b")))
        reports = map(ledger.queries.report, ledger.queries.recent_imports())
        found = sorted((one.state, one.rows) for one in reports if one is not None)
        assert found == [("reading", 1)] * 2 + [("released", 1)] * ended


def test_events_of_very_many_changes_are_recorded_in_several_transactions(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of large events was one transaction with a million changes in memory."""
    monkeypatch.setattr(ingest, "MOST_AT_ONCE", 5)
    taker = Taker(ledger)
    taker.intake._intake = counting = Refusing(ledger, set())

    results = taker.take(*([OPT_OUT | {"user_id": str(3 * n + m)} for m in range(1, 4)] for n in range(7)))

    assert [len(found) for found in results] == [3] * 7
    assert counting.calls == [6, 6, 6, 3]
    assert len({id_ for found in results for one in found for id_ in one.ids}) == 21


def test_an_event_of_too_many_changes_is_refused_whole(ledger: Ledger) -> None:
    """One request of a megabyte was 336,960 changes: half a gigabyte, and five seconds in which no one was answered."""
    context = parse_context({"infobip": PROVIDERS["infobip"].row}, {}, None, None, UTC)
    members = [f"{a}{b}" for a in "abcdefghijklmno" for b in "abcdefghijklmnop"]
    one = {"action": "OPTOUT", "subscription_id": "s1", "channel": "SMS", "users": members}
    taking = EventIngest(ledger.intake, context, "http", "test", lambda _: None)

    (just,) = taking.take([event([one] * 41)])
    (beyond,) = taking.take([event([one] * 42)])

    assert {found.status for found in just} <= {"accepted", "duplicate"}
    assert [(found.status, found.code) for found in beyond] == [("rejected", "event_too_large")]


_TAKE = (
    FORKABLE
    + """
import json, resource, sys
from datetime import UTC
from consent.ledger.ledger import Ledger
from producers.events.event import Event
from producers.events.ingest import EventIngest
from producers.parsing.row_parser import parse_context
from worker.providers import PROVIDERS
ledger = Ledger(sys.argv[1])
ledger.maintenance.prepare()
context = parse_context({"infobip": PROVIDERS["infobip"].row}, {}, None, None, UTC)
intake = EventIngest(ledger.intake, context, "http", "test", lambda _: None)
one = {"action": "OPTOUT", "channel": "SMS", "effective_at": "2026-11-20T08:30:00Z"}
users = [str(n) for n in range(250)]
many = [one | {"subscription_id": f"s{n}", "users": users} for n in range(int(sys.argv[2]))]
events = [Event(json.dumps(many[at : at + 40]).encode()) for at in range(0, len(many), 40)]
events.append(Event(json.dumps(many[:700]).encode()))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
results = intake.take(events)
kinds = [one.code or one.status for found in results for one in found]
print(json.dumps([sorted(set(kinds)), len(kinds), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""
)


@pytest.mark.proof
def test_events_of_very_many_changes_fill_no_memory(tmp_path: Path) -> None:
    """Requests of a megabyte took half a gigabyte each, and the container of 512 MB was killed."""
    measured = subprocess.run(
        [sys.executable, "-c", _TAKE, f"sqlite:///{tmp_path / 'ledger.db'}", "800"],
        capture_output=True,
        text=True,
        check=True,
    )
    kinds, count, kilobytes = json.loads(measured.stdout)

    assert (kinds, count) == (["accepted", "event_too_large"], 801)
    assert kilobytes < 120 * 1024
