"""The columns beside person, channel, action and time: which may be meant by their names, and what their cells mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from consent.feed import Feed
from consent.row import ConsentRow, cell_rule
from producers.feeds.look import FileLook
from producers.feeds.mapping import ANY, KEEP, SKIP
from producers.feeds.questions import NONE, Question, allowed
from producers.feeds.words import names_column

COLUMN, CELL = "column:", "cell:"
"""How the keys of these questions begin."""


def ask_columns(model: type[ConsentRow], look: FileLook, feed: Feed, answers: Mapping[str, str]) -> list[Question]:
    """Ask for each column of ours that no one has named, where one of the file's others is called so."""
    free = [name for name in look.named if name not in feed.columns]
    named = {*feed.columns.values(), *feed.constants, *(key.removeprefix(COLUMN) for key in answers)}
    found = [_ask_column(name, model, look, free) for name in model.model_fields if name not in named]
    return [one for one in found if one is not None]


def _ask_column(ours: str, model: type[ConsentRow], look: FileLook, free: Sequence[str]) -> Question | None:
    """Ask whether a column of the file is ours; None if none of the `free` ones is called so.

    The column is proposed if what stands in it can be ours. A column that need not be there has few different cells,
    for it tells no persons apart; where no one is asked, it is left out: it could narrow an opt-out.
    """
    named = [name for name in free if names_column(name, ours)]
    if not named:
        return None
    one_of, needed = allowed(model, ours), model.model_fields[ours].is_required()
    fit = [
        name for name in named if (needed or look.values(name)) and (one_of or not _misfits(ours, model, look, name))
    ]
    default = fit[0] if len(fit) == 1 else None if fit or needed else NONE
    same = f"is it the same in every row? ({', '.join(one_of)})" if one_of else "none: rows say nothing of it."
    others = one_of if needed and one_of else (*one_of, NONE)
    text = f"Which column says {ours}? {'Or ' if one_of else ''}{same}"
    option = f"--map COLUMN={ours}, or --set {ours}=VALUE"
    return Question(f"{COLUMN}{ours}", text, option, (*named, *others), default, unasked=None if needed else NONE)


def ask_cells(model: type[ConsentRow], look: FileLook, feed: Feed) -> list[Question]:
    """Ask what each cell means that is none of the few words that may stand in a column of ours; none is proposed."""
    found = []
    for theirs, ours in feed.columns.items():
        one_of = allowed(model, ours) if ours in model.model_fields and ours not in {"action", "channel"} else ()
        known = {cell.casefold() for name in (theirs, ours) for cell in feed.values.get(name, {})}
        for cell in _misfits(ours, model, look, theirs) if one_of else ():
            text, key = f"What does {cell} in {theirs} mean?", f"{CELL}{ours}:{cell}"
            option = f"--values '{theirs}:{cell}={one_of[-1]},*=keep' (or {', '.join(one_of[:-1])}, skip)"
            if cell.casefold() not in known:
                found.append(Question(key, text, option, (*one_of, SKIP)))
    return found


def meant_cells(answers: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return what `ask_cells` was answered, by our column; every other cell means itself."""
    found: dict[str, dict[str, str]] = {}
    for key in answers:
        if key.startswith(CELL):
            ours, _, cell = key.removeprefix(CELL).partition(":")
            found.setdefault(ours, {ANY: KEEP})[cell] = answers[key]
    return found


def _misfits(ours: str, model: type[ConsentRow], look: FileLook, column: str) -> list[str]:
    """Return the cells of a column that cannot stand in a column of ours."""
    rule = cell_rule(model, ours)
    found = []
    for cell in filter(None, look.values(column)):
        try:
            rule(cell)
        except ValidationError:
            found.append(cell)
    return found
