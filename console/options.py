"""The options that several commands share; nothing here may take long to import: `optrelay --help` does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consent.errors import ConfigurationError
from consent.files import path_text
from consent.times import UnusableTime, read_time

if TYPE_CHECKING:
    from consent.reassert import Reassert

_PANEL = "How the files are read"


def as_text(argument: str | None) -> str | None:
    """Return an argument that is no path as text that every database takes: it may hold bytes that are no UTF-8."""
    return None if argument is None else path_text(argument)


SomeFiles = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILE",
        help="CSV, JSON lines, .xlsx; packed (.gz, .zst, .zip) or not; folders, patterns, or - for standard input.",
        show_default=False,
    ),
]
Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE",
        help="CSV, JSON lines, .xlsx; packed (.gz, .zst, .zip) or not; folders, patterns, or - for standard input.",
    ),
]
ConnectionOption = Annotated[
    str | None,
    typer.Option("--connection", metavar="NAME", help="For rows that name none.", rich_help_panel=_PANEL),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="THEIR=OUR", help="Map a column of the file to one of ours; repeat.", rich_help_panel=_PANEL
    ),
]
FeedOption = Annotated[
    str | None,
    typer.Option(
        "--feed",
        metavar="NAME",
        help="The feed of optrelay.toml whose mapping holds. Otherwise the one that fits the file's name and header.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="OUR=VALUE",
        help="Give a column of ours one value in every row; repeat.",
        rich_help_panel=_PANEL,
    ),
]
ValuesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--values",
        metavar="COLUMN:VALUE=OURS",
        help="Say what the values of a column mean, like `Opted out:TRUE=OPTOUT,FALSE=skip`; repeat. Without COLUMN: "
        "of the column that is the action.",
        rich_help_panel=_PANEL,
    ),
]
TimeFormatOption = Annotated[
    str | None,
    typer.Option(
        "--time-format",
        metavar="FORMAT",
        help="How effective_at is written: %d.%m.%Y %H:%M, epoch, epoch_ms, excel, or auto. Otherwise ISO 8601.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
RegionOption = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="COUNTRY",
        help="The country (like GB) of numbers without a country code. Otherwise the connection's.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
SkipTopOption = Annotated[
    int, typer.Option("--skip-top", metavar="LINES", min=0, help="Lines before the header.", rich_help_panel=_PANEL)
]
SkipEndOption = Annotated[
    int,
    typer.Option("--skip-end", metavar="LINES", min=0, help="Lines at the end, like totals.", rich_help_panel=_PANEL),
]
DomainsOption = Annotated[
    bool,
    typer.Option(
        "--allow-domains",
        help="Take whole e-mail domains on Infobip's blocklist: they block everyone at them.",
        rich_help_panel=_PANEL,
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--effective-at",
        metavar="TIME",
        help="Since when rows without a time hold (ISO 8601). Otherwise the file's modification time.",
        rich_help_panel=_PANEL,
    ),
]
ZoneOption = Annotated[
    str | None,
    typer.Option(
        "--timezone",
        metavar="ZONE",
        help="For times that name no zone.",
        show_default="UTC",
        rich_help_panel=_PANEL,
    ),
]
EncodingOption = Annotated[
    str | None,
    typer.Option("--encoding", metavar="NAME", help="Detected if not given.", rich_help_panel=_PANEL),
]
DelimiterOption = Annotated[
    str | None,
    typer.Option("--delimiter", metavar="CHAR", help="Detected if not given.", rich_help_panel=_PANEL),
]
SheetOption = Annotated[
    str | None,
    typer.Option("--sheet", metavar="NAME", help="A workbook's sheet; otherwise its first.", rich_help_panel=_PANEL),
]
StreamOption = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="Let changes become due while the file is read, not when it has been read whole: sooner, but a "
        "customer may cost more than one call, and a truncated file is not held back.",
        rich_help_panel=_PANEL,
    ),
]
ReassertOption = Annotated[
    str | None,
    typer.Option(
        "--reassert",
        metavar="WAY",
        help="Which opt-outs are sent though the provider is confirmed to hold them: fresh (said since), always (all "
        "of the file, also if it was sent before) or never. Otherwise OPTRELAY_REASSERT.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
RejectsOption = Annotated[
    str | None,
    typer.Option(
        "--rejects",
        metavar="PATH",
        help="Where rejected rows go. Otherwise FILE.rejects.csv.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
ReplacesOption = Annotated[
    str | None,
    typer.Option(
        "--replaces",
        metavar="IMPORT",
        help="The import that these files correct: it is undone first. Needs --why.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
GuardOffOption = Annotated[
    list[str] | None,
    typer.Option(
        "--guard-off",
        metavar="GUARD",
        help="A guard that holds no file this time; repeat. Needs --why.",
        rich_help_panel=_PANEL,
    ),
]
WhyOption = Annotated[
    str,
    typer.Option("--why", metavar="TEXT", help="Why; kept in the audit log.", show_default=False, callback=as_text),
]
MoveOption = Annotated[
    bool,
    typer.Option(
        "--move",
        help="Move each file away once it is done with: recorded ones into done/ beside it, with their rejects file; "
        "ones that a guard holds into held/; ones that cannot be used into failed/, with a file that says why.",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Record nothing; say what would happen.")]
OnlyWorkerOption = Annotated[
    bool, typer.Option("--worker", help="Check only whether this machine's worker takes wake-ups.")
]
LiveOption = Annotated[
    bool,
    typer.Option("--live", help="Also read about one customer at each connection, under its limit."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
PatienceOption = Annotated[
    str, typer.Option("--patience", metavar="TIME", help="How long a connection may be stuck, like 90s, 15m or 2h.")
]


MetricsFileOption = Annotated[
    Path | None,
    typer.Option(
        "--metrics-file",
        metavar="FILE.prom",
        help="Write metrics there at the end, for node_exporter's textfile collector.",
        show_default=False,
    ),
]


def moment(text: str | None) -> datetime | None:
    """Read --effective-at; raise ConfigurationError if it is no time."""
    if text is None:
        return None
    try:
        return read_time(text.strip())
    except UnusableTime as error:
        raise ConfigurationError(f"--effective-at: {error.message}") from None


def way(text: str | None) -> Reassert | None:
    """Read --reassert; raise ConfigurationError if it is no way."""
    from consent.reassert import Reassert

    if text is None:
        return None
    try:
        return Reassert(text.strip().lower())
    except ValueError:
        raise ConfigurationError(f"--reassert is fresh, always or never, not {text!r}") from None


def maps(arguments: Sequence[str] | None) -> dict[str, str]:
    """Read the --map options; raise ConfigurationError for one of another form."""
    from producers.options import parse_maps

    return parse_maps(arguments or ())


def constants(arguments: Sequence[str] | None) -> dict[str, str]:
    """Read the --set options; raise ConfigurationError for one of another form."""
    from producers.options import parse_constants

    return parse_constants(arguments or ())


def values(arguments: Sequence[str] | None) -> dict[str, dict[str, str]]:
    """Read the --values options; raise ConfigurationError for one of another form."""
    from producers.options import parse_values

    return parse_values(arguments or ())


def time_format(text: str | None) -> str:
    """Read --time-format; raise ConfigurationError if it is none."""
    from consent.time_formats import check_format

    try:
        check_format(text or "epoch")
    except ValueError as error:
        raise ConfigurationError(f"--time-format: {error}") from None
    return text or ""


def region(text: str | None) -> str:
    """Read --region; raise ConfigurationError if it is none."""
    from consent.identifiers.phones import read_region

    try:
        return str(read_region(text or ""))
    except ValueError as error:
        raise ConfigurationError(f"--region: {error}") from None
