"""Which rejected events a command means: by id, by filters, or all of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from consent.errors import ConfigurationError
from console.commands.dead_letters.selection import ago
from console.options import as_text

if TYPE_CHECKING:
    from consent.ledger.ledger import Ledger
    from consent.ledger.rejected_events import FoundEvents

_PANEL = "Which rejected events"
Ids = Annotated[list[int] | None, typer.Argument(metavar="ID", help="By id.", show_default=False)]
BySource = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="TEXT",
        help="A part of the source's kind or name.",
        rich_help_panel=_PANEL,
        callback=as_text,
    ),
]
ByCode = Annotated[
    str | None, typer.Option("--code", metavar="CODE", help="Like bad_json.", rich_help_panel=_PANEL, callback=as_text)
]
ByImport = Annotated[
    str | None,
    typer.Option(
        "--import",
        metavar="ID",
        help="An import's id, its beginning, or latest.",
        rich_help_panel=_PANEL,
        callback=as_text,
    ),
]
OlderThan = Annotated[
    str | None, typer.Option("--older-than", metavar="TIME", help="Rejected before, like 2d.", rich_help_panel=_PANEL)
]
NewerThan = Annotated[
    str | None, typer.Option("--newer-than", metavar="TIME", help="Rejected since, like 1h.", rich_help_panel=_PANEL)
]
ByPerson = Annotated[
    list[str] | None,
    typer.Option(
        "--person",
        metavar="COLUMN=VALUE",
        help="About one person, in any spelling, like destination=ann@example.com; more columns narrow it.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Which = Annotated[
    str,
    typer.Argument(
        metavar="ID|PLACE",
        help="By id, by its place in the source, like 'entry 1795163400-0', or as IMPORT:NUMBER.",
    ),
]
Everything = Annotated[bool, typer.Option("--all", help="All that are open.", rich_help_panel=_PANEL)]


def require_choice(ids: Sequence[int] | None, filters: Sequence[object], *, everything: bool) -> None:
    """Raise ConfigurationError if nothing was said: what changes events must be told which."""
    if not (ids or any(filters) or everything):
        raise ConfigurationError("say which rejected events: ids, --source, --code, --person, … or --all")


def find_events(
    ledger: Ledger,
    ids: Collection[int] | None,
    filters: Sequence[str | None] = (None,) * 5,
    *,
    closed: bool = False,
    by_source: bool = False,
    person: Sequence[str] | None = None,
) -> FoundEvents:
    """Return the events that are meant, as FoundEvents gives them; raise ConfigurationError for an id that is none."""
    from consent.ledger.rejected_events import RejectedFilter
    from console.commands.ledger.status import find_import

    source, code, import_id, older_than, newer_than = filters
    which = RejectedFilter(
        ids=None if ids is None else tuple(ids),
        source=source,
        code=code,
        import_id=find_import(ledger, import_id).import_id if import_id else None,
        before=ago(older_than, "--older-than"),
        after=ago(newer_than, "--newer-than"),
        closed=closed,
    )
    found = ledger.rejected_events.search(which, by_source=by_source)
    if ids and (missing := sorted(set(ids).difference(found.ids))):
        listed = ", ".join(map(str, missing))
        raise ConfigurationError(f"no such open rejected event: {listed} (`rejected-events list --closed` shows all)")
    if person:
        from consent.settings import load_settings
        from console.commands.rejected_events.places import PersonInEvents

        is_about = PersonInEvents(load_settings(), person)
        theirs = [id_ for id_ in found.ids if is_about(ledger.rejected_events.content_of(id_))]
        found = ledger.rejected_events.search(replace(which, ids=theirs), by_source=by_source)
    return found
