"""Arguments and help of `run` and `import`."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console import options
from console.options import JsonOption, PatienceOption
from console.ui.screen import Screen
from console.ui.text import parse_duration

if TYPE_CHECKING:
    from consent.settings import Settings
    from console.commands.run.import_files import CommandContext
    from console.commands.run.input_files import InputFiles
    from producers.options import IngestOptions


def run(  # noqa: PLR0913 - one argument for each option
    *,
    files: options.SomeFiles = None,
    connection: options.ConnectionOption = None,
    feed: options.FeedOption = None,
    maps: options.MapOption = None,
    constants: options.SetOption = None,
    values: options.ValuesOption = None,
    effective_at: options.SinceOption = None,
    time_format: options.TimeFormatOption = None,
    timezone: options.ZoneOption = None,
    region: options.RegionOption = None,
    encoding: options.EncodingOption = None,
    delimiter: options.DelimiterOption = None,
    sheet: options.SheetOption = None,
    skip_top: options.SkipTopOption = 0,
    skip_end: options.SkipEndOption = 0,
    allow_domains: options.DomainsOption = False,
    stream: options.StreamOption = False,
    reassert: options.ReassertOption = None,
    rejects: options.RejectsOption = None,
    guard_off: options.GuardOffOption = None,
    replaces: options.ReplacesOption = None,
    why: options.WhyOption = "",
    move: options.MoveOption = False,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=1, help="Worker processes.", show_default="CPU count")
    ] = None,
    patience: PatienceOption = "15m",
    dry_run: options.DryRunOption = False,
    metrics_file: options.MetricsFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record files and deliver until nothing is pending; without files, deliver what is pending.

    A broker is started for the time of the run if none is configured. Every row ends in exactly one of: applied,
    unchanged, superseded, rejected, dead, pending. Running the same file again changes nothing and makes no API call.

    An OPTOUT is one person's at Capillary and, in a row with `destination`, at Infobip (blocklist). In a row with
    `subscription_id` (Infobip, Gupshup) it changes a webhook for the whole account or app.

    For the last few customers (ten, or one in a hundred) it waits until for two minutes none has ended or was in doubt,
    and for ten at most six minutes: then it says when they are tried again, ends with 4, and goes on when run again.

    For example:

        optrelay run consents.csv
        optrelay run 'drop/*.csv' --map phone=destination --dry-run
        gpg -d dump.csv.gpg | optrelay run - --effective-at 2026-11-22T00:00:00Z
        optrelay run --json > result.json
    """
    from console.commands.run.import_files import CommandContext, record_and_deliver
    from console.commands.run.input_files import InputFiles
    from console.settings_check import configured

    mapping = _mapping(feed, maps, constants, values, time_format, region, skip_top, skip_end, allow_domains)
    chosen = _options(
        mapping, connection, effective_at, timezone, encoding, delimiter, sheet, stream, rejects, reassert
    )
    screen = Screen(as_json=as_json)
    context = CommandContext(configured(screen), screen)
    asked = InputFiles(files or (), chosen, move=move, guards_off=tuple(guard_off or ()), why=why, replaces=replaces)
    seconds = parse_duration(patience, "--patience")
    if dry_run:
        raise typer.Exit(_forecast(context, asked))
    from console.commands.telemetry.notices import begin_heartbeat, tell_at_end
    from console.local.delivery import LocalDelivery

    with _metrics_into(metrics_file, context.settings), LocalDelivery(workers or os.cpu_count() or 1, seconds) as own:
        begin_heartbeat(context.settings)  # a thread: behind the fork that becomes the worker
        code = record_and_deliver(context, asked, own)
        tell_at_end(context.settings, screen, code)
    raise typer.Exit(int(code))


def import_files(  # noqa: PLR0913 - one argument for each option
    *,
    files: options.Files,
    connection: options.ConnectionOption = None,
    feed: options.FeedOption = None,
    maps: options.MapOption = None,
    constants: options.SetOption = None,
    values: options.ValuesOption = None,
    effective_at: options.SinceOption = None,
    time_format: options.TimeFormatOption = None,
    timezone: options.ZoneOption = None,
    region: options.RegionOption = None,
    encoding: options.EncodingOption = None,
    delimiter: options.DelimiterOption = None,
    sheet: options.SheetOption = None,
    skip_top: options.SkipTopOption = 0,
    skip_end: options.SkipEndOption = 0,
    allow_domains: options.DomainsOption = False,
    stream: options.StreamOption = False,
    reassert: options.ReassertOption = None,
    rejects: options.RejectsOption = None,
    guard_off: options.GuardOffOption = None,
    replaces: options.ReplacesOption = None,
    why: options.WhyOption = "",
    move: options.MoveOption = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until workers elsewhere have settled it.")] = False,
    patience: PatienceOption = "15m",
    dry_run: options.DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Record files for workers that run elsewhere (`optrelay worker` and `optrelay sweep`).

    A change is on disk before this ends. An import that was interrupted goes on where it stood when the same file is
    imported again.

    For example:

        optrelay import consents.csv --wait
        optrelay import consents.csv.rejects.csv
        optrelay import - --connection capillary --effective-at 2026-11-22T00:00:00Z < changes.csv
    """
    from console.commands.run.import_files import CommandContext, record_and_deliver, record_only
    from console.commands.run.input_files import InputFiles
    from console.settings_check import configured

    mapping = _mapping(feed, maps, constants, values, time_format, region, skip_top, skip_end, allow_domains)
    chosen = _options(
        mapping, connection, effective_at, timezone, encoding, delimiter, sheet, stream, rejects, reassert
    )
    screen = Screen(as_json=as_json)
    context = CommandContext(configured(screen), screen)
    asked = InputFiles(files, chosen, move=move, guards_off=tuple(guard_off or ()), why=why, replaces=replaces)
    seconds = parse_duration(patience, "--patience")
    if dry_run:
        raise typer.Exit(_forecast(context, asked))
    if wait:
        from console.local.delivery import RemoteDelivery

        raise typer.Exit(int(record_and_deliver(context, asked, RemoteDelivery(seconds), wake=True)))
    raise typer.Exit(int(record_only(context, asked)))


def _forecast(context: CommandContext, asked: InputFiles) -> int:
    from console.commands.run.dry_run import dry_run

    return int(dry_run(context.settings, context.screen, asked))


def _metrics_into(file: Path | None, settings: Settings) -> AbstractContextManager[None]:
    """Return what writes the metrics into the file at its end, if there is one."""
    if file is None:
        return nullcontext()
    from console.commands.telemetry.exposition import written_at_end

    return written_at_end(settings, file)


def _options(mapping: dict[str, Any], *given: Any) -> IngestOptions:
    from producers.options import IngestOptions, parse_zone

    connection, since, timezone, encoding, delimiter, sheet, stream, rejects, reassert = given
    return IngestOptions(
        **mapping,
        connection=connection,
        effective_at=options.moment(since),
        timezone=parse_zone(timezone),
        encoding=encoding or None,  # "" is what a variable of the shell is that was not set
        delimiter=delimiter or None,
        sheet=sheet or None,
        stream=stream,
        rejects_path=Path(rejects) if rejects else None,
        reassert=options.way(reassert),
    )


def _mapping(*given: Any) -> dict[str, Any]:
    feed, maps, constants, values, time_format, region, skip_top, skip_end, allow_domains = given
    return {
        "feed": feed or "",
        "maps": options.maps(maps),
        "constants": options.constants(constants),
        "values": options.values(values),
        "time_format": options.time_format(time_format),
        "region": options.region(region),
        "skip_top": skip_top,
        "skip_end": skip_end,
        "allow_domains": allow_domains,
    }
