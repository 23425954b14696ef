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


OURS = ("destination", "channel", "action", "effective_at", "reason")
ROWS = [
    ["ann@example.com", "EMAIL", "OPTOUT", "2026-11-20T08:30:00Z", "asked"],
    ["bob@example.com", "EMAIL", "optin", "2026-11-20T08:31:00Z", ""],
]


def test_a_file_with_our_columns_raises_no_question() -> None:
    """What stands there is taken, also what no row must have."""
    made = draft(OURS, *ROWS)

    assert made.questions() == []
    assert set(made.feed().columns.items()) == {(name, name) for name in OURS if name != "reason"}


def test_what_our_words_do_not_say_is_asked_all_the_same() -> None:
    """An `action` of ja and nein is proposed, and asked; a `name` beside it is not that of a subscription."""
    made = draft(
        ("Kontakt", "action", "effective_at", "name"), ["ann@example.com", "ja", "2026-11-20T08:30:00Z", "Ann"]
    )

    [action] = made.questions()
    assert (action.key, action.default) == ("action", "action")
    made.answer(action, "action")
    assert [one.key for one in made.questions()] == ["value:ja"]
    made.answer(made.questions()[0], "OPTOUT")
    assert made.questions() == []
    assert made.feed().columns == {"Kontakt": "destination", "action": "action", "effective_at": "effective_at"}


def test_what_every_row_must_have_is_taken_from_its_column() -> None:
    """No one is asked for one priority of all rows where each says its own."""
    models: dict[str, type[ConsentRow]] = {"capillary": PROVIDERS["capillary"].row}
    row = ["ann@example.com", "EMAIL", "BULK", "unsubscribed"]
    look = FileLook(("Mail", "channel", "priority", "Status"), [row], lambda place: iter([row[place]]))
    made = FeedDraft(look, models, {}, IngestOptions())

    made.answer(made.questions()[0], "Status")
    made.answer(made.questions()[0], "OPTOUT")
    made.answer(made.questions()[0], "none")
    assert made.questions() == []
    assert made.feed().columns["priority"] == "priority"
    assert (made.feed().columns["channel"], "channel" in made.feed().constants) == ("channel", False)


@pytest.mark.parametrize(("name", "cells"), [("Kanal", ("?", "B")), ("Weg", ("SMS", "Brief")), ("Weg", ("E-Mail", ""))])
def test_the_channel_is_asked_for_where_a_column_may_say_it(name: str, cells: tuple[str, str]) -> None:
    """An address of e-mail does not mean e-mail: who wants no letters must not be opted out of mails."""
    rows = [["ann@example.com", cells[0], "OPTOUT"], ["bob@example.com", cells[1], "OPTOUT"]]
    look = FileLook(("Kontakt", name, "action"), rows, lambda place: (row[place] for row in rows))
    made = FeedDraft(look, {"capillary": PROVIDERS["capillary"].row}, {}, IngestOptions())

    [channel] = made.questions()
    assert (channel.key, channel.options, channel.default) == ("channel", (name, "EMAIL"), None)
    made.answer(channel, name)
    assert made.feed().columns[name] == "channel"
    assert "channel" not in made.feed().constants
    made.answer(channel, "EMAIL")
    assert made.feed().constants["channel"] == "EMAIL"
