"""A draft proposes what is plain, and lets a person answer what it does not understand."""

from __future__ import annotations

import pytest

from consent.row import ConsentRow
from producers.feeds.draft import FeedDraft
from producers.feeds.look import FileLook, meaning
from producers.options import IngestOptions
from worker.providers import PROVIDERS

INFOBIP: dict[str, type[ConsentRow]] = {"infobip": PROVIDERS["infobip"].row}


def draft(names: tuple[str, ...], *rows: list[str]) -> FeedDraft:
    """A draft of a file with these rows."""
    look = FileLook(names, rows, lambda place: (row[place] for row in rows))
    return FeedDraft(look, INFOBIP, {}, IngestOptions())


def test_a_column_may_be_named_though_it_is_not_understood() -> None:
    """One odd value must not keep the column of the action, or the seconds of a clock, out of reach."""
    rows = [["ann@example.com", "ja", "1795163400"], ["bob@example.com", "vielleicht", "1795163401"]]
    made = draft(("Kontakt", "Newsletter", "Stand"), *rows)

    [action] = made.questions()
    assert (action.options[-3:], action.default) == (("Stand", "OPTOUT", "OPTIN"), None)
    made.answer(action, "Newsletter")
    [ja, perhaps] = made.questions()
    assert perhaps.default is None
    made.answer(ja, "OPTOUT")
    made.answer(perhaps, "skip")
    [time] = made.questions()
    made.answer(time, "Stand")
    assert made.questions() == []
    assert made.feed().time_format == "epoch"


@pytest.mark.parametrize(
    "column",
    ["Not subscribed", "No newsletter", "Kein Newsletter", "keine_werbung", "consent withdrawn", "Consent revoked"],
)
def test_a_yes_to_a_no_is_not_proposed(column: str) -> None:
    """`yes` under "no newsletter" opts out; a proposal of OPTIN is one keystroke from the opposite."""
    assert meaning("yes", column) is None
    assert meaning("yes", "Newsletter") == "OPTIN"
    assert meaning("unsubscribed", column) == "OPTOUT"
