"""Correcting a dead letter: its row, with some columns altered, read as any row is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from consent.change import ConsentChange
from consent.errors import ConfigurationError
from consent.identifiers.masking import masked
from consent.ledger.dead_letters import DeadLetter, FoundDeadLetters
from consent.ledger.ledger import Ledger
from consent.ledger.review.corrections import Corrected, NotCorrected
from consent.outcome import State
from consent.row import ConsentRow
from consent.settings import Settings
from console.commands.dead_letters.views import as_row
from console.commands.run.import_files import CommandContext, wake_workers
from console.commands.run.input_files import intake_models
from console.exit_codes import ExitCode
from console.ui.columns import pairs_of
from console.ui.text import counted
from producers.parsing.columns import meant, vocabulary
from producers.parsing.error_messages import RowError
from producers.parsing.row_parser import RawRecord, parse_context, parse_record
from worker.providers import provider_of

KEPT = frozenset({"connection", "action", "effective_at", "change_id"})
"""Columns that no correction alters: only the person who said it could."""


@dataclass(frozen=True, slots=True)
class FixableColumn:
    """A column that a correction may fill: what stands there now, without naming the person ("": nothing)."""

    name: str
    shown: str


def fixable_columns(settings: Settings, letter: DeadLetter) -> list[FixableColumn]:
    """Return the columns of a letter's row that can be altered; raise ConfigurationError without its connection."""
    model, now = _model(settings, letter), as_row(settings, letter)
    may_name_someone = model.address_columns | letter.details.keys()
    names = (name for name in model.model_fields if name not in KEPT)
    pairs = ((name, now.get(name, "")) for name in names)
    return [FixableColumn(name, _masked(name, text) if name in may_name_someone else text) for name, text in pairs]


def _masked(name: str, text: str) -> str:
    return masked({name: text}).partition("=")[2] if text else ""


def correct(
    settings: Settings, ledger: Ledger, letter: DeadLetter, corrections: Mapping[str, str], *, who: str, why: str
) -> Corrected | NotCorrected | RowError | None:
    """Record a letter's row with these columns (an empty one is cleared), and close the letter as replaced by it.

    Returns what is wrong with the row if it cannot be; nothing was done then. None: there is no such letter any more.
    Raises ConfigurationError for a column that it cannot have, LedgerUnavailable.
    """
    made = corrected_changes(settings, letter, corrections)
    if isinstance(made, RowError):
        return made
    return ledger.review.correct(letter.id, made, columns=sorted(corrections), who=who, why=why)


def corrected_changes(
    settings: Settings, letter: DeadLetter, corrections: Mapping[str, str]
) -> Sequence[ConsentChange] | RowError:
    """Return what a letter's row says with these columns, or the error that a person should fix first."""
    fields = {name: text for name, text in (as_row(settings, letter) | dict(corrections)).items() if text.strip()}
    defaults = {letter.connection: settings.connections[letter.connection].defaults}
    context = parse_context(intake_models(settings), defaults, letter.connection, None, UTC)
    return parse_record(RawRecord(fields, letter.line), context)


def correct_letters(  # noqa: PLR0913 - what the command's options say
    context: CommandContext,
    ledger: Ledger,
    letters: FoundDeadLetters,
    corrections: Sequence[str],
    ask: Callable[[str], None] | None,
    *,
    who: str,
    why: str,
) -> ExitCode:
    """Correct letters one by one after `ask` was asked (None: only say what is wrong with which), and print the result.

    Returns 1 if some cannot be corrected like that. Raises ConfigurationError for a column that they cannot have.
    """
    settings, screen, pairs = context.settings, context.screen, pairs_of(corrections).items()
    failed: list[int] = []
    for one in letters:
        made = corrected_changes(settings, one, corrected_columns(settings, one, pairs))
        if isinstance(made, RowError):
            failed.append(one.id)
            screen.error(f"dead letter {one.id}: {result_words(one, made)}")
    able, wrong, done = len(letters) - len(failed), set(failed), []
    screen.show(f"{counted(able, 'dead letter')} would be closed, each replaced by a corrected change")
    if able and ask is not None:
        ask(f"Correct {counted(able, 'dead letter')}?")
        for one in (each for each in letters if each.id not in wrong):
            result = correct(settings, ledger, one, corrected_columns(settings, one, pairs), who=who, why=why)
            screen.show(result_words(one, result))
            if isinstance(result, Corrected):
                done.append({"id": one.id} | _as_json(result))
            else:
                failed.append(one.id)
        wake_workers(context, ledger)
    report = {"dry_run": ask is None, "corrected": len(done), "would_correct": able, "failed": failed, "letters": done}
    screen.print_json(report)
    return ExitCode.IMPERFECT if failed else ExitCode.WELL


def _as_json(done: Corrected) -> dict[str, Any]:
    return {"replaced_by": done.change_id, "state": done.state.value, "import": done.import_id}


def corrected_columns(settings: Settings, letter: DeadLetter, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return what is to stand in which column, by our names; raise ConfigurationError for one that cannot be set."""
    model = _model(settings, letter)
    known, columns = vocabulary([model]), {}
    able = [name for name in model.model_fields if name not in KEPT]
    for name, text in pairs:
        ours = known.find_ours(name)
        if ours in KEPT:
            raise ConfigurationError(f"{ours} cannot be corrected: only the person who said it could alter that")
        if ours not in able:
            raise ConfigurationError(
                f"{name!r} is no column of {letter.connection}{meant(known, name)}: it has {', '.join(able)}"
            )
        columns[ours] = text.strip()
    return columns


def result_words(letter: DeadLetter, result: Corrected | NotCorrected | RowError | None) -> str:
    """Say what became of a correction, in a sentence without an identifier."""
    if result is None:
        return f"dead letter {letter.id} is not there any more; nothing was done"
    if isinstance(result, RowError):
        place = f"{result.column}: " if result.column else ""
        return f"{place}{result.message}; nothing was done"
    if isinstance(result, NotCorrected):
        return f"dead letter {letter.id} was not corrected: {result.reason}"
    return f"dead letter {letter.id} is closed, replaced by change {result.change_id}, {_STATES[result.state]}"


_STATES = {
    State.PENDING: "which will be delivered",
    State.SUPERSEDED: "which is not sent, because a newer change is known",
    State.UNCHANGED: "which needs no call: the provider holds it already",
    State.APPLIED: "which had been recorded before, and delivered",
    State.DEAD: "which had been recorded before, and is a dead letter itself",
    State.HELD: "which is held until a person approves it",
    State.WITHDRAWN: "which had been recorded before, and withdrawn",
}


def _model(settings: Settings, letter: DeadLetter) -> type[ConsentRow]:
    return provider_of(settings.connection(letter.connection)).row
