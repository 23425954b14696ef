"""A draft proposes the columns beside person, channel, action and time by their names, and never guesses a value."""

from __future__ import annotations

import pytest

from producers.feeds.draft import FeedDraft
from producers.feeds.look import FileLook
from producers.options import IngestOptions
from worker.providers import PROVIDERS

GIVEN = IngestOptions(
    maps={"Mail": "identifier_value"},
    constants={"identifier_name": "email", "channel": "EMAIL", "action": "OPTOUT", "effective_at": "2026-11-20"},
)


def draft(column: str, *cells: str, given: IngestOptions = GIVEN) -> FeedDraft:
    """A draft of a Capillary file of e-mail addresses and one more column."""
    rows = [[f"ann{number}@example.com", cell] for number, cell in enumerate(cells)]
    look = FileLook(("Mail", column), rows, lambda place: (row[place] for row in rows))
    return FeedDraft(look, {"capillary": PROVIDERS["capillary"].row}, {}, given)


@pytest.mark.parametrize("name", ["Priorität", "Priorité", "Prioridad", "PRIORITÀ", "Prioriteit", "Prio"])
def test_a_column_that_is_called_priority_is_proposed(name: str) -> None:
    """It is asked which column says it, not what stands in every row."""
    made = draft(name, "BULK", "trans")

    [asked] = made.questions()

    assert (asked.key, asked.default, asked.sure) == ("column:priority", name, True)
    assert asked.options == (name, "TRANS", "BULK")
    made.answer(asked, name)
    assert made.questions() == []
    assert made.feed().columns == {"Mail": "identifier_value", name: "priority"}


def test_what_a_cell_means_is_never_guessed() -> None:
    """`hoch` is none of Capillary's words: a person says which it means, or that the rows are left out."""
    made = draft("Priorität", "hoch", "BULK", "")
    made.answer(made.questions()[0], "Priorität")

    [asked] = made.questions()

    assert (asked.key, asked.default) == ("cell:priority:hoch", None)
    made.answer(asked, "TRANS")
    assert made.questions() == []
    assert made.feed().values == {"Priorität": {"hoch": "TRANS", "*": "keep"}}


def test_it_may_be_the_same_in_every_row_all_the_same() -> None:
    """A column of this name may mean something else."""
    made = draft("Priorität", "1", "2")
    made.answer(made.questions()[0], "BULK")

    assert made.questions() == []
    assert made.feed().constants["priority"] == "BULK"


@pytest.mark.parametrize(
    ("name", "cells", "proposed"),
    [
        ("Organisationseinheit", ("7", "8"), "org_unit_id"),
        ("Konto", ("01", "02"), "account_id"),
        ("Campaña", ("4711",), "campaign_id"),
        ("Organisationseinheit", ("Berlin", "Bonn"), None),
        ("Konto", tuple(map(str, range(100, 120))), None),
    ],
)
def test_a_column_that_no_row_needs_is_proposed_if_it_can_be_ours(
    name: str, cells: tuple[str, ...], proposed: str | None
) -> None:
    """A name of a town is no number, and what is different in every row is no account of the sender."""
    made = draft(name, *cells, given=IngestOptions(maps=GIVEN.maps, constants={**GIVEN.constants, "priority": "BULK"}))

    [asked] = made.questions()
    assert (asked.default, asked.unasked) == (name if proposed else "none", "none")
    made.answer(asked, asked.default or "")

    assert made.questions() == []
    assert made.feed().columns.get(name) == proposed
