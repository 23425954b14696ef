"""What anyone sees of the server: its description is true whatever is sent, and its answers and pages are careful."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from consent.ledger.ledger import Ledger
from producers.http import server as http_server
from tests.support.examples import IN_FULL, examples
from tests.support.http_server import ANN, KEY, Server, server

if TYPE_CHECKING:
    import schemathesis  # takes a third of a second, in every process that collects these tests

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
CLICK = {"body": {"List-Unsubscribe": "One-Click"}, "media_type": "application/x-www-form-urlencoded"}
FIELDS = {"connection": "infobip", "destination": "12025550100"}


@pytest.mark.hypothesis
def test_the_description_is_true(books: Ledger) -> None:
    """Requests of every kind, good and bad, are answered as described, and never with 500; so is what is there.

    `make test` alternates: of one operation it invents good requests, of the next one bad ones.
    """
    import schemathesis

    with server(books) as served:
        there = {"id": served.post(ANN).json()["results"][0]["id"], "token": served.state.tokens.make(FIELDS, 3600)}
        there |= {"connection": "capillary"}
        described = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
        operations = [result.ok() for result in described.get_all_operations()]
        for number, operation in enumerate(operations):
            modes = list(schemathesis.GenerationMode)
            for mode in modes if IN_FULL else modes[number % 2 :: 2]:
                with suppress(Unsatisfiable):  # nothing can be wrong with a request that has no parts
                    _try(operation, mode)
            if "{" in operation.path:
                _checked(operation.Case(path_parameters=there, **(CLICK if operation.method == "post" else {})))

    assert len(operations) >= 8


def _try(operation: schemathesis.APIOperation, mode: schemathesis.GenerationMode) -> None:
    @settings(
        max_examples=examples(3, share=3),
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def answered(case: schemathesis.Case) -> None:
        _checked(case)

    answered()


def _checked(case: schemathesis.Case) -> None:
    from schemathesis import checks

    asked = [getattr(checks, name) for name in CHECKS]
    case.call_and_validate(headers={"Authorization": f"Bearer {KEY}"}, checks=asked)


def test_a_parameter_of_another_type_is_a_problem_too(books: Ledger) -> None:
    """FastAPI's own answer to such a parameter has another form, and repeats what was sent."""
    with server(books) as served:

        @served.app.get("/number/{number}")
        async def number(number: int) -> int:
            return number

        answered = served.client.get("/number/ann@example.com")

    assert (answered.status_code, answered.json()["code"]) == (400, "bad_parameter")
    assert answered.headers["content-type"] == "application/problem+json"
    assert "ann" not in answered.text


def test_every_answer_is_careful(served: Server) -> None:
    """No answer may be kept by a cache, guessed at, framed or quoted in a referrer; no cookie is set."""
    for answered in (served.post(ANN), served.client.get("/docs"), served.client.get("/nowhere"), served.click("x")):
        assert answered.headers["cache-control"] == "no-store"
        assert answered.headers["x-content-type-options"] == "nosniff"
        assert answered.headers["referrer-policy"] == "no-referrer"
        policy = answered.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert "script" not in policy
        assert "set-cookie" not in answered.headers


def test_the_pages_need_nothing_from_elsewhere(served: Server) -> None:
    """The documentation is one page of plain HTML, and names every path."""
    page = served.client.get("/docs")

    assert page.headers["content-type"].startswith("text/html")
    assert "src=" not in page.text
    assert "://" not in page.text.replace("https://json-schema.org", "").partition("<h2>Schemas")[0]
    for path in served.client.get("/openapi.json").json()["paths"]:
        assert path in page.text


def _address(served: Server) -> tuple[str, int]:
    host, port = served.url.removeprefix("http://").split(":")
    return host, int(port)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no limit for unread data")
def test_a_client_that_reads_no_answer_is_let_go(books: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that asks for much and reads none of it held a connection for ever; a thousand shut all others out."""
    monkeypatch.setattr(http_server, "UNREAD_SECONDS", 1.0)
    with server(books) as served, socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        one.connect(_address(served))
        one.settimeout(10)  # longer than the limit: without one, sending waits for ever once neither side takes more
        with suppress(ConnectionError):  # and no TimeoutError
            while True:
                one.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        assert served.client.get("/healthz").status_code == 200


def test_a_request_with_two_lengths_ends_its_connection(served: Server) -> None:
    """A proxy that goes by the other length takes the second request for a part of the first one's body.

    Some other client's request would then get its answer.
    """
    first = b"POST /v1/changes HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with socket.create_connection(_address(served), timeout=10) as one:
        one.sendall(first + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answered = b""
        with suppress(ConnectionResetError):
            while part := one.recv(65_536):
                answered += part

    assert answered.startswith(b"HTTP/1.1 400 ")
    assert b'"two_lengths"' in answered
    assert answered.count(b"HTTP/1.1") == 1
