"""The description of this surface, OpenAPI 3.1: FastAPI writes it from the routes, and the event format joins it.

What may be posted depends on the configured connections and comes in five media types, so it is no type of Python: it
is the JSON Schema that `optrelay schema` prints, under this document's own places.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.routing import BaseRoute

from producers.http import responses
from producers.http.examples import add_examples
from producers.http.problems import CONTENT_TYPE

Schema = dict[str, Any]

COMPONENTS = "#/components/schemas/"
_ABOUT = (
    "Changes of consent in, by programs (with a key) and by people (with a link). A change is acknowledged once it is "
    "on disk, and delivered to its provider by workers, opt-outs first."
)
KEYED: Schema = {"security": [{"bearer": []}, {"apiKey": []}]}
"""What a route that needs a key adds to its description."""

_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_PROBLEMS = {
    400: "Nothing in the request can be read",
    401: "No valid key",
    403: "The key has not the scope that this needs",
    404: "There is no such thing",
    408: "The body came too slowly",
    409: "Nothing was done: another number of slots would change, or others opted out by names that are not given",
    410: "The link has expired, or what stood behind the cursor is not kept any more",
    413: "The body is too long",
    415: "The body is in a form that is not read here",
    429: "Too many requests with this key",
    500: "A fault of the server; nothing was acknowledged",
    503: "The ledger cannot be used now; nothing was acknowledged: send it again",
}
_RETRY_AFTER = {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}}
_ADDED_BY_FASTAPI = ("HTTPValidationError", "ValidationError")


def operation_id(route: APIRoute) -> str:
    """Return the name of an operation, which generated clients call it by: that of its function."""
    return route.name


def problem_responses(*statuses: int) -> dict[int | str, Schema]:
    """Return the description of answers to requests that cannot be served, for a route's `responses`."""
    return {status: _problem(status, {}) for status in statuses}


def page_responses(*statuses: int) -> dict[int | str, Schema]:
    """Return the same where a person may see a page instead."""
    return {status: _problem(status, {"text/html": {"schema": {"type": "string"}}}) for status in statuses}


def _problem(status: int, content: Schema) -> Schema:
    described = {CONTENT_TYPE: {"schema": {"$ref": f"{COMPONENTS}Problem"}}}
    waits = status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE) and not content
    return {"description": _PROBLEMS[status], "content": content | described} | (
        {"headers": _RETRY_AFTER} if waits else {}
    )


def describe(routes: Sequence[BaseRoute], events: Schema, body_limit: int) -> Schema:
    """Return the description; `events` is the JSON Schema of the event format, `body_limit` is in bytes."""
    described = get_openapi(title="optrelay", version="1", description=_ABOUT, routes=routes)
    for path in described["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)  # every parameter is text, which is never invalid
    described["paths"]["/v1/changes"]["post"]["description"] += f" At most {body_limit:,} bytes."
    add_examples(described["paths"])
    answered = {name: one for name, one in described["components"]["schemas"].items() if name not in _ADDED_BY_FASTAPI}
    problem = TypeAdapter(responses.Problem).json_schema(ref_template=f"{COMPONENTS}{{model}}")
    problem.pop("$defs")  # it shares them with the answers
    described["components"] = {
        "schemas": {**_events(events), **answered, "Problem": problem},
        "securitySchemes": _SECURITY_SCHEMES,
    }
    return described


def _events(schema: Schema) -> Schema:
    """Return the event format as components: the same definitions under this document's own places."""
    return {
        "Change": _moved({"description": schema["title"], "oneOf": schema["oneOf"]}),
        **{name: _moved(one) for name, one in schema["$defs"].items()},
    }


def _moved(part: Any) -> Any:
    match part:
        case {"$ref": str(place)}:
            return {**part, "$ref": place.replace("#/$defs/", COMPONENTS)}
        case dict():
            return {name: _moved(one) for name, one in part.items()}
        case list():
            return [_moved(one) for one in part]
        case _:
            return part
