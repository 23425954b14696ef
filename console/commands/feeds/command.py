"""Arguments and help of `map` and `feeds`."""

from __future__ import annotations

from typing import Annotated

import typer

from console import options
from console.options import JsonOption
from console.ui.screen import Screen


def map_file(  # noqa: PLR0913 - one argument for each option
    *,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file as it comes.")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The feed's name. Otherwise it is asked for.")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--pattern",
            metavar="PATTERN",
            help="The names of its files, like 'unsubscribed_*.csv'. Otherwise this one's, digits replaced by *.",
            show_default=False,
        ),
    ] = None,
    connection: options.ConnectionOption = None,
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
    yes: Annotated[bool, typer.Option("--yes", help="Take what is proposed; ask only what cannot be known.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in place of the feed of this name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say once what the columns and values of a file mean, and remember it as a feed in optrelay.toml.

    Shows the header and masked samples, recognises known exports, proposes, asks what is ambiguous, writes the feed and
    ends with a dry run. From then on `optrelay run FILE` needs no option. With --json nothing is asked: the object has
    the proposal and what is open as `questions`; give the answers as options, and --yes to write.

    For example:

        optrelay map unsubscribed_2026-11-20.csv
        optrelay map contacts.csv --values 'Opted out:TRUE=OPTOUT,FALSE=skip' --timezone UTC --name crm --yes --json
    """
    from console.commands.feeds.dialogue import MapRequest, map_to_feed
    from console.settings_check import configured
    from producers.options import IngestOptions, parse_zone

    given = IngestOptions(
        connection=connection,
        maps=options.maps(maps),
        constants=options.constants(constants),
        values=options.values(values),
        effective_at=options.moment(effective_at),
        time_format=options.time_format(time_format),
        timezone=parse_zone(timezone),
        region=options.region(region),
        encoding=encoding,
        delimiter=delimiter,
        sheet=sheet,
        skip_top=skip_top,
        skip_end=skip_end,
    )
    screen = Screen(as_json=as_json)
    asked = MapRequest(file, given, name or "", pattern or "", yes=yes, replace=replace)
    raise typer.Exit(int(map_to_feed(configured(screen), screen, asked)))


def feeds(
    *,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[FEED]", help="One feed: its mapping and its last files.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the feeds of optrelay.toml: whose files they are, when the last one came, and whether one is overdue.

    With a name: what its columns and values mean, and its last twenty files. Exit code 1 if a file that a watched place
    expects (`expect=02:30` in its address) has not come.

    For example:

        optrelay feeds
        optrelay feeds newsletter-unsubscribed --json
    """
    from console.commands.feeds.overview import show_feeds
    from console.settings_check import configured

    screen = Screen(as_json=as_json)
    raise typer.Exit(int(show_feeds(configured(screen), screen, name)))
