"""Which dead letters a command means: by id, by filters, or all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from consent.errors import ConfigurationError
from consent.times import from_micros
from console.options import as_text
from console.ui.text import parse_duration

if TYPE_CHECKING:
    from consent.ledger.dead_letters import DeadLetterFilter, FoundDeadLetters
    from consent.ledger.ledger import Ledger

_PANEL = "Which dead letters"

Ids = Annotated[list[int] | None, typer.Argument(metavar="ID", help="By id.", show_default=False)]
ByConnection = Annotated[
    str | None, typer.Option("--connection", metavar="NAME", rich_help_panel=_PANEL, callback=as_text)
]
ByCode = Annotated[
    str | None,
    typer.Option(
        "--code", metavar="CODE", help="The reason's code, like 1012.", rich_help_panel=_PANEL, callback=as_text
    ),
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
    str | None, typer.Option("--older-than", metavar="TIME", help="Died before, like 2d.", rich_help_panel=_PANEL)
]
NewerThan = Annotated[
    str | None, typer.Option("--newer-than", metavar="TIME", help="Died since, like 1h.", rich_help_panel=_PANEL)
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
Everything = Annotated[bool, typer.Option("--all", help="All of them.", rich_help_panel=_PANEL)]


@dataclass(frozen=True, slots=True)
class Selection:
    """What the user said about which dead letters are meant."""

    ids: Sequence[int] = ()
    connection: str | None = None
    code: str | None = None
    import_id: str | None = None
    older_than: str | None = None
    newer_than: str | None = None
    everything: bool = False
    person: Sequence[str] = ()

    @property
    def is_empty(self) -> bool:
        """Whether no filter was given."""
        filters = (self.ids, self.connection, self.code, self.import_id, self.older_than, self.newer_than)
        return not any((*filters, self.person, self.everything))

    def require(self) -> None:
        """Raise ConfigurationError if nothing was said: what changes letters must be told which."""
        if self.is_empty:
            raise ConfigurationError("say which dead letters: ids, --connection, --code, --person, … or --all")

    def find(self, ledger: Ledger, *, discarded: bool = False) -> FoundDeadLetters:
        """Return the letters that are meant, oldest first; raise ConfigurationError for an id that is none."""
        found = ledger.dead_letters.search(self._filter(ledger, discarded=discarded))
        missing = sorted(set(self.ids).difference(found.ids)) if self.ids else []
        if missing:
            listed = ", ".join(map(str, missing))
            closed = "".join(_closing(ledger, number) for number in missing)
            raise ConfigurationError(f"no such dead letter: {listed} (`optrelay dead-letters list` shows them){closed}")
        return found

    def _filter(self, ledger: Ledger, *, discarded: bool) -> DeadLetterFilter:
        from consent.ledger.dead_letters import DeadLetterFilter

        return DeadLetterFilter(
            target_ids=_targets(ledger, self.person) if self.person else None,
            ids=tuple(self.ids),
            connection=self.connection.lower() if self.connection else None,
            code=self.code,
            import_id=_import_id(ledger, self.import_id) if self.import_id else None,
            died_before=ago(self.older_than, "--older-than"),
            died_after=ago(self.newer_than, "--newer-than"),
            discarded=discarded,
        )


def _targets(ledger: Ledger, person: Sequence[str]) -> tuple[int, ...]:
    from consent.settings import load_settings
    from console.commands.ledger.history import find_targets

    return find_targets(load_settings(), ledger, person)


def _import_id(ledger: Ledger, name: str) -> str:
    from console.commands.ledger.status import find_import

    return find_import(ledger, name).import_id


def _closing(ledger: Ledger, number: int) -> str:
    """Say what people did to a change that is no dead letter any more; "" if no one did anything."""
    acts = [
        f"{from_micros(act.at):%Y-%m-%d %H:%M:%S} UTC {act.what} by {act.who}{f': {act.why}' if act.why else ''}"
        for act in ledger.dead_letters.audit_log_of(number)
    ]
    return f". {number} was one: {'; '.join(acts)}. `optrelay history` of the person tells the rest" if acts else ""


def ago(text: str | None, option: str) -> int | None:
    """Return the moment so long ago, in microseconds; raise ConfigurationError that names the option."""
    return None if text is None else int((time.time() - parse_duration(text, option)) * 1_000_000)
