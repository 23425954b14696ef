"""The doorways of what belongs to HTTP: `serve`, `token` and `schema`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from consent.settings import load_settings
from console.configured import configured
from console.durations import parse_duration
from console.options import JsonOption
from console.screen import Screen


def serve(
    *,
    host: Annotated[str, typer.Option("--host", help="Where to listen; 0.0.0.0 is everywhere.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8080,
    as_json: JsonOption = False,
) -> None:
    """Take changes over HTTP, serve unsubscribe links, and wake the workers, until told to stop.

    Keys stand in OPTRELAY_API_KEYS. It speaks plain HTTP: put a proxy that speaks TLS before it. Its documentation is
    at /docs. Several may run side by side. Without OPTRELAY_BROKER_URL, `optrelay run` delivers.

    For example:

        OPTRELAY_API_KEYS=shop=$(openssl rand -hex 24) optrelay serve --port 8080
    """
    from console.serving import serve_until_told

    screen = Screen(as_json=as_json)
    serve_until_told(configured(screen), screen, host, port)


def token(
    *,
    columns: Annotated[
        list[str],
        typer.Argument(metavar="COLUMN=VALUE…", help="The change's columns, or - for JSON objects, one a line."),
    ],
    expires: Annotated[str, typer.Option("--expires", metavar="TIME", help="How long it works, like 90d.")] = "90d",
    as_json: JsonOption = False,
) -> None:
    """Make an unsubscribe link: a token that opts one person out of what the columns name, and shows neither.

    With OPTRELAY_PUBLIC_URL it prints the whole link. Names on a command line can be seen by others on the machine:
    for real people give - and write a JSON object a line to standard input; the answers come in that order.

    For example:

        optrelay token user_id=387006417 channel=EMAIL priority=BULK --expires 90d
        optrelay token - < audience.ndjson > links.txt
    """
    seconds = parse_duration(expires, "--expires")
    from console.tokens import show_tokens

    raise typer.Exit(int(show_tokens(load_settings(), Screen(as_json=as_json), columns, seconds)))


def schema(*, as_json: JsonOption = False) -> None:  # noqa: ARG001 - it prints JSON with and without
    """Print the JSON Schema (2020-12) of an event, for the configured connections, or for every provider."""
    from console.serving import schema_of

    typer.echo(json.dumps(schema_of(load_settings()), indent=2, ensure_ascii=False))
