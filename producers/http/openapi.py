"""The description of this surface, OpenAPI 3.1: what may be sent and what is answered."""

from __future__ import annotations

from typing import Any

from consent.outcome import State
from producers.events.format import CLOUDEVENT, CLOUDEVENT_BATCH, NDJSON
from producers.http.answers import ANSWERS, PROBLEMS, SCHEMAS
from producers.http.changes import KEY_HEADER, LONGEST_KEY

Schema = dict[str, Any]

_COMPONENTS = "#/components/schemas/"


def description(events: Schema, body_limit: int) -> Schema:
    """Return the description; `events` is the JSON Schema of the event format, `body_limit` is in bytes."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "optrelay", "version": "1", "description": _ABOUT},
        "paths": _paths(body_limit),
        "components": {
            "schemas": {
                **_events(events),
                **SCHEMAS,
                "State": {"type": "string", "enum": [one.value for one in State]},
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


_ABOUT = (
    "Changes of consent in, by programs (with a key) and by people (with a link). A change is acknowledged once it is "
    "on disk, and delivered to its provider by workers, opt-outs first."
)
_KEYED: list[dict[str, list[str]]] = [{"bearer": []}, {"apiKey": []}]


def _events(schema: Schema) -> Schema:
    """Return the event format as components: the same definitions under this document's own places."""
    return {
        "Change": _moved({"description": schema["title"], "oneOf": schema["oneOf"]}),
        **{name: _moved(one) for name, one in schema["$defs"].items()},
    }


def _moved(part: Any) -> Any:
    match part:
        case {"$ref": str(place)}:
            return {**part, "$ref": place.replace("#/$defs/", _COMPONENTS)}
        case dict():
            return {name: _moved(one) for name, one in part.items()}
        case list():
            return [_moved(one) for one in part]
        case _:
            return part


def _paths(body_limit: int) -> Schema:
    id_ = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    token = {"name": "token", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "/v1/changes": {"post": _post_changes(body_limit)},
        "/v1/changes/{id}": {
            "parameters": [id_],
            "get": _get("What became of a change", "ChangeState", 401, 404, 429, 500, 503, security=_KEYED),
        },
        "/v1/imports/{id}": {
            "parameters": [id_],
            "get": _get("The counts of an import", "ImportReport", 401, 404, 429, 500, 503, security=_KEYED),
        },
        "/v1/unsubscribe/{token}": {
            "parameters": [token],
            "get": {"summary": "A page that asks, and changes nothing", "responses": _pages(200, 404, 410, 500)},
            "post": _post_unsubscribe(),
        },
        "/healthz": {"get": _get("The process lives", "Alive", 500)},
        "/readyz": {"get": _readyz()},
        "/openapi.json": {"get": _get("This description", "AnyObject", 500)},
        "/docs": {"get": {"summary": "This description for people", "responses": _pages(200, 500)}},
    }


def _post_changes(body_limit: int) -> Schema:
    one = {"$ref": f"{_COMPONENTS}Change"}
    some = {"type": "array", "items": one, "minItems": 1}
    cloud = {"$ref": f"{_COMPONENTS}CloudEvent"}
    content = {
        "application/json": {"schema": {"anyOf": [one, some]}},
        CLOUDEVENT: {"schema": cloud},
        CLOUDEVENT_BATCH: {"schema": {"type": "array", "items": cloud, "minItems": 1}},
        **{kind: {"schema": {"type": "string", "description": "One change a line"}} for kind in NDJSON},
    }
    key = {
        "name": KEY_HEADER.title(),
        "in": "header",
        "description": "Makes the request known again if it names no change_id and is no CloudEvent.",
        "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[!-~]+$"},
    }
    return {
        "summary": "Record changes",
        "description": f"{_POSTED} At most {body_limit:,} bytes.",
        "security": _KEYED,
        "parameters": [key],
        "requestBody": {"required": True, "content": content},
        "responses": {"202": ANSWERS["Results"]} | _problems(400, 401, 408, 413, 415, 429, 500, 503),
    }


_POSTED = (
    "One change, a list of them, one a line, or CloudEvents (structured, batch, or binary with ce- headers). Answered "
    "after the commit, with what became of each change: accepted, duplicate (known already), or rejected (why, and "
    "which field). One bad change harms only itself."
)


def _post_unsubscribe() -> Schema:
    form = {
        "type": "object",
        "required": ["List-Unsubscribe"],
        "properties": {"List-Unsubscribe": {"const": "One-Click"}},
    }
    kinds = ("application/x-www-form-urlencoded", "multipart/form-data")
    return {
        "summary": "Opt out at this moment (RFC 8058); no key, no cookie",
        "requestBody": {"required": True, "content": {kind: {"schema": form} for kind in kinds}},
        "responses": _pages(200, 400, 404, 408, 410, 413, 500, 503),
    }


def _readyz() -> Schema:
    ready = {"content": {"application/json": {"schema": {"$ref": f"{_COMPONENTS}Ready"}}}}
    return {
        "summary": "Whether changes can be recorded now; the broker is told of, and not needed for that",
        "responses": {
            "200": {"description": "The ledger can be used", **ready},
            "503": {"description": "The ledger cannot be used now", **ready},
        }
        | _problems(500),
    }


def _get(summary: str, name: str, *problems: int, security: list[Any] | None = None) -> Schema:
    keyed = {"security": security} if security else {}
    return {"summary": summary, **keyed, "responses": {"200": ANSWERS[name]} | _problems(*problems)}


def _problems(*statuses: int) -> Schema:
    return {str(status): PROBLEMS[status] for status in statuses}


def _pages(*statuses: int) -> Schema:
    page = {"text/html": {"schema": {"type": "string"}}}
    problem = {"application/problem+json": {"schema": {"$ref": f"{_COMPONENTS}Problem"}}}
    return {
        str(status): {"description": PROBLEMS[status]["description"], "content": page | problem}
        if status in PROBLEMS
        else {"description": "A page", "content": page}
        for status in statuses
    }
