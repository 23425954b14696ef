"""The optrelay command line: its commands, and how each ends."""

from __future__ import annotations

import copy
import gc
import signal
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.main import get_command, get_command_name, get_group
from typer.models import CommandInfo, TyperInfo

from console import options
from console.commands.dead_letters import command as dead_letters
from console.commands.events.command import listen, schema, serve, token
from console.commands.feeds.command import feeds, map_file
from console.commands.holds.command import approve, held, reset_fuse, undo, withdraw
from console.commands.ledger.command import (
    backup,
    changes,
    deadlines,
    history,
    migrate,
    results,
    scrub,
    status,
)
from console.commands.page.command import ui, user
from console.commands.pauses.command import pause, resume
from console.commands.processes import sandbox, sweep, up, watch, worker
from console.commands.rejected_events import command as rejected_events
from console.commands.run.command import import_files, run
from console.commands.telemetry.command import metrics, notices
from console.exit_codes import EXIT_CODES, USAGE_ERROR, ExitCode, explain, explain_usage, interrupted
from console.options import JsonOption
from console.ui.screen import Screen, take_any_character

GC_THRESHOLD = (300_000, 10, 5)
"""200,000 objects are loaded and stay; batches are freed without the collector."""

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


def doctor(
    *, worker: options.OnlyWorkerOption = False, live: options.LiveOption = False, as_json: JsonOption = False
) -> None:
    """Check settings, ledger, broker and connections. Exit code 1 if something is wrong."""
    from console.doctor.checkup import doctor as examine

    raise typer.Exit(int(examine(Screen(as_json=as_json), only_worker=worker, live=live)))


def demo(
    *,
    folder: Annotated[Path, typer.Option("--folder", help="The folder for all that it writes.")] = Path(".demo"),
    rows: Annotated[int, typer.Option("--rows", help="Rows of the demo's file.")] = 2000,
    keep: Annotated[
        bool, typer.Option("--keep", help="Show its ledger in a browser at the end, until Ctrl-C.")
    ] = False,
) -> None:
    """Show the whole product on this machine in half a minute: sandbox, broker, workers, a file delivered, a proof."""
    from console.demo.demo import run_demo

    raise typer.Exit(int(run_demo(Screen(), folder, rows, keeps=keep)))


def version() -> None:
    """Print the version."""
    from importlib.metadata import version as version_of

    Screen().show(f"optrelay {version_of('optrelay')}")


FIRST_STEPS = "First steps"
SEND = "Send files"
LOOK = "Look"
DECIDE = "Decide and repair"
RECEIVE = "Receive changes"
OPERATE = "Run in production"

app.command(rich_help_panel=FIRST_STEPS)(demo)
app.command(rich_help_panel=FIRST_STEPS)(sandbox)
app.command(rich_help_panel=FIRST_STEPS)(doctor)
app.command(rich_help_panel=FIRST_STEPS)(version)
app.command(rich_help_panel=SEND, epilog=EXIT_CODES)(run)
app.command("import", rich_help_panel=SEND, epilog=EXIT_CODES)(import_files)
app.command("map", rich_help_panel=SEND)(map_file)
app.command(rich_help_panel=SEND)(feeds)
app.command(rich_help_panel=LOOK)(status)
app.command(rich_help_panel=LOOK)(ui)
app.command(rich_help_panel=LOOK)(results)
app.command(rich_help_panel=LOOK)(history)
app.command(rich_help_panel=LOOK)(changes)
app.command(rich_help_panel=LOOK)(deadlines)
app.command(rich_help_panel=LOOK)(scrub)
app.command(rich_help_panel=DECIDE)(held)
app.command(rich_help_panel=DECIDE)(approve)
app.command(rich_help_panel=DECIDE)(withdraw)
app.command(rich_help_panel=DECIDE)(undo)
app.command(rich_help_panel=DECIDE)(reset_fuse)
app.command(rich_help_panel=DECIDE)(pause)
app.command(rich_help_panel=DECIDE)(resume)
app.add_typer(dead_letters.app, rich_help_panel=DECIDE)
app.add_typer(rejected_events.app, rich_help_panel=DECIDE)
app.command(rich_help_panel=RECEIVE, epilog=EXIT_CODES)(up)
app.command(rich_help_panel=RECEIVE, epilog=EXIT_CODES)(watch)
app.command(rich_help_panel=RECEIVE, epilog=EXIT_CODES)(listen)
app.command(rich_help_panel=RECEIVE, epilog=EXIT_CODES)(serve)
app.command(rich_help_panel=RECEIVE)(token)
app.command(rich_help_panel=RECEIVE)(schema)
app.command(rich_help_panel=OPERATE)(worker)
app.command(rich_help_panel=OPERATE)(sweep)
app.command(rich_help_panel=OPERATE)(migrate)
app.command(rich_help_panel=OPERATE)(backup)
app.command(rich_help_panel=OPERATE, epilog=EXIT_CODES)(metrics)
app.command(rich_help_panel=OPERATE, epilog=EXIT_CODES)(notices)
app.command(rich_help_panel=OPERATE)(user)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; end with an exit code, and never with a traceback of an error that was expected."""
    signal.signal(signal.SIGTERM, _terminate)
    take_any_character()
    Screen.has_printed_json = False
    gc.set_threshold(*GC_THRESHOLD)
    try:
        code = _run(arguments)
    except SystemExit as end:  # a signal, or a pipe that was closed
        code = int(end.code or 0)
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place where anything can be said about it
        code = explain(error)
        _print_error(arguments, code, str(error) if code != ExitCode.UNEXPECTED else "an unexpected error")
    finally:
        gc.freeze()  # a last collection would take a quarter of a second
    if code == ExitCode.INTERRUPTED:
        interrupted()
    if code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        _print_error(arguments, code, f"{ExitCode(code).name.lower()}: what was recorded is kept, run it again")
    sys.exit(code)


def _run(arguments: list[str] | None) -> int:
    """Run one command; return its exit code. Our own screen shows usage errors: it escapes what an argument holds."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        asked = command_line(given[0] if given else "")
        return int(asked(given, prog_name="optrelay", standalone_mode=False) or ExitCode.WELL)
    except USAGE_ERROR as error:
        code = explain_usage(error)
        _print_error(arguments, code, "these arguments cannot be used")
        return code
    except typer.Abort:
        Screen().note("aborted: nothing was done")
        return ExitCode.IMPERFECT


@cache
def command_line(name: str) -> Any:
    """Return the command line, with the command of this name alone if there is one: to make all takes 50 ms."""
    one = copy.copy(app)
    one.registered_commands = [each for each in app.registered_commands if _name(each) == name]
    one.registered_groups = [each for each in app.registered_groups if _name(each) == name]
    return get_group(one) if one.registered_commands or one.registered_groups else get_command(app)


def _name(one: CommandInfo | TyperInfo) -> str | None:
    """Return the name of a command or a group, which Typer makes of the function's if none was given."""
    if isinstance(one, TyperInfo):
        return one.typer_instance.info.name if one.typer_instance else None
    return one.name or (get_command_name(one.callback.__name__) if one.callback else None)


def _print_error(arguments: list[str] | None, code: int, message: str) -> None:
    """Print the JSON value of a command that failed, if it was to print one: a program need not parse nothing."""
    if "--json" in (sys.argv[1:] if arguments is None else arguments) and not Screen.has_printed_json:
        with suppress(OSError):  # where even this cannot be written, the exit code has to do
            Screen(as_json=True).print_json({"error": message, "exit_code": int(code)})


def _terminate(*_: object) -> NoReturn:
    sys.exit(int(ExitCode.TERMINATED))
