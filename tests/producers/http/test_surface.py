"""What anyone sees of the server: its description is true whatever is sent, and its answers and pages are careful."""

from __future__ import annotations

from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from consent.ledger.ledger import Ledger
from tests.support.examples import examples
from tests.support.http_server import ANN, KEY, Server, server

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CLICK = {"body": {"List-Unsubscribe": "One-Click"}, "media_type": "application/x-www-form-urlencoded"}
FIELDS = {"connection": "infobip", "destination": "12025550100"}


@pytest.mark.hypothesis
def test_the_description_is_true(books: Ledger) -> None:
    """Requests of every kind, good and bad, are answered as described, and never with 500; so is what is there."""
    with server(books) as served:
        there = {"id": served.post(ANN).json()["results"][0]["id"], "token": served.state.tokens.make(FIELDS, 3600)}
        there |= {"connection": "capillary"}
        described = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
        operations = [result.ok() for result in described.get_all_operations()]
        for operation in operations:
            for mode in schemathesis.GenerationMode:
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
    case.call_and_validate(headers={"Authorization": f"Bearer {KEY}"}, checks=CHECKS)


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
