"""The event format as a JSON Schema, made from the row models: whatever it allows is understood.

It is narrower than what is understood: one spelling of each name, no unknown names, nothing left empty.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from consent.row import ConsentRow

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFINITIONS = "#/$defs/"
_NAME = {"type": "string", "minLength": 1}
_PLAIN_TEXT = {"type": "string", "pattern": r"^[^\u0000\ufffd]*$"}


def event_schema(
    rows: Mapping[str, type[ConsentRow]], defaults: Mapping[str, Mapping[str, str]], *, configured: bool
) -> dict[str, Any]:
    """Return the schema of one event: a change, plain or as a CloudEvent.

    `rows` holds row models by the name of their connection or, if not `configured`, of their provider; what a
    connection's `defaults` fill may be left out of its events.
    """
    named = {name: _change(name, row, defaults.get(name, {}), len(rows), configured) for name, row in rows.items()}
    several = {"oneOf": [{"$ref": f"{_DEFINITIONS}{name}"} for name in named]}
    return {
        "$schema": DIALECT,
        "title": "A change of consent, as an event",
        "oneOf": [{"$ref": f"{_DEFINITIONS}PlainChange"}, {"$ref": f"{_DEFINITIONS}CloudEvent"}],
        "$defs": {
            "PlainChange": {**several, "required": ["effective_at"], "description": _PLAIN},
            "CloudEvent": _cloud_event(several),
            "Time": _cleaned(ConsentRow.model_json_schema()["properties"]["effective_at"], {}),
            **named,
        },
    }


_PLAIN = "A change as a JSON object; effective_at says when the person said it, and is never in the future."


def _change(
    name: str,
    row: type[ConsentRow],
    defaults: Mapping[str, str],
    count: int,
    configured: bool,  # noqa: FBT001 - one private use
) -> dict[str, Any]:
    made = row.model_json_schema()
    schema: dict[str, Any] = _cleaned(made, made.get("$defs", {}))
    filled = {field for field, value in defaults.items() if value}
    connection = {"const": name} if configured else _NAME
    schema["properties"] = {"connection": connection, **schema["properties"]}
    if configured and count > 1:
        schema["required"] = ["connection", *schema["required"]]
    return {
        **_without(schema, filled),
        "title": f"Change for {name}",
        "description": f"A change for the connection {name}" if configured else f"A change for a connection to {name}",
        "additionalProperties": False,
    }


def _cloud_event(change: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of the envelope (CloudEvents 1.0); one of it and its data says the time."""
    return {
        "type": "object",
        "description": "A CloudEvent 1.0 in structured mode. Its source and id together make it known again.",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "pattern": r"^[!-~]{1,200}$"},
            "source": {
                "type": "string",
                "pattern": "^[a-z][a-z0-9+.-]{0,20}:[A-Za-z0-9/._-]{1,200}$|^/[A-Za-z0-9/._-]{0,200}$",
            },
            "type": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,200}$"},
            "datacontenttype": {"const": "application/json"},
            "dataschema": {"type": "string", "pattern": "^https://[a-z0-9.-]+/[A-Za-z0-9/._-]*$"},
            "subject": {"type": "string", "pattern": "^[!-~]{1,200}$"},
            "time": {"$ref": f"{_DEFINITIONS}Time"},
            "data": {**change, "description": "The change; it may leave effective_at to the envelope's time."},
        },
        "anyOf": [{"required": ["time"]}, {"properties": {"data": {"required": ["effective_at"]}}}],
        "propertyNames": {"pattern": "^[a-z0-9]{1,20}$"},
        "additionalProperties": {"type": "string", "pattern": "^[!-~]+$", "description": "An extension, not looked at"},
    }


def _cleaned(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a schema of pydantic's without its decorations and references; null is said by leaving a field out."""
    match schema:
        case {"$ref": str(place), **_others}:
            return _cleaned(definitions[place.removeprefix(_DEFINITIONS)], definitions)
        case {"anyOf": [*inner, {"type": "null"}]}:
            cleaned = [_cleaned(one, definitions) for one in inner]
            return (cleaned[0] if len(cleaned) == 1 else {"anyOf": cleaned}) | _texts(schema)
        case {"type": "string"} if not schema.keys() & {"pattern", "enum", "format", "const"}:
            return _PLAIN_TEXT | _texts(schema)
        case dict():
            return {name: _cleaned_part(name, one, definitions) for name, one in schema.items() if name not in _DROPPED}
        case list():
            return [_cleaned(one, definitions) for one in schema]
        case _:
            return schema


_DROPPED = {"title", "default", "$defs"}


def _cleaned_part(name: str, part: Any, definitions: Mapping[str, Any]) -> Any:
    if name == "properties":
        return {field: _cleaned(one, definitions) for field, one in part.items()}
    return part if name in ("required", "enum") else _cleaned(part, definitions)


def _texts(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": schema["description"]} if "description" in schema else {}


def _without(schema: Any, filled: Collection[str]) -> Any:
    """Return a schema that does not ask for the fields that are filled anyway."""
    match schema:
        case dict():
            return {
                name: [one for one in part if one not in filled] if name == "required" else _without(part, filled)
                for name, part in schema.items()
            }
        case list():
            return [_without(one, filled) for one in schema]
        case _:
            return schema
