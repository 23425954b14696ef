"""The description of this surface, for programs and as a page: plain HTML, nothing from elsewhere, no script."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from functools import cached_property
from hashlib import sha256
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from producers.http.admission import app_state
from producers.http.examples import examples, meanings
from producers.http.openapi import COMPONENTS, operation_id, page_responses, problem_responses

_STYLE = (
    ":root{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif}"
    "body{margin:0 auto;max-width:60rem;padding:1rem;overflow-wrap:anywhere}a{color:inherit}th{overflow-wrap:normal}"
    "table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0}"
    "pre{white-space:pre-wrap;padding:.8rem;border:1px solid}code,pre{font-family:ui-monospace,monospace}"
    "summary{cursor:pointer}"
)
_HASH = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


router = APIRouter(generate_unique_id_function=operation_id)


class Description:
    """The description, made when it is first asked for, as it is sent: a server starts without it."""

    def __init__(self, known: Callable[[], dict[str, Any]], public: Callable[[], dict[str, Any]]) -> None:
        self._known, self._public = known, public

    @cached_property
    def known(self) -> bytes:
        """JSON, with the names of our connections."""
        return bytes(JSONResponse(self._known()).body)

    @cached_property
    def public(self) -> bytes:
        """JSON, without them."""
        return bytes(JSONResponse(self._public()).body)

    @cached_property
    def page(self) -> bytes:
        """A page, without them."""
        return docs_page(self._public()).encode()


@router.get(
    "/openapi.json",
    summary="This description",
    response_model=dict[str, Any],
    response_description="The description",
    responses=problem_responses(500),
)
async def openapi(request: Request) -> Response:
    """Send a key to see the names of the connections in it."""
    description: Description = request.app.state.description
    has_key = app_state(request).keys.sender(request.headers) is not None
    return Response(description.known if has_key else description.public, media_type=JSONResponse.media_type)


@router.get(
    "/docs",
    summary="This description for people",
    response_class=HTMLResponse,
    response_description="A page",
    responses=page_responses(500),
)
async def docs(request: Request) -> Response:
    """Show plain HTML, which loads nothing from elsewhere and runs no script."""
    description: Description = request.app.state.description
    return HTMLResponse(description.page, headers={"content-security-policy": POLICY})


def docs_page(description: dict[str, Any]) -> str:
    """Return the page."""
    info = description["info"]
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>optrelay over HTTP</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_STYLE}</style></head><body><main><h1>{escape(info['title'])} over HTTP</h1>",
            f"<p>{escape(info['description'])}</p>",
            '<p>The same for programs: <a href="/openapi.json">openapi.json</a> (OpenAPI 3.1).</p>',
            *_operations(description["paths"]),
            "<h2>Fields of a change</h2>",
            "<p>What goes together is in the schemas below.</p>",
            *_fields(description["components"]["schemas"]),
            "<h2>Schemas</h2>",
            *_schemas(description["components"]["schemas"]),
            "</main></body></html>",
        )
    )


def _operations(paths: dict[str, Any]) -> Iterator[str]:
    for path, item in paths.items():
        for method in ("get", "post"):
            if method in item:
                yield f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
                yield from _operation(item[method])
                yield from _examples(f"{method.upper()} {path}")


def _operation(operation: dict[str, Any]) -> Iterator[str]:
    yield f"<p>{escape(operation['summary'])}.{' Needs a key.' if 'security' in operation else ''}</p>"
    if "description" in operation:
        yield f"<p>{escape(operation['description'])}</p>"
    for one in operation.get("parameters", []):
        if one["in"] == "header":
            yield f"<p>Header <code>{escape(one['name'])}</code>: {escape(one['description'])}</p>"
    if "requestBody" in operation:
        kinds = ", ".join(f"<code>{escape(kind)}</code>" for kind in operation["requestBody"]["content"])
        yield f"<p>Body: {kinds}</p>"
    yield "<table><thead><tr><th>status</th><th>meaning</th><th>body</th></tr></thead><tbody>"
    for status, answer in operation["responses"].items():
        bodies = "<br>".join(_named(kind, one["schema"]) for kind, one in answer["content"].items())
        yield f"<tr><td>{status}</td><td>{escape(answer['description'])}</td><td>{bodies}</td></tr>"
    yield "</tbody></table>"


def _examples(operation: str) -> Iterator[str]:
    """Tell each example of an operation: what is sent, and what is answered."""
    for one in examples():
        if one.operation == operation:
            yield f"<details><summary>Example, {one.status}: {escape(one.title)}</summary>"
            yield f"<pre>{escape(one.request)}</pre><pre>{escape(one.reply)}</pre></details>"


def _fields(schemas: dict[str, Any]) -> Iterator[str]:
    """Tell the fields of a change, in a table for each provider or connection."""
    meant = meanings()
    for place in schemas["PlainChange"]["oneOf"]:
        name = place["$ref"].removeprefix(COMPONENTS)
        yield f"<h3>{escape(schemas[name]['title'])}</h3>"
        yield "<table><thead><tr><th>field</th><th>must be there</th><th>form</th><th>meaning</th></tr></thead><tbody>"
        needed = {*schemas[name]["required"], "effective_at"}
        for field, schema in schemas[name]["properties"].items():
            must = "yes" if field in needed else ""
            yield f"<tr><td><code>{escape(field)}</code></td><td>{must}</td><td>{escape(_form(schema))}</td>"
            yield f"<td>{escape(meant.get(field, schema.get('description', '')))}</td></tr>"
        yield "</tbody></table>"


def _form(schema: dict[str, Any]) -> str:
    """Return in a few words what a value may be."""
    match schema:
        case {"const": value}:
            return str(value)
        case {"enum": values}:
            return ", ".join(map(str, values))
        case {"anyOf": several}:
            return " or ".join(dict.fromkeys(map(_form, several)))
        case {"type": "array", "items": dict(items)}:
            return f"list of {_form(items)}"
        case _:
            kind = str(schema.get("format", schema.get("type", "string")))
            return _KINDS.get(kind, kind)


_KINDS = {"string": "text", "integer": "whole number", "boolean": "true or false", "date-time": "time"}


def _named(kind: str, schema: dict[str, Any]) -> str:
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    link = f' <a href="#{escape(name)}">{escape(name)}</a>' if name else ""
    return f"<code>{escape(kind)}</code>{link}"


def _schemas(schemas: dict[str, Any]) -> Iterator[str]:
    for name, schema in schemas.items():
        text = escape(json.dumps(schema, indent=2, ensure_ascii=False))
        yield f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary><pre>{text}</pre></details>'
