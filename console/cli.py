"""The optrelay command: one doorway for each thing that a person can ask for."""

from __future__ import annotations

import os
import signal
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from consent.collecting import collect_once_loaded, end_without_collecting
from consent.settings import load_settings
from console import dead_letters, options, rejected_events
from console.backup import backup
from console.configured import configured
from console.durations import parse_duration
from console.endings import EXIT_CODES, Code, explain, interrupted
from console.history_command import history
from console.listen_command import listen
from console.options import JsonOption, PatienceOption, as_text
from console.screen import Screen, take_any_character
from console.serve_commands import schema, serve, token
from console.servers import Pool, parse_pool, run_sandbox, run_sweep, run_worker, sweep_once

if TYPE_CHECKING:
    from producers.options import IngestOptions

app = typer.Typer(
    name="optrelay",
    help="Deliver marketing-consent changes in bulk: no change lost, the newest change wins.\n\n"
    "Start with `optrelay demo`, then `optrelay doctor`, then `optrelay run FILE`.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(dead_letters.app)
app.add_typer(rejected_events.app)

Concurrency = Annotated[
    int | None, typer.Option("--concurrency", "-c", min=1, help="Processes or threads.", show_default="CPU count")
]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; end with an exit code, and never with a traceback of an error that was expected."""
    signal.signal(signal.SIGTERM, _terminate)
    take_any_character()
    collect_once_loaded()
    try:
        app(arguments, prog_name="optrelay")
        sys.exit(Code.WELL)
    except SystemExit as end:
        if end.code == Code.INTERRUPTED:
            interrupted()
        sys.exit(end.code)
    except KeyboardInterrupt:
        sys.exit(interrupted())
    except Exception as error:  # noqa: BLE001 - the last place where anything can be said about it
        sys.exit(explain(error))
    finally:
        end_without_collecting()


@app.command(epilog=EXIT_CODES)
def run(  # noqa: PLR0913 - one argument for each option
    *,
    files: options.SomeFiles = None,
    connection: options.ConnectionOption = None,
    maps: options.MapOption = None,
    effective_at: options.SinceOption = None,
    timezone: options.ZoneOption = "UTC",
    encoding: options.EncodingOption = None,
    delimiter: options.DelimiterOption = None,
    stream: options.StreamOption = False,
    reassert: options.ReassertOption = None,
    rejects: options.RejectsOption = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=1, help="Worker processes.", show_default="CPU count")
    ] = None,
    patience: PatienceOption = "15m",
    dry_run: options.DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Record files and deliver until nothing is pending; without files, deliver what is pending.

    A broker is started for the time of the run if none is configured. Every row ends in exactly one of: applied,
    unchanged, superseded, rejected, dead, pending. Running the same file again changes nothing and makes no API call.

    An OPTOUT is one person's at Capillary and, in a row with `destination`, at Infobip (blocklist). In a row with
    `subscription_id` (Infobip, Gupshup) it changes a webhook for the whole account or app.

    For example:

        optrelay run consents.csv
        optrelay run 'drop/*.csv' --map phone=destination --dry-run
        zstd -dc dump.csv.zst | optrelay run - --effective-at 2026-11-22T00:00:00Z
        optrelay run --json > result.json
    """
    from console.dry_run import dry_run as forecast
    from console.importing import Doorway, record_and_deliver
    from console.own_workers import OwnWorkers
    from console.reading import Reading

    chosen = _options(connection, maps, effective_at, timezone, encoding, delimiter, stream, rejects, reassert)
    screen = Screen(as_json=as_json)
    door, asked = Doorway(configured(screen), screen), Reading(files or (), chosen)
    seconds = parse_duration(patience, "--patience")
    if dry_run:
        _end(forecast(door.settings, door.screen, asked))
    with OwnWorkers(workers or os.cpu_count() or 1, seconds) as own:
        code = record_and_deliver(door, asked, own)
    _end(code)


@app.command("import", epilog=EXIT_CODES)
def import_files(  # noqa: PLR0913 - one argument for each option
    *,
    files: options.Files,
    connection: options.ConnectionOption = None,
    maps: options.MapOption = None,
    effective_at: options.SinceOption = None,
    timezone: options.ZoneOption = "UTC",
    encoding: options.EncodingOption = None,
    delimiter: options.DelimiterOption = None,
    stream: options.StreamOption = False,
    reassert: options.ReassertOption = None,
    rejects: options.RejectsOption = None,
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
    from console.dry_run import dry_run as forecast
    from console.importing import Doorway, record_and_deliver, record_only
    from console.reading import Reading
    from console.waiting import WorkersElsewhere

    chosen = _options(connection, maps, effective_at, timezone, encoding, delimiter, stream, rejects, reassert)
    screen = Screen(as_json=as_json)
    door, asked = Doorway(configured(screen), screen), Reading(files, chosen)
    seconds = parse_duration(patience, "--patience")
    if dry_run:
        _end(forecast(door.settings, door.screen, asked))
    if wait:
        _end(record_and_deliver(door, asked, WorkersElsewhere(seconds), wake=True))
    _end(record_only(door, asked))


app.command(epilog=EXIT_CODES)(listen)
app.command()(history)
app.command()(backup)
app.command(epilog=EXIT_CODES)(serve)
app.command()(token)
app.command()(schema)


@app.command()
def status(
    *,
    import_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[IMPORT]", help="An import's id, its beginning, or latest.", show_default=False, callback=as_text
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show connections and the newest imports, or one import: its counts, and why it is not sealed if it is not.

    **Exit codes** of `status IMPORT`: 0 sealed, or still on its way · 1 some rows were rejected or are dead ·
    4 unfinished, because a connection that it needs is stopped.
    """
    from console.status import show_all, show_one

    settings, screen = load_settings(), Screen(as_json=as_json)
    _end(show_one(settings, screen, import_id) if import_id else show_all(settings, screen))


@app.command()
def worker(
    *,
    pool: Annotated[
        Pool,
        typer.Option(
            "--pool", "-P", parser=parse_pool, metavar="prefork|threads|solo", help="How delivery batches run."
        ),
    ] = Pool.PREFORK,
    concurrency: Concurrency = None,
) -> None:
    """Deliver what is due, until told to stop: the same as `celery -A worker.app worker`. Needs OPTRELAY_BROKER_URL."""
    _end(run_worker(configured(Screen()), pool, concurrency))


@app.command()
def sweep(
    *, once: Annotated[bool, typer.Option("--once", help="Sweep now, and end.")] = False, as_json: JsonOption = False
) -> None:
    """Wake workers for what is due, every second: the same as `celery -A worker.app beat`. One is enough."""
    screen = Screen(as_json=as_json)
    settings = configured(screen)
    if once:
        sweep_once(settings, screen)
        return
    _end(run_sweep(settings))


@app.command()
def migrate(*, as_json: JsonOption = False) -> None:
    """Bring the ledger's schema up to date; SQLite is also migrated by any import, PostgreSQL only by this."""
    from console.migrating import migrate_ledger

    migrate_ledger(load_settings(), Screen(as_json=as_json))


@app.command()
def sandbox(
    *,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8090,
    host: Annotated[str, typer.Option("--host")] = "127.0.0.1",
    rate: Annotated[str, typer.Option("--rate", help="Like 100/minute, 50/second or off.")] = "100/minute",
    burst: Annotated[int | None, typer.Option("--burst", min=0, help="Calls tolerated above it.")] = None,
    unknown: Annotated[
        list[str] | None, typer.Option("--unknown", help="Customers that do not exist, like '404*'; repeat.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a stand-in for the providers on this machine, to try things without calling a real one."""
    run_sandbox(Screen(as_json=as_json), host, port, {"rate": rate, "burst": burst, "unknown": unknown or None})


@app.command()
def doctor(*, worker: options.OnlyWorkerOption = False, as_json: JsonOption = False) -> None:
    """Look whether everything is there and well: settings, ledger, broker, connections. Exit code 1 if not."""
    from console.doctor import doctor as examine

    _end(examine(Screen(as_json=as_json), only_worker=worker))


@app.command()
def demo(
    *,
    folder: Annotated[Path, typer.Option("--folder", help="Everything is written in here.")] = Path(".demo"),
    rows: Annotated[int, typer.Option("--rows", help="Rows of the demo's file.")] = 2000,
) -> None:
    """Show the whole product on this machine in half a minute: sandbox, broker, workers, a file delivered, a proof."""
    from console.demo import run_demo

    _end(run_demo(Screen(), folder, rows))


@app.command()
def version() -> None:
    """Print the version."""
    Screen().show(f"optrelay {version_of('optrelay')}")


def _options(*said: Any) -> IngestOptions:
    from producers.options import IngestOptions

    connection, maps, since, timezone, encoding, delimiter, stream, rejects, reassert = said
    return IngestOptions(
        connection=connection,
        maps=options.maps(maps),
        effective_at=options.moment(since),
        timezone=timezone,
        encoding=encoding,
        delimiter=delimiter,
        stream=stream,
        rejects_path=rejects,
        reassert=options.way(reassert),
    )


def _end(code: int) -> NoReturn:
    raise typer.Exit(int(code))


def _terminate(*_: object) -> NoReturn:
    sys.exit(int(Code.TERMINATED))
