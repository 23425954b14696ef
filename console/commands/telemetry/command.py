"""Arguments and help of `metrics` and `notices`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consent.errors import ConfigurationError
from console.options import JsonOption
from console.ui.screen import Screen


def metrics(
    *,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Serve them there until told to stop.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Where to listen; no key is asked for.")] = "127.0.0.1",
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE.prom", help="Write them there, for node_exporter.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell Prometheus what stands in the ledger: print it once, serve it (--port), or write a file (--output).

    `optrelay serve` tells the same at /metrics to a key with the scope `metrics`. Names are in docs/metrics.md.

    For example:

        optrelay metrics
        optrelay metrics --port 9464
    """
    from console.commands.telemetry.exposition import show_metrics
    from console.settings_check import configured

    screen = Screen(as_json=as_json)
    raise typer.Exit(int(show_metrics(configured(screen), screen, (host, port), output)))


def notices(
    *,
    action: Annotated[str | None, typer.Argument(metavar="[test|ack]", show_default=False)] = None,
    number: Annotated[int | None, typer.Argument(metavar="[ID]", show_default=False)] = None,
    why: Annotated[str, typer.Option("--why", help="For `ack`: kept with the notice.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List what people were told of and still stands; `test` sends a message to every channel.

    `ack ID --why` notes that a person knows of it: it is not told again until it is over. Channels stand in
    OPTRELAY_NOTIFY, and docs/notices.md says of what they tell.

    For example:

        optrelay notices
        optrelay notices ack 12 --why 'the provider is at it'
    """
    from console.commands.telemetry.notices import acknowledge, show_notices, try_channels
    from console.settings_check import configured

    screen = Screen(as_json=as_json)
    match action, number:
        case None, None:
            code = show_notices(configured(screen), screen)
        case "test", None:
            code = try_channels(configured(screen), screen)
        case "ack", int(found):
            if not why.strip():
                raise ConfigurationError("say why, for the next person who looks: --why 'the provider is at it'")
            code = acknowledge(configured(screen), screen, found, why)
        case _:
            raise ConfigurationError("give nothing, `test`, or `ack` and the id of a notice")
    raise typer.Exit(int(code))
