"""Examples of requests with their answers, and what each field of a change means: for /docs and for /openapi.json.

They stand in `examples.toml`. A test sends each to a running server and compares what it answers.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

_FILE = Path(__file__).with_name("examples.toml")
_JSON = "application/json"
_PROBLEM = "application/problem+json"
_FORM = "application/x-www-form-urlencoded"
_OBJECTS = (_JSON, "application/cloudevents+json", "application/cloudevents-batch+json")
_OBJECTS = (_JSON, "application/cloudevents+json", "application/cloudevents-batch+json")


@dataclass(frozen=True, slots=True)
class Example:
    """One request and its answer.

    `operation` is a method and a path as the description writes it; `key` is the scope of the key that is shown, empty
    if none is; `answer` is empty where a page is answered. `with_id` is for a path whose id is not the first example's.
    """

    operation: str
    title: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    answer: str = ""
    key: str = "write"
    with_id: str = ""
    query: str = ""

    @property
    def media_type(self) -> str:
        """The form of the body, or nothing if there is none."""
        return self.headers.get("Content-Type", "")

    @property
    def request(self) -> str:
        """The request as it is read on the page: the path, the headers, the body."""
        method, _, path = self.operation.partition(" ")
        place = path.replace("{id}", self.with_id or "{id}") + (f"?{self.query}" if self.query else "")
        shown = {"Authorization": "Bearer KEY"} if self.key else {}
        lines = [f"{method} {place}", *(f"{name}: {value}" for name, value in (shown | dict(self.headers)).items())]
        return "\n".join([*lines, *(["", self.body.strip()] if self.body else [])])

    @property
    def reply(self) -> str:
        """The answer as it is read on the page."""
        return f"{self.status} {HTTPStatus(self.status).phrase}\n\n{self.answer.strip() or '(a page)'}"


@cache
def _read() -> dict[str, Any]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


@cache
def examples() -> Sequence[Example]:
    """Return every example, in the order in which they can be sent."""
    return [Example(**one) for one in _read()["example"]]


def meanings() -> Mapping[str, str]:
    """Return in words what each field of a change means."""
    fields: Mapping[str, str] = _read()["fields"]
    return fields


def add_examples(paths: Mapping[str, Any]) -> None:
    """Write the examples into the paths of an OpenAPI description: to each body, and to each answer in JSON."""
    for number, one in enumerate(examples(), 1):
        method, _, path = one.operation.partition(" ")
        operation, name = paths[path][method.lower()], f"example_{number}"
        body = operation.get("requestBody", {}).get("content", {}).get(one.media_type)
        is_whole = not any(header.startswith("ce-") for header in one.headers)  # else the time stands in a header
        if body is not None and is_whole and one.status < HTTPStatus.BAD_REQUEST:
            value = _value(one.media_type, one.body.strip())
            body.setdefault("examples", {})[name] = {"summary": one.title, "value": value}
        kind = _JSON if one.status < HTTPStatus.BAD_REQUEST else _PROBLEM
        if one.answer:
            answers = operation["responses"][str(one.status)]["content"][kind].setdefault("examples", {})
            answers[name] = {"summary": one.title, "value": json.loads(one.answer)}


def _value(media_type: str, body: str) -> Any:
    """Return a body as OpenAPI writes an example of it: parsed, where the form has parts."""
    if media_type == _FORM:
        return dict(parse_qsl(body))
    return json.loads(body) if media_type in _OBJECTS else body
