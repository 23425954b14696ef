"""The options that say how files are read, the same for `run` and `import`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from consent.errors import ConfigurationError
from consent.row import ConsentRow
from consent.settings import Settings
from producers.columns import parse_maps
from producers.csv_file import CsvFile, prepare
from producers.options import IntakeOptions
from producers.sources import source_files
from worker.providers import provider_of

_PANEL = "How the files are read"

SomeFiles = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILE]…", help="CSV files, .csv.gz, folders, patterns, or - for standard input.", show_default=False
    ),
]
Files = Annotated[
    list[str],
    typer.Argument(metavar="FILE…", help="CSV files, .csv.gz, folders, patterns, or - for standard input."),
]
ConnectionOption = Annotated[
    str | None,
    typer.Option("--connection", metavar="NAME", help="For rows that name none.", rich_help_panel=_PANEL),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="THEIR=OUR", help="Lead a column of the file to one of ours; repeat.", rich_help_panel=_PANEL
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
    str, typer.Option("--timezone", metavar="ZONE", help="For times that name no zone.", rich_help_panel=_PANEL)
]
EncodingOption = Annotated[
    str | None,
    typer.Option("--encoding", metavar="NAME", help="Otherwise it is found out.", rich_help_panel=_PANEL),
]
DelimiterOption = Annotated[
    str | None,
    typer.Option("--delimiter", metavar="CHAR", help="Otherwise it is found out.", rich_help_panel=_PANEL),
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
RejectsOption = Annotated[
    Path | None,
    typer.Option(
        "--rejects",
        metavar="PATH",
        help="Where rejected rows go. Otherwise FILE.rejects.csv.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Record nothing; say what would happen.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
PatienceOption = Annotated[
    str, typer.Option("--patience", metavar="TIME", help="How long a connection may be stuck, like 90s, 15m or 2h.")
]


@dataclass(frozen=True, slots=True)
class Reading:
    """The files of a command, and how they are to be read."""

    files: Sequence[str]
    options: IntakeOptions

    @contextmanager
    def ready(self, settings: Settings) -> Iterator[list[CsvFile]]:
        """Look over every file before anything of any is recorded; give them ready to be read.

        Raises UnusableInput and ConfigurationError.
        """
        rows = row_models(settings)
        defaults = {name: connection.defaults for name, connection in settings.connections.items()}
        with source_files(self.files) as sources:
            if self.options.rejects_path is not None and len(sources) > 1:
                raise ConfigurationError(f"--rejects names one file, but {len(sources)} are read: leave it out")
            yield [prepare(source, self.options, rows, defaults) for source in sources]


def row_models(settings: Settings) -> dict[str, type[ConsentRow]]:
    """Return the row model of each connection; raise ConfigurationError if none is configured."""
    if not settings.connections:
        raise ConfigurationError(
            "no connection is configured: set OPTRELAY_CONNECTIONS__CAPILLARY__BASE_URL, …__USERNAME and "
            "…__PASSWORD, or write them into optrelay.toml; `optrelay demo` needs none"
        )
    return {name: provider_of(connection).row for name, connection in settings.connections.items()}


def moment(text: str | None) -> datetime | None:
    """Read --effective-at; raise ConfigurationError if it is no time."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigurationError(
            f"--effective-at is written as ISO 8601, for example 2026-11-22T08:30:00Z, not {text!r}"
        ) from None


def maps(arguments: Sequence[str] | None) -> dict[str, str]:
    """Read the --map options; raise ConfigurationError for one of another form."""
    return parse_maps(arguments or ())
