"""The dead-letters commands: what could not be delivered, why, and what to do about it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consent.errors import ConfigurationError
from consent.files import user_name
from console.commands.dead_letters.selection import (
    ByCode,
    ByConnection,
    ByImport,
    ByPerson,
    Everything,
    Ids,
    NewerThan,
    OlderThan,
    Selection,
)
from console.options import JsonOption, as_text
from console.ui.screen import Screen
from console.ui.text import counted

if TYPE_CHECKING:
    from consent.ledger.dead_letters import FoundDeadLetters
    from consent.ledger.ledger import Ledger

app = typer.Typer(
    name="dead-letters",
    help="What could not be delivered, why, and what to do about it.\n\nA dead letter is a change that will not be "
    "delivered without a person. Look at it (list, show), then fix what was wrong and replay it, or export, fix and "
    "import it, or discard it. None is ever removed from the history.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Reveal = Annotated[bool, typer.Option("--reveal", help="Show who it is about; otherwise only the last characters.")]
Why = Annotated[
    str, typer.Option("--why", metavar="TEXT", help="Why; kept in the history.", show_default=False, callback=as_text)
]
Who = Annotated[
    str | None,
    typer.Option("--who", metavar="NAME", help="Kept in the history; your user name if not given.", callback=as_text),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]


@app.command("list")
def list_letters(  # noqa: PLR0913 - one argument for each option
    *,
    ids: Ids = None,
    connection: ByConnection = None,
    code: ByCode = None,
    import_id: ByImport = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    person: ByPerson = None,
    everything: Everything = False,
    discarded: Annotated[bool, typer.Option("--discarded", help="Also those that were discarded.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Letters shown one by one.")] = 50,
    reveal: Reveal = False,
    as_objects: JsonOption = False,
) -> None:
    """Count dead letters by connection and reason, then show them. Without filters: all of them."""
    from consent.settings import load_settings
    from console.commands.dead_letters.views import as_json, show_groups, show_letters
    from console.ledger_access import reading_ledger

    settings, screen = load_settings(), Screen(as_json=as_objects)
    selection = Selection(ids or (), connection, code, import_id, older_than, newer_than, everything, person or ())
    with reading_ledger(settings) as ledger:
        found = selection.find(ledger, discarded=discarded)
        screen.print_json_list(as_json(letter, reveal=reveal) for letter in found)
        if screen.as_json:
            return
        if not found:
            is_picked = any((ids, connection, code, import_id, older_than, newer_than, person))
            screen.show("no dead letters like that" if is_picked else "no dead letters")
            return
        show_groups(screen, found.groups())
        show_letters(settings, screen, found.first(limit), reveal=reveal)
    if len(found) > limit:
        screen.show(f"… and {len(found) - limit:,} more: --limit shows more, filters show fewer")


@app.command()
def show(
    *, number: Annotated[int, typer.Argument(metavar="ID")], reveal: Reveal = False, as_object: JsonOption = False
) -> None:
    """Show one dead letter: its reason and origin, every call made about it, and what people did to it."""
    from consent.settings import load_settings
    from console.commands.dead_letters.views import as_json, history_as_json, own_effect, show_history, show_letter
    from console.ledger_access import reading_ledger

    settings, screen = load_settings(), Screen(as_json=as_object)
    with reading_ledger(settings) as ledger:
        (letter,) = Selection((number,)).find(ledger, discarded=True)
        made, done = ledger.dead_letters.attempts_for(letter), ledger.dead_letters.audit_log_of(letter.id)
        effects = ledger.dead_letters.plan_replay([letter])
    show_letter(settings, screen, letter, reveal=reveal)
    screen.show(f"  replay:  {own_effect(letter, effects)}")
    show_history(screen, letter, made, done)
    effect = {"replay": effects[letter.id].value if letter.id in effects else None}
    screen.print_json(as_json(letter, reveal=reveal) | effect | history_as_json(made, done))


@app.command("replay")
def replay_letters(  # noqa: PLR0913 - one argument for each option
    *,
    ids: Ids = None,
    connection: ByConnection = None,
    code: ByCode = None,
    import_id: ByImport = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    person: ByPerson = None,
    everything: Everything = False,
    why: Why = "",
    who: Who = None,
    corrections: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="COLUMN=VALUE", help="Correct them first; an empty value clears.", show_default=False
        ),
    ] = None,
    yes: Yes = False,
    only_say: Dry = False,
    as_object: JsonOption = False,
) -> None:
    """Deliver dead letters again, unchanged or corrected with --set: say what would happen, ask, do it.

    A letter that a newer change has overtaken is closed as superseded, and never sent. Doing it twice does no harm.

    With --set each letter is closed, and a change takes its place that holds since the letter's own time. The exit code
    is 1 if one of them cannot be corrected like that; it stays as it is.

    For example:

        optrelay dead-letters replay --code 8015

        optrelay dead-letters replay 17 --set channel=MOBILE --why "the file called it PHONE"
    """
    from consent.settings import load_settings
    from console.commands.dead_letters.correction import correct_letters
    from console.commands.dead_letters.views import effects_text
    from console.commands.run.import_files import CommandContext, wake_workers
    from console.ledger_access import reading_ledger

    context = CommandContext(load_settings(), Screen(as_json=as_object))
    selection = Selection(ids or (), connection, code, import_id, older_than, newer_than, everything, person or ())
    selection.require()
    with reading_ledger(context.settings) as ledger:
        found = selection.find(ledger)
        if corrections:
            ask = None if only_say else lambda question: confirm(question, yes=yes)
            by = who or user_name()
            raise typer.Exit(correct_letters(context, ledger, found, corrections, ask, who=by, why=why))
        effects = ledger.dead_letters.plan_replay(found)
        context.screen.show(effects_text(effects))
        if found and not only_say:
            confirm(f"Replay {counted(len(found), 'dead letter')}?", yes=yes)
            effects = ledger.dead_letters.replay(found, who=who or user_name(), why=why)
            context.screen.show("done")
            wake_workers(context, ledger)
    counts = {effect: sum(one == effect for one in effects.values()) for effect in ("replayed", "superseded")}
    context.screen.print_json({"dry_run": only_say, **counts, "letters": sorted(effects)})


@app.command("export")
def export_letters(  # noqa: PLR0913 - one argument for each option
    *,
    ids: Ids = None,
    connection: ByConnection = None,
    code: ByCode = None,
    import_id: ByImport = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    person: ByPerson = None,
    everything: Everything = False,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="A new file, for you alone (mode 0600).")
    ] = None,
) -> None:
    """Write dead letters as CSV, with the persons they are about, to be fixed and imported again as it is.

    Rows that are left as they are count as duplicates when they are imported: `replay` tries those again.
    """
    from consent.settings import load_settings
    from console.commands.dead_letters.views import export
    from console.ledger_access import reading_ledger

    settings = load_settings()
    selection = Selection(ids or (), connection, code, import_id, older_than, newer_than, everything, person or ())
    with reading_ledger(settings) as ledger:
        found = selection.find(ledger)
        export(settings, found, output)
    if output is not None:
        remedy = f": fix it, then `optrelay run {output}`" if found else ", which has its header alone"
        Screen().note(f"{counted(len(found), 'dead letter')} written to {output}{remedy}")


@app.command("discard")
def discard_letters(  # noqa: PLR0913 - one argument for each option
    *,
    why: Why,
    ids: Ids = None,
    connection: ByConnection = None,
    code: ByCode = None,
    import_id: ByImport = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    person: ByPerson = None,
    everything: Everything = False,
    who: Who = None,
    yes: Yes = False,
    only_say: Dry = False,
    as_object: JsonOption = False,
) -> None:
    """Close dead letters for good. The ledger keeps them, and who closed them and why."""
    from consent.settings import load_settings
    from console.ledger_access import reading_ledger

    settings, screen = load_settings(), Screen(as_json=as_object)
    selection = Selection(ids or (), connection, code, import_id, older_than, newer_than, everything, person or ())
    selection.require()
    if not why.strip():
        raise ConfigurationError("--why must say why: it is all that the history will tell")
    with reading_ledger(settings) as ledger:
        found = selection.find(ledger)
        screen.show(f"{counted(len(found), 'dead letter')} would be discarded, and not delivered")
        count = 0 if only_say else _discard(ledger, found, screen, {"who": who, "why": why, "yes": yes})
    screen.print_json({"dry_run": only_say, "discarded": count, "letters": list(found.ids)})


def _discard(ledger: Ledger, found: FoundDeadLetters, screen: Screen, options: dict[str, Any]) -> int:

    if not found:
        return 0
    confirm(f"Discard {counted(len(found), 'dead letter')} for good?", yes=options["yes"])
    who = options["who"] or user_name()
    count = ledger.dead_letters.discard(found, who=who, why=options["why"])
    screen.show(f"{count:,} discarded")
    return count


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless told not to; raise typer.Exit if the answer is no, ConfigurationError without a terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal to ask at: give --yes")
    if not typer.confirm(question, err=True):
        Screen().note("nothing was done")
        raise typer.Exit
