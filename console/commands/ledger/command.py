"""Arguments and help of what looks at the ledger or keeps it: `status`, `results`, `changes`, `history` and others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console import options
from console.options import JsonOption, as_text
from console.ui.screen import Screen

if TYPE_CHECKING:
    from consent.settings import Settings


def status(
    *,
    import_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[IMPORT]", help="An import's id, its beginning, or latest.", show_default=False, callback=as_text
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="End with exit code 4 if something stands still: for cron and monitoring.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show connections and the newest imports, or one import: its counts, and why it is not sealed if it is not.

    Something stands still if a connection is stopped, if changes have been due for over ten minutes and no worker or
    sweep runs, if an opt-out has been pending for over a day, or if the ledger takes no writes.

    **Exit codes** of `status IMPORT`: 0 sealed, or on its way · 1 rows of it were rejected or are dead, whichever run
    that was (the same file again ends with 0) · 3 held · 4 a stopped connection. Of `status --check`: 0, or 4.
    """
    from consent.settings import load_settings
    from console.commands.ledger.status import show_all, show_one

    settings, screen = load_settings(), Screen(as_json=as_json)
    if import_id:
        raise typer.Exit(int(show_one(settings, screen, import_id)))
    raise typer.Exit(int(show_all(settings, screen, check=check)))


def deadlines(
    *,
    check: Annotated[bool, typer.Option("--check", help="End with exit code 1 if one is or will be missed.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Count all that is pending anew, and put right.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say which opt-outs are or will be late, at which rate none would be, and how many were in the last 30 days."""
    from consent.settings import load_settings
    from console.commands.ledger.deadlines import show_deadlines

    raise typer.Exit(int(show_deadlines(load_settings(), Screen(as_json=as_json), check=check, verify=verify)))


def history(
    *,
    columns: Annotated[
        list[str],
        typer.Argument(metavar="COLUMN=VALUE", help="What names them, or - for JSON objects, one a line."),
    ],
    connection: Annotated[
        str | None, typer.Option("--connection", metavar="NAME", help="Check only this connection.")
    ] = None,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show who it is about; otherwise only the last characters.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show every change of one person, what it came from, and what became of it, slot by slot, oldest first.

    Name a person as the rows do: by user_id, say, or identifier_value; `email=` and `mobile=` look in every column
    that holds such a name. Several columns together narrow it. Changes that
    only repeated what was so are not listed; they move the slot's date forward. Other users of the machine can see the
    names on a command line: - reads them from standard input. All targets of the ledger are read for it: some seconds
    where there are ten million.

    **Exit codes:** 0 there are changes · 1 there are none · 2 usage or configuration.

    For example:

        optrelay history user_id=387006417
        optrelay history email=ann@example.com --json
        echo '{"destination": "+447700900123"}' | optrelay history -
    """
    from consent.settings import load_settings
    from console.commands.ledger.history import show_histories

    code = show_histories(load_settings(), Screen(as_json=as_json), columns, connection, reveal=reveal)
    raise typer.Exit(int(code))


def changes(
    *,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="CURSOR", help="Where the last page ended; otherwise the oldest that is kept."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, max=10_000, help="How many at most.", show_default="100, with --json 10000"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what became of changes since a cursor, in the order in which it became visible: for a warehouse to copy.

    Each outcome of each change is told, also what a replay leads to, and none is missed, whatever is settled at the
    same time. Keep the cursor that is printed, and give it the next time. `GET /v1/changes` tells the same.

    For example:

        optrelay changes --json > page.json
        optrelay changes --after "$(jq -r .cursor page.json)" --json
    """
    from consent.settings import load_settings
    from console.commands.ledger.history import show_outcomes

    raise typer.Exit(int(show_outcomes(load_settings(), Screen(as_json=as_json), after, limit)))


def results(  # noqa: PLR0913 - one argument for each option
    *,
    import_id: Annotated[
        str, typer.Argument(metavar="IMPORT", help="An import's id, its beginning, or latest.", callback=as_text)
    ],
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file that was imported.")],
    output: Annotated[Path, typer.Option("--output", metavar="OUT", help="A file that is not there yet.")],
    connection: options.ConnectionOption = None,
    feed: options.FeedOption = None,
    maps: options.MapOption = None,
    constants: options.SetOption = None,
    values: options.ValuesOption = None,
    skip_top: options.SkipTopOption = 0,
    skip_end: options.SkipEndOption = 0,
    effective_at: options.SinceOption = None,
    encoding: options.EncodingOption = None,
    delimiter: options.DelimiterOption = None,
    sheet: options.SheetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the rows of an imported file with what became of each, for the system that the file came from.

    The ledger keeps no cells, so the file is read again: it must have the import's bytes, whatever its name is now.
    OUT has _outcome, _code, _reason and _settled_at before the columns of the file, and each row once: applied,
    unchanged, superseded, pending, dead, rejected, duplicate or skipped. It names persons, so only its owner can read
    it. How the file was read must be said again, by its feed or with the same options.

    For example:

        optrelay results latest consents.csv --output consents.results.csv
    """
    from consent.settings import load_settings
    from console.commands.ledger.results import write_results
    from producers.options import IngestOptions

    how = IngestOptions(
        connection,
        options.maps(maps),
        options.moment(effective_at),
        encoding=encoding,
        delimiter=delimiter,
        sheet=sheet,
        feed=feed or "",
        constants=options.constants(constants),
        values=options.values(values),
        skip_top=skip_top,
        skip_end=skip_end,
    )
    raise typer.Exit(int(write_results(load_settings(), Screen(as_json=as_json), import_id, file, how, output)))


def scrub(  # noqa: PLR0913 - one argument for each option
    *,
    audience: Annotated[
        str, typer.Argument(metavar="AUDIENCE", help="CSV, JSON lines, .xlsx; packed or not; or - for standard input.")
    ],
    channel: Annotated[str, typer.Option("--channel", metavar="NAME", help="Where they are contacted, like EMAIL.")],
    output: Annotated[Path, typer.Option("--output", metavar="CLEAN", help="A file that is not there yet.")],
    priority: Annotated[
        str, typer.Option("--priority", metavar="NAME", help="BULK or TRANS.", show_default="any")
    ] = "",
    connections: Annotated[
        list[str] | None,
        typer.Option("--connection", metavar="NAME", help="Opt-outs of this one count; repeat.", show_default="all"),
    ] = None,
    unknown: Annotated[
        str | None,
        typer.Option(
            "--unknown", metavar="allow|stop", help="What if others opted out by a kind of name that a row lacks."
        ),
    ] = None,
    feed: Annotated[
        str | None, typer.Option("--feed", metavar="NAME", help="The feed of optrelay.toml whose mapping holds.")
    ] = None,
    maps: options.MapOption = None,
    region: options.RegionOption = None,
    skip_top: options.SkipTopOption = 0,
    skip_end: options.SkipEndOption = 0,
    encoding: options.EncodingOption = None,
    delimiter: options.DelimiterOption = None,
    sheet: options.SheetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take out of an audience who may not be contacted, also by opt-outs that have not reached a provider yet.

    Columns that name people are user_id, email, mobile, externalId, cardExternalId, cardNumber, destination, or
    identifier_name with identifier_value; a person is looked for by all of them. Any opt-out that stands stops:
    pending, held for approval, dead or delivered. CLEAN gets the rows that may be contacted as they are, and
    CLEAN.stopped.csv the others, each with why, since when and where. A row that cannot be understood is stopped.

    **Exit codes:** 0 both files are written · 2 usage or configuration, or others opted out by names that the audience
    lacks and --unknown does not say what that means · 5 the ledger cannot be read; nothing is written.

    For example:

        optrelay scrub audience.csv --channel EMAIL --priority BULK --output clean.csv
    """
    from consent.settings import load_settings
    from console.commands.ledger.scrub import scrub as scrub_file
    from console.commands.run.input_files import row_models
    from producers.audience import AudienceQuestion
    from producers.options import IngestOptions

    settings = load_settings()
    how = IngestOptions(
        feed=feed or "",
        maps=options.maps(maps),
        region=options.region(region),
        skip_top=skip_top,
        skip_end=skip_end,
        encoding=encoding,
        delimiter=delimiter,
        sheet=sheet,
    )
    asked = AudienceQuestion.read(row_models(settings), channel, priority, connections or (), unknown)
    raise typer.Exit(int(scrub_file(settings, Screen(as_json=as_json), audience, how, asked, output)))


def backup(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that is not there yet.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Copy the ledger into FILE while other processes use it; SQLite only.

    The copy is the ledger as it stood at one moment. It names persons, so only its owner can read it. To use it, name
    it in OPTRELAY_LEDGER_URL, or put it in the ledger's place while nothing runs, without the old -wal and -shm.

    For example:

        optrelay backup /backups/optrelay-$(date +%F).db
    """
    from consent.ledger.ledger import Ledger
    from consent.settings import load_settings

    settings, screen = load_settings(), Screen(as_json=as_json)
    size = Ledger(settings.ledger_url).maintenance.back_up(file)
    screen.show(f"copied {size:,} bytes to {file}")
    screen.print_json({"file": str(file), "bytes": size})


def migrate(*, as_json: JsonOption = False) -> None:
    """Bring the ledger's schema up to date; SQLite is also migrated by any import, PostgreSQL only by this."""
    from consent.settings import load_settings

    migrate_ledger(load_settings(), Screen(as_json=as_json))


def migrate_ledger(settings: Settings, screen: Screen) -> None:
    """Migrate the ledger and say from where to where; raises LedgerUnavailable."""
    from consent.ledger.ledger import Ledger

    ledger = Ledger(settings.ledger_url)
    try:
        keeper = ledger.maintenance
        before, done = keeper.revision(), keeper.migrate()
        counts = keeper.merged_targets() if done and before and before < _ONE_PERSON_ONE_TARGET else {}
    finally:
        ledger.close()
    now = ledger.maintenance.needed_revision
    screen.show(f"migrated from {before or 'nothing'} to {now}" if done else f"nothing to do: it is at {now}")
    if counts:
        screen.show(
            f"one person is one target now: {counts['targets_merged']:,} targets were merged into others of the same "
            f"person, {counts['targets_renamed']:,} have another key, {counts['changes_moved']:,} changes were moved"
        )
        screen.show(
            f"{counts['superseded']:,} pending changes were superseded by newer ones of the same person; of "
            f"{counts['delivered_again']:,} slots, what stands is delivered again"
        )
    screen.print_json({"migrated": done, "from": before, "to": now, **({"merged": counts} if counts else {})})


_ONE_PERSON_ONE_TARGET = "0011"
"""The migration that tells what it has merged."""
