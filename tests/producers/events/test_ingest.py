"""What becomes of events: recorded, known already, or refused with a reason; on both databases."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from consent.change import Bucket
from consent.errors import LedgerRefused
from consent.ledger.ledger import Ledger
from consent.ledger.rejected_events import RejectedFilter
from consent.ledger.schema import changes, rejects
from producers.events import ingest
from producers.events.event import LONGEST_EVENT, Event
from producers.events.ingest import EventIngest, Result
from producers.parsing.error_messages import RowError
from producers.parsing.row_parser import parse_context
from tests.support.examples import examples
from worker.providers import PROVIDERS

OPT_OUT = {"user_id": "387006417", "channel": "EMAIL", "priority": "BULK", "action": "OPTOUT"}
ALL = RejectedFilter()
MORNING = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)


class Taker:
    """An intake for Capillary's rows, and the buckets that it has woken."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.woken = ledger, []
        context = parse_context({"capillary": PROVIDERS["capillary"].row}, {}, None, None, UTC)
        self.intake = EventIngest(ledger.intake, context, "redis stream", "consent", self.wake)

    def wake(self, buckets: Iterable[Bucket]) -> None:
        """Note who is woken."""
        self.woken.extend(buckets)

    def take(self, *events: Any) -> list[list[Result]]:
        """Take events, given as such or as what they say."""
        return self.intake.take([one if isinstance(one, Event) else event(one) for one in events])

    def refused(self) -> list[tuple[str, str | None, str | None]]:
        """Code, field and place of each refused event in the ledger."""
        query = select(rejects.c.code, rejects.c.column_name, rejects.c.place).order_by(rejects.c.line)
        return [tuple(row) for row in self.ledger.database.read(lambda tx: tx.execute(query).all())]

    def times(self) -> list[datetime]:
        """Since when each recorded change holds."""
        query = select(changes.c.effective_at).order_by(changes.c.id)
        found = self.ledger.database.read(lambda tx: tx.execute(query).scalars().all())
        return [datetime.fromtimestamp(one / 1_000_000, UTC) for one in found]


def event(said: Any, **more: Any) -> Event:
    """An event that was published this morning."""
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return replace(Event(body, since=MORNING), **more)


@pytest.fixture
def any_taker(ledger: Ledger) -> Taker:
    """An intake on an empty ledger, on each database."""
    return Taker(ledger)


@pytest.fixture
def taker(tmp_path: Path) -> Iterator[Taker]:
    """An intake on an empty SQLite ledger, where the database makes no difference."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.maintenance.migrate()
    yield Taker(ledger)
    ledger.close()


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
    said = named | ({"data": OPT_OUT} if "specversion" in named else OPT_OUT)
    results = taker.take(event(said), event(said, since=MORNING.replace(hour=9)))

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


def test_a_poison_event_harms_only_itself(any_taker: Taker) -> None:
    """Each is recorded once with its place, the field at fault and the reason; the good ones are recorded too."""
    poison = event({**OPT_OUT, "channel": "FAX"}, place="stream consent, entry 5-0")
    several = event([OPT_OUT, {**OPT_OUT, "Action": "x"}, {"user_id": "1"}], place="stream consent, entry 6-0")
    results = any_taker.take(poison, {**OPT_OUT, "user_id": "2"}, several)
    any_taker.take(poison, several)

    assert [[one.status for one in found] for found in results] == [
        ["rejected"],
        ["accepted"],
        ["accepted", "rejected", "rejected"],
    ]
    assert any_taker.refused() == [
        ("unknown_value", "channel", "stream consent, entry 5-0"),
        ("named_twice", "Action", "stream consent, entry 6-0, change 2"),
        ("missing_field", "action", "stream consent, entry 6-0, change 3"),
    ]


def kept(taker: Taker) -> list[tuple[str, bytes, int]]:
    """Code, text and place in its event of each refused change that is kept."""
    found = [
        (one.code, taker.ledger.rejected_events.what_it_said(one.id)) for one in taker.ledger.rejected_events.find(ALL)
    ]
    return [(code, said.body, said.position) for code, said in found]


def test_of_a_list_only_what_is_refused_is_kept(any_taker: Taker) -> None:
    """It is kept as its sender wrote it, so that it can be fixed: names that stand twice, numbers of any form."""
    good = json.dumps(OPT_OUT).encode()
    twice = b'{"action": "OPTOUT", "action":  "OPTIN", "x": 1.50, "y": [1, "],"]}'
    any_taker.take(
        event(b"\xef\xbb\xbf [" + good + b" ,\n" + twice + b", 7 ]"),
        event(good + b"\r\n{oops\xff\n", headers={"content-type": "application/x-ndjson"}),
    )

    assert kept(any_taker) == [("named_twice", twice, 1), ("bad_json", b"7", 2), ("bad_json", b"{oops\xff", 1)]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (event(b"\xff\xfe{"), b"\xff\xfe{"),
        (event(b"[]"), b"[]"),
        (Event({"user_id": "1"}, since=MORNING), b'{"user_id": "1"}'),
        (Event({"user_id": "\udcff"}, since=MORNING, error=RowError("bad_encoding", "")), b'{"user_id": "\xff"}'),
        (event(b'{"a": "' + b"x" * LONGEST_EVENT + b'"}'), b'{"a": "' + b"x" * LONGEST_EVENT + b'"}'),
    ],
)
def test_an_event_that_cannot_be_read_is_kept_to_the_byte(taker: Taker, said: Event, text: bytes) -> None:
    """A person opted out in an event of another encoding, or too large: it was acknowledged, and must not be lost."""
    taker.take(said)

    ((_, found, position),) = kept(taker)
    assert (found, position) == (text, 0)


def test_what_its_sender_is_told_is_not_kept(taker: Taker) -> None:
    """A request that is answered with 400 is its sender's to send again; of one with 202 it is ours."""
    good = json.dumps(OPT_OUT).encode()
    taker.take(event(b"{oops", is_answered=True), event(b"[" + good + b", 7]", is_answered=True))

    assert [(code, text) for code, text, _ in kept(taker)] == [("bad_json", b"7")]
    assert len(taker.refused()) == 2


def test_a_name_that_no_database_takes_is_no_end(any_taker: Taker) -> None:
    """The rest of the batch is recorded, whatever a sender calls a field."""
    text = b'{"a\\u0000\\ud800": 1, "a\\u0000\\ud800": 2}'
    results = any_taker.take(event(b'{"specversion": "1.0"}'), event(text), OPT_OUT)

    assert [one.status for [one] in results] == ["rejected", "rejected", "accepted"]


UNUSABLE = [
    ("a\x00b", "bad_encoding"),
    ("a\ufffdb", "bad_encoding"),
    (1.5, "unusable_value"),
    ({"a": 1}, "unusable_value"),
    (["a|b"], "unusable_value"),
    ([["a"]], "unusable_value"),
    ("9.19E+11", "damaged_number"),
]


def test_a_value_that_cannot_be_used_is_refused(any_taker: Taker) -> None:
    """No database takes it, or no one could know what is meant; it never comes back for ever."""
    results = any_taker.take(*({**OPT_OUT, "user_id": value} for value, _ in UNUSABLE))

    assert [(one.status, one.code, one.field) for [one] in results] == [
        ("rejected", code, "user_id") for _, code in UNUSABLE
    ]


def test_half_a_character_in_a_binary_cloud_event_is_refused(any_taker: Taker) -> None:
    """JSON can write half of a surrogate pair, and no database can hold it."""
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
    body = json.dumps({**OPT_OUT, "user_id": "\ud800"}).encode()
    [[result]] = any_taker.take(event(body, headers=headers))

    assert result.status == "rejected"


def test_an_error_of_ours_is_recorded_and_not_repeated(taker: Taker, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that makes our own code fail must not keep everything behind it waiting."""

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("producers.events.ingest.parse_record", fail)
    [[result]] = taker.take(event(OPT_OUT, place="stream consent, entry 7-0"))

    assert (result.status, result.code) == ("rejected", "unreadable_event")
    assert taker.refused() == [("unreadable_event", None, "stream consent, entry 7-0")]


values = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.text(), max_size=2)
)


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.sampled_from([*OPT_OUT, "effective_at", "reason", "change_id", "account_id"]), values))
def test_no_event_keeps_the_ledger_from_recording(any_taker: Taker, said: dict[str, Any]) -> None:
    """Whatever an event's fields hold, the batch is recorded: either it or its refusal."""
    body = json.dumps({**OPT_OUT, **said}).encode("utf-8", "surrogatepass")
    [[result]] = any_taker.take(event(body))

    assert result.status in {"accepted", "duplicate", "rejected"}


def test_a_run_that_was_killed_is_ended_by_the_next(taker: Taker) -> None:
    """A listener that was killed leaves a run that can be sealed once its successor has started."""
    taker.take({**OPT_OUT, "user_id": "1"})
    [killed] = taker.ledger.queries.recent_imports()
    assert taker.ledger.queries.report(killed).state == "reading"

    Taker(taker.ledger).intake.end_abandoned()

    assert taker.ledger.queries.report(killed).state == "released"


class Refusing:
    """The intake of a real ledger whose database refuses what is said about some customers."""

    def __init__(self, ledger: Ledger, customers: set[str]) -> None:
        self._intake, self._customers = ledger.intake, customers
        self.calls: list[int] = []

    def __getattr__(self, name: str) -> Any:
        """Everything else is the ledger's own."""
        return getattr(self._intake, name)

    def accept_events(self, run: str, changes: Any, rejects: Any) -> Any:
        """Name the changes that are refused, or record all."""
        self.calls.append(len(changes))
        found = tuple(n for n, one in enumerate(changes) if one.address["user_id"] in self._customers)
        if found:
            error = LedgerRefused("no")
            error.members = found
            raise error
        return self._intake.accept_events(run, changes, rejects)


def test_an_event_that_the_ledger_refuses_is_rejected_alone(ledger: Ledger) -> None:
    """41 requests shared its commit and were all told 503, for ever; now only that one is rejected, with a remedy."""
    taker = Taker(ledger)
    taker.intake._intake = Refusing(ledger, {"2"})
    said = [OPT_OUT | {"user_id": str(n)} for n in range(1, 4)]

    results = taker.take(said[0], [said[1], said[2]], b"no JSON")

    assert [[one.status for one in found] for found in results] == [
        ["accepted"],
        ["rejected", "accepted"],
        ["rejected"],
    ]
    assert [code for code, _, _ in taker.refused()] == ["refused_by_the_ledger", "bad_json"]
    assert "shorten" in (results[1][0].message or "")


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


_TAKE = """
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


@pytest.mark.proof
def test_events_of_very_many_changes_fill_no_memory(tmp_path: Path) -> None:
    """Requests of a megabyte took half a gigabyte each, and the container of 512 MB was killed."""
    told = subprocess.run(
        [sys.executable, "-c", _TAKE, f"sqlite:///{tmp_path / 'ledger.db'}", "800"],
        capture_output=True,
        text=True,
        check=True,
    )
    kinds, count, kilobytes = json.loads(told.stdout)

    assert (kinds, count) == (["accepted", "event_too_large"], 801)
    assert kilobytes < 120 * 1024
