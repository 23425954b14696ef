"""What is answered, as JSON Schemas for the description of this surface."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_COUNTED = {"type": "object", "additionalProperties": _COUNT}
_MAYBE_TEXT = {"type": ["string", "null"]}
_TIME = {"type": "string", "format": "date-time"}
_COUNTS = (
    *("rows", "accepted", "rejected", "duplicates", "applied", "unchanged"),
    *("superseded", "dead", "pending", "calls"),
)


def _object(properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_RESULT = _object(
    {
        "status": {"enum": ["accepted", "duplicate", "rejected"]},
        "id": {**_MAYBE_TEXT, "description": "for GET /v1/changes/{id}; null if rejected"},
        "code": {**_MAYBE_TEXT, "description": "why it was rejected"},
        "message": {**_MAYBE_TEXT, "description": "why it was rejected, and what to do"},
        "ids": {"type": "array", "items": _TEXT, "description": "all of them, where a change names several slots"},
        "field": {**_TEXT, "description": "the field at fault"},
    },
    optional=("ids", "field"),
)

SCHEMAS: Schema = {
    "Result": _RESULT,
    "Results": _object({"results": {"type": "array", "items": {"$ref": "#/components/schemas/Result"}, "minItems": 1}}),
    "Problem": _object(
        {
            "type": _TEXT,
            "title": _TEXT,
            "status": {"type": "integer"},
            "code": {**_TEXT, "description": "for programs: it never changes"},
            "detail": {**_TEXT, "description": "for people: what to do"},
            "results": {"type": "array", "items": {"$ref": "#/components/schemas/Result"}},
        },
        optional=("results",),
    ),
    "ChangeState": _object(
        {
            "id": _TEXT,
            "state": {"$ref": "#/components/schemas/State"},
            "superseded_by": {**_MAYBE_TEXT, "description": "the id of the newer change of the same slot"},
            "code": {**_MAYBE_TEXT, "description": "why it is dead, or why the last try failed"},
            "reason": _MAYBE_TEXT,
            "connection": _TEXT,
            "slot": _TEXT,
            "action": {"enum": ["OPTIN", "OPTOUT"]},
            "effective_at": _TIME,
            "recorded_at": _TIME,
            "settled_at": {"type": ["string", "null"], "format": "date-time"},
            "attempts": _COUNT,
            "discarded": {"type": "boolean", "description": "a person has put this dead letter away"},
            "origin": _object({"import": _TEXT, "kind": _TEXT, "name": _TEXT, "number": {"type": ["integer", "null"]}}),
        }
    ),
    "ImportReport": {
        "type": "object",
        "description": "As `optrelay status IMPORT --json` prints it",
        "properties": {
            "import": _TEXT,
            "name": _TEXT,
            "state": _TEXT,
            "sealed": {"type": "boolean"},
            "seconds": {"type": "number"},
            **dict.fromkeys(_COUNTS, _COUNT),
            "reject_codes": _COUNTED,
            "dead_codes": _COUNTED,
            "discarded": _COUNT,
            "waiting": _COUNTED,
            "stopped": {"type": "object"},
        },
        "required": ["import", "sealed", *_COUNTS],
    },
    "Alive": _object({"status": {"const": "ok"}}),
    "Ready": _object({"status": {"enum": ["ready", "not ready"]}, "ledger": _TEXT, "broker": _TEXT}),
    "AnyObject": {"type": "object"},
}

_WAIT = {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}}


def _json(words: str, name: str) -> Schema:
    return {"description": words, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}


def _problem(words: str, headers: Schema | None = None) -> Schema:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": words, "content": content} | ({"headers": headers} if headers else {})


ANSWERS: dict[str, Schema] = {
    "Results": _json("Recorded: what became of each change, in the order in which they were sent", "Results"),
    "ChangeState": _json("What became of it", "ChangeState"),
    "ImportReport": _json("Its counts", "ImportReport"),
    "Alive": _json("It lives", "Alive"),
    "AnyObject": _json("The description", "AnyObject"),
}

PROBLEMS: dict[int, Schema] = {
    400: _problem("Nothing in the request can be read"),
    401: _problem("No valid key"),
    404: _problem("There is no such thing"),
    408: _problem("The body came too slowly"),
    410: _problem("The link has expired"),
    413: _problem("The body is too long"),
    415: _problem("The body is in a form that is not read here"),
    429: _problem("Too many requests with this key", _WAIT),
    500: _problem("A fault of the server; nothing was acknowledged"),
    503: _problem("The ledger cannot be used now; nothing was acknowledged: send it again", _WAIT),
}
"""Answers to requests that cannot be served, by their status."""
