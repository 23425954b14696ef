"""The rejected-events commands: events that could not be understood, what they said, and how they are sent again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consent.errors import ConfigurationError
from consent.files import user_name
from console.commands.dead_letters.command import Dry, Who, Why, Yes, confirm
from console.commands.rejected_events.selection import (
    ByCode,
    ByImport,
    ByPerson,
    BySource,
    Everything,
    Ids,
    NewerThan,
    OlderThan,
    Which,
    find_events,
    require_choice,
)
from console.options import JsonOption
from console.ui.screen import Screen
from console.ui.text import counted

app = typer.Typer(
    name="rejected-events",
    help="Events that could not be understood, and what they said.\n\nSources forget what was acknowledged, so a "
    "rejected event is kept here for a time (OPTRELAY_KEEP_REJECTED_EVENTS). Look at it (list, show); fix what was "
    "wrong with our settings and resend it, or export it, fix the file and resend that; or discard it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Reveal = Annotated[bool, typer.Option("--reveal", help="Show what it said, which may name a person.")]


@app.command("list")
def list_events(  # noqa: PLR0913 - one argument for each option
    *,
    ids: Ids = None,
    source: BySource = None,
    code: ByCode = None,
    import_id: ByImport = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    person: ByPerson = None,
    closed: Annotated[bool, typer.Option("--closed", help="Also those that were sent again or discarded.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Events shown one by one.")] = 50,
    as_objects: JsonOption = False,
) -> None:
    """Count rejected events by source and reason, then show them, without what they said. Without filters: all."""
    from consent.settings import load_settings
    from console.commands.rejected_events.views import as_json, show_events, show_groups
    from console.ledger_access import reading_ledger

    settings, screen = load_settings(), Screen(as_json=as_objects)
    with reading_ledger(settings) as ledger:
        filters = (source, code, import_id, older_than, newer_than)
        found = find_events(ledger, ids or None, filters, closed=closed, person=person)
        screen.print_json_list(as_json(one) for one in found)
        if screen.as_json:
            return
        if not found:
            screen.show("no rejected events")
            return
        show_groups(screen, found.groups())
        show_events(screen, found.first(limit))
    if len(found) > limit:
        screen.show(f"… and {len(found) - limit:,} more: --limit shows more, filters show fewer")


@app.command()
def show(*, which: Which, reveal: Reveal = False, as_object: JsonOption = False) -> None:
    """Show one rejected event: why and where it was rejected, and what became of it; with --reveal what it said."""
    from consent.settings import load_settings
    from console.commands.rejected_events.places import id_at
    from console.commands.rejected_events.views import as_json, content_as_json, show_event
    from console.ledger_access import reading_ledger

    settings, screen = load_settings(), Screen(as_json=as_object)
    with reading_ledger(settings) as ledger:
        number = id_at(ledger, which)
        (found,) = find_events(ledger, (number,), closed=True)
        content = ledger.rejected_events.content_of(number) if reveal else None
    show_event(screen, found, content, settings.keep_rejected_events)
    screen.print_json(as_json(found) | (content_as_json(content) if content is not None else {}))


@app.command()
def export(  # noqa: PLR0913 - one argument for each option
    *,
    ids: Ids = None,
    source: BySource = None,
    code: ByCode = None,
    import_id: ByImport = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    person: ByPerson = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="A new file, for you alone (mode 0600).")
    ] = None,
) -> None:
    """Write rejected events as JSON lines: fix what `event` holds, then `optrelay rejected-events resend --file`.

    Without filters all that are open. The lines name persons. Leave `_id` as it is: an event keeps its source, its id
    and its time.
    """
    from consent.settings import load_settings
    from console.commands.rejected_events.views import write_lines
    from console.ledger_access import reading_ledger

    settings = load_settings()
    with reading_ledger(settings) as ledger:
        found = find_events(ledger, ids or None, (source, code, import_id, older_than, newer_than), person=person)
        write_lines(ledger, found, output)
    if output is not None:
        remedy = f": fix `event` in each line, then `optrelay rejected-events resend --file {output}`" if found else ""
        Screen().note(f"{counted(len(found), 'rejected event')} written to {output}{remedy}")


@app.command()
def resend(  # noqa: PLR0913 - one argument for each option
    *,
    ids: Ids = None,
    source: BySource = None,
    code: ByCode = None,
    import_id: ByImport = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    person: ByPerson = None,
    everything: Everything = False,
    file: Annotated[
        str | None, typer.Option("--file", metavar="FILE", help="Fixed lines of `export`; - is standard input.")
    ] = None,
    connection: Annotated[str | None, typer.Option("--connection", metavar="NAME", help="For events without.")] = None,
    timezone: Annotated[str, typer.Option("--timezone", metavar="ZONE", help="For times that name no zone.")] = "UTC",
    who: Who = None,
    yes: Yes = False,
    only_say: Dry = False,
    as_object: JsonOption = False,
) -> None:
    """Read rejected events again, as they were or fixed in a file, and record them; each that can be read is closed.

    An event keeps its source, its id and its time: a newer change is never overtaken, and doing it twice does no harm.
    **Exit code** 1 if some are still rejected.
    """
    from console.commands.rejected_events.resend import ResendRequest, fixed_lines, send_again
    from console.commands.run.import_files import CommandContext
    from console.ledger_access import reading_ledger
    from console.settings_check import configured

    screen = Screen(as_json=as_object)
    settings = configured(screen)
    filters = (source, code, import_id, older_than, newer_than)
    if file is not None and (ids or any(filters) or person or everything):
        raise ConfigurationError("--file says which rejected events: leave out ids and filters")
    if file is None:
        require_choice(ids, (*filters, person), everything=everything)
    with reading_ledger(settings) as ledger, fixed_lines(file) as fixed:
        found = find_events(
            ledger,
            (ids or None) if fixed is None else fixed,
            filters,
            closed=fixed is not None,
            by_source=True,
            person=person,
        )
        if found and not only_say:
            confirm(f"Send {counted(len(found), 'rejected event')} again?", yes=yes)
        asked = ResendRequest(found, fixed, connection, timezone, who or user_name(), only_say=only_say)
        code_ = send_again(CommandContext(settings, screen), ledger, asked)
    raise typer.Exit(int(code_))


@app.command()
def discard(  # noqa: PLR0913 - one argument for each option
    *,
    why: Why,
    ids: Ids = None,
    source: BySource = None,
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
    """Close rejected events. The ledger keeps who closed them and why, and their bodies until they expire."""
    from consent.ledger.rejected_events import Closing
    from consent.settings import load_settings
    from console.ledger_access import reading_ledger

    settings, screen = load_settings(), Screen(as_json=as_object)
    filters = (source, code, import_id, older_than, newer_than)
    require_choice(ids, (*filters, person), everything=everything)
    if not why.strip():
        raise ConfigurationError("--why must say why: it is all that will be told")
    with reading_ledger(settings) as ledger:
        found = find_events(ledger, ids or None, filters, person=person)
        screen.show(f"{counted(len(found), 'rejected event')} would be discarded, and not sent again")
        count = 0
        if found and not only_say:
            confirm(f"Discard {counted(len(found), 'rejected event')}?", yes=yes)
            closing = Closing("discarded", who or user_name(), why)
            count = ledger.rejected_events.close(found.ids, closing)
            screen.show(f"{count:,} discarded")
    screen.print_json({"dry_run": only_say, "discarded": count, "events": list(found.ids)})
