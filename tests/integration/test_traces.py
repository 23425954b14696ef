"""Traces, as a receiver of OTLP on this machine gets them: spans and links, and no person in any of them."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from consent.tracing.spans import MOST_ERRORS, MOST_LINKS, Span, SpanIds, import_ids, new_ids, read_traceparent, share
from tests.support.company import Company, company
from tests.support.http_server import ANN, process
from tests.support.servers.local_server import Asked, Server, ServerAnswer, serving

ENDPOINT, SAMPLER = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER_ARG"
CUSTOMERS = [f"38700641{n}" for n in range(6)]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A receiver of OTLP that every command of the test sends to, every span."""
    with serving(lambda _: ServerAnswer(200, headers={"Content-Type": "application/x-protobuf"})) as one:
        monkeypatch.setenv(ENDPOINT, one.url)
        monkeypatch.setenv(SAMPLER, "1")
        yield one


def spans(receiver: Server) -> list[SentSpan]:
    """Every span that has come."""
    found = []
    for asked in receiver.asked:
        assert asked.path == "/v1/traces"
        body = gzip.decompress(asked.body) if asked.headers.get("content-encoding") == "gzip" else asked.body
        request = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            assert "optrelay" in [
                one.value.string_value for one in group.resource.attributes if one.key == "service.name"
            ]
            found += [span for scope in group.scope_spans for span in scope.spans]
    return found


def facts(span: SentSpan) -> dict[str, Any]:
    """A span's attributes."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def rows(customers: list[str]) -> list[dict[str, str]]:
    """An opt-out of each."""
    own = {"channel": "EMAIL", "priority": "BULK", "action": "OPTOUT", "effective_at": "2026-11-20T08:30:00Z"}
    return [{**own, "user_id": one, "reason": "nightly"} for one in customers]


def delivered(shop: Company, name: str = "nightly.csv", customers: list[str] = CUSTOMERS) -> dict[str, Any]:
    """Deliver a file; what the run printed."""
    code, answer, stderr = shop.run("run", shop.write(rows(customers), name))
    assert code == 0, stderr
    found: dict[str, Any] = answer
    return found


def test_a_delivery_is_linked_to_the_file_that_it_delivers(tmp_path: Path, receiver: Server) -> None:
    """The intake, deliveries with a link to it, and below them a call for each customer, told by its template."""
    with company(tmp_path) as shop:
        report = delivered(shop)
    found = spans(receiver)
    (intake,) = [one for one in found if one.name == "intake"]
    deliveries = [one for one in found if one.name == "deliver capillary"]
    calls = [one for one in found if one.name == "POST /v2/customers/{user_id}/subscriptions"]

    ids = import_ids(report["import"])
    assert (int.from_bytes(intake.trace_id), int.from_bytes(intake.span_id)) == (ids.trace, ids.span)
    assert facts(intake)["optrelay.import"] == report["import"]
    assert facts(intake)["optrelay.recorded"] == len(CUSTOMERS)
    assert deliveries
    for one in deliveries:
        assert [(link.trace_id, link.span_id) for link in one.links] == [(intake.trace_id, intake.span_id)]
        assert one.trace_id != intake.trace_id
    assert sum(facts(one)["optrelay.customers"] for one in deliveries) == len(CUSTOMERS)
    assert len(calls) == len(CUSTOMERS)
    parents = {one.span_id: one for one in deliveries}
    for call in calls:
        parent = parents[call.parent_span_id]
        assert call.trace_id == parent.trace_id
        assert parent.start_time_unix_nano <= call.start_time_unix_nano <= call.end_time_unix_nano
        attributes = facts(call)
        assert attributes["url.template"] == "/v2/customers/{user_id}/subscriptions"
        assert (attributes["server.address"], attributes["http.response.status_code"]) == ("127.0.0.1", 200)
        assert (attributes["http.request.method"], attributes["optrelay.code"]) == ("POST", "200")
    assert {one.kind for one in calls} == {SentSpan.SPAN_KIND_CLIENT}
    assert b"38700641" not in b"".join(one.body for one in receiver.asked)
    assert b"nightly" not in b"".join(one.body for one in receiver.asked)


@pytest.mark.waits
def test_what_failed_is_told_though_it_is_not_sampled(
    tmp_path: Path, receiver: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sampled: the calls that failed come, with their delivery, and none that went well."""
    monkeypatch.setenv(SAMPLER, "0")
    with company(tmp_path) as shop:
        delivered(shop)
        assert [one.name for one in spans(receiver)] == ["intake"]
        shop.fault(kind="html", http_status=503, next=2)
        delivered(shop, "second.csv", ["500000001", "500000002"])
    found = spans(receiver)
    bad = [one for one in found if one.status.code == Status.STATUS_CODE_ERROR]
    assert {facts(one)["error.type"] for one in bad} == {"503"}
    assert {facts(one)["http.response.status_code"] for one in bad} == {503}
    known = {one.span_id for one in found if one.name == "deliver capillary"}
    assert {one.parent_span_id for one in bad} <= known
    assert not any(facts(one).get("http.response.status_code") == 200 for one in found)


def test_without_an_endpoint_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No span is made, and OpenTelemetry's SDK is not imported."""
    monkeypatch.delenv(ENDPOINT, raising=False)
    code = (
        "import sys; from consent.tracing.spans import Traced, writer\n"
        "with Traced('intake') as one: assert one is None\n"
        "assert writer() is None; assert not [m for m in sys.modules if m.startswith('opentelemetry')]"
    )
    for more in ({}, {ENDPOINT: "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}):
        subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | more, timeout=60)


@pytest.mark.waits
def test_a_receiver_that_hangs_or_is_away_holds_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is delivered, the run ends within moments of its end, and the log names no address."""
    ended = threading.Event()

    def hang(_: Asked) -> ServerAnswer:
        ended.wait(30)
        return ServerAnswer(200)

    with company(tmp_path) as shop, serving(hang) as hanging:
        monkeypatch.setenv(ENDPOINT, "http://user:hush-hush@127.0.0.1:1")
        code, _, stderr = shop.run("run", shop.write(rows(CUSTOMERS)))
        assert code == 0
        assert "hush-hush" not in stderr
        monkeypatch.setenv(ENDPOINT, hanging.url)
        started = time.monotonic()
        delivered(shop, "second.csv", ["500000001"])
        assert time.monotonic() - started < 60
        ended.set()
        assert len(shop.held()) == len(CUSTOMERS) + 1


def test_events_are_linked_to_their_run_and_to_what_their_sender_traced(tmp_path: Path, receiver: Server) -> None:
    """A request is an intake: linked to its run, to which the delivery is linked, and to its sender's span."""
    with process(tmp_path) as served:
        event = {
            "specversion": "1.0",
            "id": "7",
            "source": "/shop",
            "type": "consent",
            "traceparent": PARENT,
            "data": ANN,
        }
        answers = [
            served.post(event, content_type="application/cloudevents+json"),
            served.post(ANN | {"user_id": "387006418"}, traceparent=PARENT.replace("-b7", "-c7")),
            served.post(ANN | {"user_id": "387006419"}, traceparent="00-zz"),
        ]
        assert [one.status_code for one in answers] == [202] * 3
        served.end()
    found = spans(receiver)
    (run,) = [one for one in found if one.name == "run of events"]
    batches = [one for one in found if one.name == "intake"]
    assert 1 <= len(batches) <= 3
    linked = [(link.trace_id.hex(), link.span_id.hex()) for one in batches for link in one.links]
    assert linked.count((run.trace_id.hex(), run.span_id.hex())) == len(batches)
    trace = "0af7651916cd43dd8448eb211c80319c"
    assert {one for one in linked if one[0] == trace} == {(trace, "b7ad6b7169203331"), (trace, "c7ad6b7169203331")}
    assert sum(facts(one)["messaging.batch.message_count"] for one in batches) == 3
    ids = import_ids(facts(run)["optrelay.import"])
    assert int.from_bytes(run.span_id) == ids.span
    assert b"38700641" not in b"".join(one.body for one in receiver.asked)


def test_links_and_failed_calls_are_bounded() -> None:
    """A delivery of very many imports has 32 links, and a provider that is down fills no queue."""

    class Writer:
        def __init__(self) -> None:
            self.written: list[Span] = []

        def write(self, span: Span) -> None:
            self.written.append(span)

        def close(self) -> None:
            pass

    writer = Writer()
    one = Span(writer, "deliver", SpanIds(1, 2, sampled=False))
    one.link(import_ids(f"20261120-{n}") for n in range(100))
    for _ in range(1_000):
        one.call("POST /x", 0.1, {}, "503")
        one.call("POST /x", 0.1, {}, "")
    one.end()
    assert len(one.links) == MOST_LINKS
    assert len(writer.written) == MOST_ERRORS + 1


@pytest.mark.parametrize("given", ["", "junk", f"00-{'0' * 32}-b7ad6b7169203331-01", "ff" + PARENT[2:], PARENT + "\n-"])
def test_what_is_no_traceparent_is_left_out(given: str) -> None:
    """Anything may stand there, from anyone."""
    assert read_traceparent(given) is None
    assert read_traceparent(PARENT) is not None


@pytest.mark.parametrize(
    ("sampler", "argument", "expected"),
    [
        ("", "", 0.01),
        ("", "0.5", 0.5),
        ("parentbased_always_on", "", 1.0),
        ("always_off", "1", 0.0),
        ("", "much", 0.01),
        ("", "7", 1.0),
    ],
)
def test_how_much_is_sampled(monkeypatch: pytest.MonkeyPatch, sampler: str, argument: str, expected: float) -> None:
    """One in a hundred, unless OpenTelemetry's own variables say otherwise."""
    for name, value in (("OTEL_TRACES_SAMPLER", sampler), (SAMPLER, argument)):
        monkeypatch.delenv(name, raising=False)
        if value:
            monkeypatch.setenv(name, value)
    assert share() == expected
    sampled = sum(new_ids(share()).sampled for _ in range(4_000)) / 4_000
    assert sampled == pytest.approx(expected, abs=0.05)
