"""Arguments and help of `listen`, `serve`, `token` and `schema`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from console.options import JsonOption
from console.ui.screen import Screen
from console.ui.text import parse_duration


def listen(
    *,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE_URL",
            help="A Redis stream or a RabbitMQ queue. Otherwise OPTRELAY_SOURCE_URL, which no list of processes shows.",
            show_default=False,
        ),
    ] = None,
    connection: Annotated[
        str | None, typer.Option("--connection", metavar="NAME", help="For events that name none.")
    ] = None,
    timezone: Annotated[str, typer.Option("--timezone", metavar="ZONE", help="For times that name no zone.")] = "UTC",
    consumer: Annotated[
        str | None,
        typer.Option("--consumer", metavar="NAME", help="Our name at the source, kept over restarts. [default: host]"),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option("--batch", min=1, max=10_000, help="Events in one transaction, at most. [default: 2000]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object at the end.")] = False,
) -> None:
    """Record events of a Redis stream or a RabbitMQ queue, and wake the workers, until told to stop.

    An event is acknowledged once it is in the ledger, or recorded as rejected. Of several listeners of one group or
    queue each takes a share; give each its own --consumer. Without OPTRELAY_BROKER_URL, `optrelay run` delivers.

    For example:

        optrelay listen 'redis://localhost:6379/0?stream=consent&group=optrelay'
        optrelay listen 'amqp://user:password@localhost:5672/vhost?queue=consent' --consumer web-1
    """
    from console.commands.events.listen import ListenOptions, record_events
    from console.settings_check import configured
    from producers.events.consumer import BATCH

    screen = Screen(as_json=as_json)
    settings = configured(screen)
    url = source or settings.source_url.get_secret_value()
    asked = ListenOptions(url, connection, timezone, consumer, batch or BATCH)
    raise typer.Exit(int(record_events(settings, screen, asked)))


def serve(
    *,
    host: Annotated[str, typer.Option("--host", help="Where to listen; 0.0.0.0 is everywhere.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free port.")] = 8080,
    as_json: JsonOption = False,
) -> None:
    """Take changes over HTTP, serve unsubscribe links, and wake the workers, until told to stop.

    Keys stand in OPTRELAY_API_KEYS. With OPTRELAY_UI_USERS it shows the page of `optrelay ui` at /ui. It speaks plain
    HTTP: put a proxy that speaks TLS before it. Its documentation is at /docs. Several may run side by side. Without
    OPTRELAY_BROKER_URL, `optrelay run` delivers.

    For example:

        OPTRELAY_API_KEYS=shop=$(openssl rand -hex 24) optrelay serve --port 8080
    """
    from console.commands.events.serve import serve_until_stopped
    from console.commands.page.server import shared_page
    from console.settings_check import configured

    screen = Screen(as_json=as_json)
    settings = configured(screen)
    serve_until_stopped(settings, screen, host, port, shared_page(settings))


def token(
    *,
    columns: Annotated[
        list[str],
        typer.Argument(metavar="COLUMN=VALUE", help="The change's columns, or - for JSON objects, one a line."),
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
    from consent.settings import load_settings

    seconds = parse_duration(expires, "--expires")
    from console.commands.events.tokens import show_tokens

    raise typer.Exit(int(show_tokens(load_settings(), Screen(as_json=as_json), columns, seconds)))


def schema(*, as_json: JsonOption = False) -> None:  # noqa: ARG001 - it prints JSON with and without
    """Print the JSON Schema (2020-12) of an event, for the configured connections, or for every provider."""
    from consent.settings import load_settings
    from console.commands.events.event_format import schema_of

    typer.echo(json.dumps(schema_of(load_settings()), indent=2, ensure_ascii=False))
