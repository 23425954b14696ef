"""Who is let in, how much they may bring, and what they are told when they are not."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from html import unescape
from pathlib import Path

import httpx
import pytest

from consent.connection import parse_rate
from consent.errors import ConfigurationError
from consent.ledger.ledger import Ledger
from producers.http import admission, middleware
from producers.http.admission import ApiKeys, KeyRateLimit
from producers.http.app import create_app
from producers.http.middleware import shown_path
from tests.support.http_server import ANN, KEY, OTHER_KEY, Server, ndjson, process, server, statuses


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong-key-of-the-tests"},
        {"authorization": f"Basic {KEY}"},
        {"x-api-key": KEY + "x"},
        {"x-api-key": ""},
        {"authorization": "Bearer wrong", "x-api-key": KEY},
    ],
)
def test_no_one_comes_in_without_a_key(served: Server, headers: dict[str, str]) -> None:
    """Changes are neither taken from strangers nor told to them."""
    for answered in (
        served.client.post("/v1/changes", json=ANN, headers=headers),
        served.client.get("/v1/changes/00", headers=headers),
        served.client.get("/v1/imports/00", headers=headers),
    ):
        assert (answered.status_code, answered.json()["code"]) == (401, "unauthorized")
        assert answered.headers["www-authenticate"].startswith("Bearer")


def test_each_of_several_keys_works_in_both_headers(served: Server) -> None:
    """While a key is being replaced, the old one and the new one are both valid."""
    for key in (KEY, OTHER_KEY):
        for headers in ({"authorization": f"Bearer {key}"}, {"x-api-key": key}):
            assert served.client.post("/v1/changes", json=ANN, headers=headers).status_code == 202


def test_keys_are_written_with_and_without_names() -> None:
    """A key may have a name before =, and may end in = itself; a short one is refused, and not repeated."""
    keys = ApiKeys("shop=0123456789abcdef, plain-0123456789abcdef,MDEyMzQ1Njc4OWFiY2RlZg==")

    named = keys.sender({"x-api-key": "0123456789abcdef"})
    plain = keys.sender({"x-api-key": "plain-0123456789abcdef"})
    other = keys.sender({"authorization": "bearer MDEyMzQ1Njc4OWFiY2RlZg=="})
    assert named is not None
    assert plain is not None
    assert other is not None
    assert (named.name, plain.name, other.name) == ("shop", "default", "default")
    assert len({named.scope, plain.scope, other.scope}) == 3
    assert "0123456789abcdef" not in named.scope
    with pytest.raises(ConfigurationError) as refused:
        ApiKeys("shop=secret")
    assert "secret" not in str(refused.value)


def test_too_many_requests_are_told_when_to_come_again(books: Ledger) -> None:
    """A key has its own limit: one sender that hurries does not stop another."""
    with server(books, rate="2/minute") as served:
        first, second = served.post(ANN), served.post(ANN)
        other = served.post(ANN, authorization=f"Bearer {OTHER_KEY}")

    assert [one.status_code for one in (first, second, other)] == [202, 429, 202]
    assert 25 <= int(second.headers["retry-after"]) <= 30


def test_a_limit_allows_a_second_at_once() -> None:
    """With 10/second ten requests may come at once, and the eleventh waits a tenth of a second."""
    now = [100.0]
    rate_limit = KeyRateLimit(parse_rate("10/second"), lambda: now[0])

    assert [rate_limit.acquire("shop") for _ in range(10)] == [0.0] * 10
    assert rate_limit.acquire("shop") == pytest.approx(0.1)
    now[0] += 0.1
    assert rate_limit.acquire("shop") == pytest.approx(0.0, abs=1e-9)


def chunks(size: int) -> Iterator[bytes]:
    """A body without a length, piece by piece."""
    for _ in range(size // 1000):
        yield b" " * 1000


def test_a_body_that_is_too_long_is_refused_while_it_comes(books: Ledger) -> None:
    """Neither a body that names its length nor one that does not can fill the memory."""
    with server(books, body_limit=10_000) as served:
        headers = {"x-api-key": KEY, "content-type": "application/json"}
        named = served.post(content=b" " * 10_001)
        unnamed = served.client.post("/v1/changes", content=chunks(50_000), headers=headers)
        fits = served.post(content=ndjson([ANN]).ljust(10_000))

    assert [one.status_code for one in (named, unnamed, fits)] == [413, 413, 202]


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "text/plain"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_other_forms_are_refused(served: Server, headers: dict[str, str]) -> None:
    """What is not JSON in UTF-8 as it is gets 415, and the forms that are read."""
    answered = served.client.post("/v1/changes", content=b"{}", headers=headers | {"x-api-key": KEY})

    assert answered.status_code == 415


def test_no_content_type_means_json(served: Server) -> None:
    """A client that says nothing about its body is not sent away."""
    answered = served.client.post("/v1/changes", content=ndjson([ANN]), headers={"x-api-key": KEY})

    assert statuses(answered) == ["accepted"]


def test_other_paths_and_methods_are_problems_too(served: Server) -> None:
    """404 and 405 have the form of every other problem, and 405 says which methods there are."""
    missing, method = served.client.get("/v2/changes"), served.client.delete("/v1/unsubscribe/x")

    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_path")
    assert (method.status_code, method.json()["code"]) == (405, "method_not_allowed")
    assert set(method.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert served.client.get("/v1/unsubscribe/x/").status_code == 404


def test_a_client_that_sends_its_head_too_slowly_is_let_go(books: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone who opens connections and never finishes a request cannot hold them for ever."""
    monkeypatch.setattr(middleware, "HEAD_SECONDS", 0.3)
    with server(books) as served:
        host, port = served.url.removeprefix("http://").split(":")
        whole = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        for first, rest in ((b"", b""), (b"", b"POST /v1/changes HTTP/1.1\r\nHost: x\r\n"), (whole, b"GET /")):
            with socket.create_connection((host, int(port)), timeout=10) as one:
                one.sendall(first)
                assert not first or one.recv(10_000).startswith(b"HTTP/1.1 200")
                one.sendall(rest)
                while one.recv(10_000):
                    pass  # until the server closes it
        assert served.client.get("/healthz").status_code == 200


def test_a_body_that_comes_too_slowly_is_let_go(books: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of a body is not waited for without end."""
    monkeypatch.setattr(admission, "BODY_SECONDS", 0.2)

    def slowly() -> Iterator[bytes]:
        yield b"["
        time.sleep(0.6)
        yield b"]"

    with server(books) as served:
        answered = served.client.post("/v1/changes", content=slowly(), headers={"x-api-key": KEY})

    assert (answered.status_code, answered.json()["code"]) == (408, "body_too_slow")


def test_logs_name_no_one(served: Server, caplog: pytest.LogCaptureFixture) -> None:
    """No customer, key, token or id stands in a log; the name of a key, the path's form and a request's id do."""
    token = served.state.tokens.make({k: v for k, v in ANN.items() if k not in ("action", "effective_at")}, 60)
    with caplog.at_level(logging.DEBUG):
        answered = served.post(ANN, idempotency_key="ann@example.com")
        served.click(token)
        served.get(f"/v1/changes/{ANN['user_id']}")
        served.client.get(f"/{ANN['user_id']}")

    ours = "\n".join(
        record.getMessage() for record in caplog.records if not record.name.startswith(("http", "asyncio"))
    )
    assert "POST /v1/changes 202 " in ours
    assert f"key=shop id={answered.headers['x-request-id']}" in ours
    assert "POST /v1/unsubscribe/… 200" in ours
    assert not any(secret in ours for secret in (ANN["user_id"], KEY, token, "ann@example.com"))


def test_paths_are_shown_without_what_they_hold(served: Server) -> None:
    """Whatever a path holds, the log shows only which of ours it is like."""
    assert shown_path("/v1/unsubscribe/gAAAA/x") == "/v1/unsubscribe/…"
    assert shown_path("/v1/changes") == "/v1/changes"
    assert shown_path("/ann@example.com") == "…"
    ours = {route.path for route in create_app(served.state).routes if "{" not in getattr(route, "path", "{")}
    assert {path for path in ours if shown_path(path) != path} == set()


def test_the_server_says_whether_it_is_ready(served: Server) -> None:
    """The process lives; the ledger can be used; how the broker is is told and changes nothing."""
    assert served.client.get("/healthz").json() == {"status": "ok"}
    assert served.client.get("/readyz").json() == {"status": "ready", "ledger": "usable", "broker": "not configured"}


def test_several_who_ask_at_once_are_all_told(served: Server) -> None:
    """A balancer's probes came at the same time, and seven of eight took the server for broken."""
    with ThreadPoolExecutor(8) as together:
        answered = list(together.map(lambda _: httpx.get(f"{served.url}/readyz", timeout=30).status_code, range(16)))

    assert answered == [200] * 16


def test_idle_connections_do_not_exhaust_the_process(tmp_path: Path) -> None:
    """Someone opened sockets and said nothing: 219,000 lines of log later no one could unsubscribe."""
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))"
    with process(tmp_path, instead=few) as running, ExitStack() as stack:
        address = running.url.removeprefix("http://").split(":")
        before = (tmp_path / "serve.log").stat().st_size
        idle = [
            stack.enter_context(socket.create_connection((address[0], int(address[1])), timeout=10)) for _ in range(400)
        ]
        refused = idle[-1].recv(1000)
        for one in idle:
            one.close()
        time.sleep(0.2)

        assert refused.startswith(b"HTTP/1.1 503")
        assert httpx.get(f"{running.url}/healthz", timeout=30).status_code == 200
        assert (tmp_path / "serve.log").stat().st_size - before < 1000


def test_a_word_of_the_sender_is_no_method_in_the_log(served: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A method may be any word of 20 KB, and anybody's name: the log shows the known ones only."""
    caplog.set_level(logging.INFO, "optrelay.http")
    served.client.request("ANNATEXAMPLE" * 100, "/healthz")

    end = time.monotonic() + 10
    while "/healthz 405" not in caplog.text and time.monotonic() < end:
        time.sleep(0.01)  # the line is written after the answer

    assert "ANNATEXAMPLE" not in caplog.text
    assert "? /healthz 405" in caplog.text


def test_the_names_of_connections_are_for_those_with_a_key(served: Server) -> None:
    """Strangers learn the format and not whose accounts there are."""
    known = served.state.schema["$defs"]["capillary"]["properties"]["connection"]
    description = served.client.get("/openapi.json", headers={"x-api-key": KEY}).json()
    untold = served.client.get("/openapi.json").json()

    assert (
        description["components"]["schemas"]["capillary"]["properties"]["connection"] == known == {"const": "capillary"}
    )
    assert "const" not in untold["components"]["schemas"]["capillary"]["properties"]["connection"]
    assert '"const": "capillary"' not in unescape(served.client.get("/docs").text)


def test_what_is_wrong_is_said_in_the_sender_s_words(served: Server) -> None:
    """A sender of JSON has fields and no options of a command line."""
    timeless = {name: value for name, value in ANN.items() if name != "effective_at"}
    envelope = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "time": "2999-01-01T00:00:00Z"}
    for body, field in ((timeless, "effective_at"), ({**envelope, "data": timeless}, "time")):
        (result,) = served.post(body).json()["results"]
        assert (result["status"], result["field"]) == ("rejected", field)
        assert "--" not in result["message"]


def test_a_head_without_end_is_refused(served: Server) -> None:
    """Headers cannot fill the memory either: the server answers 400 and hangs up before it has heard them all."""
    host, port = served.url.removeprefix("http://").split(":")
    answered = b""
    with socket.create_connection((host, int(port)), timeout=10) as one, suppress(ConnectionError):
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n")
        answered = one.recv(10_000)

    assert answered[:12] in {b"", b"HTTP/1.1 400"}
    assert served.client.get("/healthz").status_code == 200
