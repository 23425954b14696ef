"""The doorway of `optrelay listen`."""

from __future__ import annotations

from typing import Annotated

import typer

from console.configured import configured
from console.screen import Screen


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
    from console.listening import Listening, record_events
    from producers.events.consumer import BATCH

    screen = Screen(as_json=as_json)
    settings = configured(screen)
    url = source or settings.source_url.get_secret_value()
    asked = Listening(url, connection, timezone, consumer, batch or BATCH)
    raise typer.Exit(int(record_events(settings, screen, asked)))
