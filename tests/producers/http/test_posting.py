"""POST /v1/changes: every form of a change is understood alike, and acknowledged only when it is in the ledger."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from functools import partial
from http.client import HTTPConnection
from typing import Any

import pytest

from consent.change import Bucket
from consent.ledger.ledger import Ledger
from consent.ledger.rejected_events import RejectedFilter
from producers.events.ingest import EventIngest
from producers.http.admission import ApiKeys
from producers.parsing.row_parser import parse_context
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.http_server import ANN, KEY, OTHER_KEY, Server, cloud_event, ndjson, server, statuses
from tests.support.memory_ledger import WordyRow


def counted(ledger: Ledger) -> dict[str, int]:
    """What the ledger counted in the newest run, without zeros."""
    found = ledger.queries.report(ledger.queries.recent_imports(1)[0])
    assert found is not None
    assert found.balanced
    names = ("rows", "accepted", "duplicates", "rejected", "pending")
    return {name: getattr(found, name) for name in names if getattr(found, name)}


@POSTGRESQL_IN_PROOFS
def test_a_change_is_recorded_due_and_its_worker_woken(ledger: Ledger) -> None:
    """Ann's opt-out is in the ledger when the answer says so, and its connection is told that there is work."""
    with server(ledger) as served:
        answered = served.post(ANN)

        assert (answered.status_code, statuses(answered)) == (202, ["accepted"])
        assert ledger.queue.due(Bucket("capillary"), 10) == 1
        assert served.woken == [Bucket("capillary")]
        assert counted(ledger) == {"rows": 1, "accepted": 1, "pending": 1}


CE = {f"ce_{name}": value for name, value in cloud_event().items() if name != "data"}
FORMS: dict[str, tuple[bytes, dict[str, str]]] = {
    "one": (json.dumps(ANN).encode(), {}),
    "list": (json.dumps([ANN]).encode(), {}),
    "lines": (ndjson([ANN]), {"content_type": "application/x-ndjson"}),
    "structured": (json.dumps(cloud_event()).encode(), {"content_type": "application/cloudevents+json"}),
    "batch": (json.dumps([cloud_event()]).encode(), {"content_type": "application/cloudevents-batch+json"}),
    "binary": (json.dumps(ANN).encode(), CE),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_one_and_the_same_change(served: Server, form: str) -> None:
    """However a change is wrapped, it is recorded, and known again when it is sent again."""
    body, headers = FORMS[form]
    first, again = (served.post(content=body, **headers) for _ in range(2))

    assert (statuses(first), statuses(again)) == (["accepted"], ["duplicate"])
    assert first.json()["results"][0]["id"] == again.json()["results"][0]["id"]


def send_all(url: str, calls: list[tuple[Any, dict[str, str]]]) -> list[str]:
    """Send one after the other over one connection; return what became of each change."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
    statuses = []
    for body, headers in calls:
        connection.request("POST", "/v1/changes", json.dumps(body), headers | {"x-api-key": KEY})
        statuses += [one["status"] for one in json.loads(connection.getresponse().read())["results"]]
    connection.close()
    return statuses


def spread(calls: list[Any], shares: int) -> list[list[Any]]:
    """Deal calls out like cards."""
    return [calls[n::shares] for n in range(shares)]


@pytest.mark.parametrize("times", [200, pytest.param(1000, marks=pytest.mark.proof)])
def test_the_same_cloudevent_many_times_is_one_change(books: Ledger, times: int) -> None:
    """A sender that repeats itself, in every mode and many at a time, changes one thing once."""
    event = cloud_event()
    binary = {name.replace("_", "-"): value for name, value in CE.items()}
    calls: list[tuple[Any, dict[str, str]]] = [
        *[(event, {"content-type": "application/cloudevents+json"})] * (3 * times // 10),
        *[(ANN, binary | {"content-type": "application/json"})] * (3 * times // 10),
        *[([event] * 10, {"content-type": "application/cloudevents-batch+json"})] * (4 * times // 100),
    ]

    with server(books) as served, ThreadPoolExecutor(16) as pool:
        statuses = [status for one in pool.map(partial(send_all, served.url), spread(calls, 16)) for status in one]

    assert (statuses.count("accepted") >= 1, set(statuses), len(statuses)) == (True, {"accepted", "duplicate"}, times)
    assert counted(books) == {"rows": times, "accepted": 1, "duplicates": times - 1, "pending": 1}


def test_one_bad_change_harms_only_itself(served: Server) -> None:
    """Good changes beside bad ones are recorded; each bad one says which field is wrong, and what to do."""
    answered = served.post([ANN, {**ANN, "channel": "FAX"}, 5, {**ANN, "connection": "unheard-of"}])

    assert answered.status_code == 202
    assert statuses(answered) == ["accepted", "rejected", "rejected", "rejected"]
    results = answered.json()["results"]
    assert [one["code"] for one in results] == [None, "unknown_value", "bad_json", "unknown_connection"]
    assert results[1]["field"] == "channel"
    assert results[1]["id"] is None
    assert "FAX" not in answered.text


def test_a_bad_line_harms_only_itself(served: Server) -> None:
    """A line that is no JSON stands between two that are."""
    body = ndjson([ANN]) + b"{oops\n" + ndjson([{**ANN, "user_id": "2"}])

    answered = served.post(content=body, content_type="application/x-ndjson")

    assert (answered.status_code, statuses(answered)) == (202, ["accepted", "rejected", "accepted"])


def test_a_change_of_several_slots_has_several_ids(served: Server) -> None:
    """A row of a subscription that names two events is two changes, and both can be asked for."""
    change = {
        "connection": "infobip",
        "subscription_id": "sub-1",
        "channel": "SMS",
        "events": ["DELIVERY", "SEEN"],
        "action": "OPTIN",
        "effective_at": "2026-11-20T08:30:00Z",
    }
    (result,) = served.post(change).json()["results"]

    assert len(result["ids"]) == 2
    assert [served.get(f"/v1/changes/{one}").status_code for one in result["ids"]] == [200, 200]


def test_a_change_without_a_time_is_refused(served: Server) -> None:
    """Nothing is taken as said "now": sent again later it would overrule what was said in between."""
    answered = served.post({name: value for name, value in ANN.items() if name != "effective_at"})

    (result,) = answered.json()["results"]
    assert (result["status"], result["code"], result["field"]) == ("rejected", "missing_field", "effective_at")


def test_the_time_of_a_cloudevent_will_do(served: Server) -> None:
    """An envelope's time is when it was said; an envelope without one is refused like anything else."""
    silent = {name: value for name, value in ANN.items() if name != "effective_at"}
    timed = cloud_event(silent) | {"time": "2026-11-20T08:30:00Z"}

    assert statuses(served.post(timed)) == ["accepted"]
    assert statuses(served.post(cloud_event(silent, "e-2"))) == ["rejected"]


def test_an_idempotency_key_makes_a_request_known_again(served: Server) -> None:
    """A client that heard no answer asks again with its key and says the same."""
    body = [ANN, {**ANN, "user_id": "2"}]
    first = served.post(body, idempotency_key="order-1")
    again = served.post([{**one, "reason": "asked twice"} for one in body], idempotency_key="order-1")

    assert (statuses(first), statuses(again)) == (["accepted"] * 2, ["duplicate"] * 2)
    assert first.json()["results"][0]["id"] == again.json()["results"][0]["id"]


def test_a_key_that_is_used_again_for_another_time_loses_nothing(served: Server) -> None:
    """A client whose keys start anew says a later opt-out under an old one: it was a duplicate, and lost."""
    served.post(ANN, idempotency_key="order-1")
    served.post({**ANN, "change_id": "7"})
    later = {**ANN, "effective_at": "2026-11-20T09:00:00Z"}

    assert statuses(served.post(later, idempotency_key="order-1")) == ["accepted"]
    assert statuses(served.post({**later, "change_id": "7"})) == ["accepted"]
    assert statuses(served.post({**later, "change_id": "7"})) == ["duplicate"]


@pytest.mark.parametrize("named", [{"change_id": "1"}, {}])
def test_two_keys_without_names_are_two_senders(books: Ledger, named: dict[str, str]) -> None:
    """System 2's opt-out number 1 was taken for system 1's, answered with 202, and lost; one limit slowed both."""
    keys = ("first-0123456789abcdef", "other-0123456789abcdef")
    with server(books, keys=ApiKeys(",".join(keys)), rate="1/hour") as served:
        answers = [served.post({**ANN, **named}, idempotency_key="1", authorization=f"Bearer {key}") for key in keys]

    assert [statuses(one) for one in answers] == [["accepted"], ["accepted"]]


def test_two_senders_may_use_the_same_idempotency_key(served: Server) -> None:
    """What one sender calls order-1 is not what another calls so: its word is not lost."""
    later = {**ANN, "effective_at": "2026-11-20T09:00:00Z"}
    served.post(ANN, idempotency_key="order-1")

    answered = served.post(later, idempotency_key="order-1", authorization=f"Bearer {OTHER_KEY}")

    assert statuses(answered) == ["accepted"]


def test_a_refused_event_is_recorded_with_its_request(served: Server, books: Ledger) -> None:
    """A refused event is counted in the run, and its request is named, so that its sender can be asked."""
    served.post([ANN, {**ANN, "channel": "FAX"}])

    assert counted(books) == {"rows": 2, "accepted": 1, "rejected": 1, "pending": 1}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 90_000, "application/json"),
        (b'{"specversion": "1.0"}', "application/cloudevents+json"),
        (b"\n\n", "application/x-ndjson"),
    ],
)
def test_a_body_that_cannot_be_read_at_all_is_a_bad_request(served: Server, body: bytes, kind: str) -> None:
    """Nothing in it is a change: 400, with what is wrong."""
    answered = served.post(content=body, content_type=kind)

    assert answered.status_code == 400
    assert answered.headers["content-type"] == "application/problem+json"
    assert answered.json()["code"] in {"bad_json", "bad_cloudevent"}


def test_odd_characters_harm_no_one(ledger: Ledger) -> None:
    """NUL, lone surrogates, huge numbers and nested values are refused, and no database stumbles over them."""
    odd = [b'"\\u0000"', b'"\\ud800"', b"1e400", b"123456789012345678901234567890", b'{"a": {}}', b"[[1]]", b"1.5"]
    with server(ledger) as served:
        for value in odd:
            for field in ("user_id", "reason", "change_id", "channel", "connection"):
                text = json.dumps(ANN | {field: "?"}).encode().replace(b'"?"', value)
                assert served.post(content=text).status_code in {202, 400}
        assert statuses(served.post(ANN)) == ["accepted"]


def test_two_servers_side_by_side_are_one(books: Ledger) -> None:
    """Each has a run of its own, and what comes to both is one change."""
    other_books = Ledger(str(books.database.url), clock=books.now)
    sent = [{**ANN, "user_id": str(n)} for n in range(1, 21)]
    with server(books) as one, server(other_books) as other, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: (one, other)[n % 2].post(sent[n // 2]), range(40)))
    other_books.close()

    assert (
        sorted(status for answered in answers for status in statuses(answered))
        == ["accepted"] * 20 + ["duplicate"] * 20
    )
    found = [books.queries.report(id_) for id_ in books.queries.recent_imports()]
    assert sum(one.accepted for one in found if one) == 20
    assert len(found) == 2


def kept(ledger: Ledger) -> list[tuple[str, bytes]]:
    """Code and text of what is kept of rejected changes."""
    found = ledger.rejected_events.find(RejectedFilter())
    return [(one.code, ledger.rejected_events.content_of(one.id).body) for one in found]


def test_what_was_rejected_of_an_accepted_request_is_kept(served: Server, books: Ledger) -> None:
    """A program that looks at 202 and not at its results has lost no one's opt-out; one that gets 400 has it itself."""
    bad = {**ANN, "channel": "FAX"}
    answers = [served.post([ANN, bad]).status_code, served.post(content=b"{oops").status_code]
    unfit = served.click(served.state.tokens.make({"connection": "closed", "user_id": "1"}, 60))

    assert answers == [202, 400]
    assert unfit.status_code == 503
    ((code, text), (link_code, link_text)) = kept(books)
    assert (code, json.loads(text)) == ("unknown_value", bad)
    assert (link_code, json.loads(link_text)["user_id"]) == ("unknown_connection", "1")


def test_a_request_that_the_database_refuses_fails_alone(ledger: Ledger) -> None:
    """41 requests that shared its commit were told 503, as often as they were sent, and none of them was recorded."""
    one = {"user_id": "1", "channel": "SMS", "action": "OPTOUT", "effective_at": ANN["effective_at"]}
    context = parse_context({"crm": WordyRow}, {}, None, None, UTC)
    intake = EventIngest(ledger.intake, context, "http", "test", lambda _: None)
    with server(ledger, intake) as served, ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda n: served.post(one | {"user_id": f"{n}", "reason": "long" if n == 3 else "x"}), range(8))
        )

    refused = 0 if ledger.database.is_sqlite else 1
    assert [one.status_code for one in answers] == [202] * 8
    assert [statuses(one)[0] == "accepted" for one in answers] == [n != 3 or not refused for n in range(8)]
    assert counted(ledger)["accepted"] == 8 - refused
    if refused:
        assert answers[3].json()["results"][0]["code"] == "refused_by_the_ledger"


def test_a_request_of_too_many_changes_is_told_to_send_less(served: Server) -> None:
    """One of a megabyte was 336,960 changes: the server took half a gigabyte, and answered no one for five seconds."""
    one = {"connection": "infobip", "subscription_id": "s1", "channel": "SMS", "action": "OPTOUT"}
    one |= {"effective_at": ANN["effective_at"], "users": [str(n) for n in range(200)]}

    beyond, just = served.post([one] * 51), served.post([one] * 50)

    assert (beyond.status_code, beyond.json()["code"]) == (413, "event_too_large")
    assert "10000 changes" in beyond.json()["detail"]
    assert just.status_code == 202
    assert len(statuses(just)) == 50
