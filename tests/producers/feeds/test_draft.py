"""A draft proposes what is plain, and lets a person answer what it does not understand."""

from __future__ import annotations

import pytest

from consent.row import ConsentRow
from producers.feeds.draft import FeedDraft
from producers.feeds.look import FileLook
from producers.feeds.words import meaning
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


GERMAN = ("Kundennummer", "Kanal", "E-Mail-Adresse", "Telefon", "Mobil", "Abgemeldet", "Datum", "Geburtsdatum", "Grund")
GERMAN_ROWS = [
    [
        "387006417",
        "E-Mail",
        "ann@example.com",
        "+49 30 23125001",
        "+49 30 23125011",
        "ja",
        "20.11.2026",
        "01.02.1980",
        "x",
    ],
    [
        "387006418",
        "SMS",
        "bob@example.com",
        "+49 30 23125002",
        "+49 30 23125012",
        "nein",
        "05.11.2026",
        "13.02.1980",
        "",
    ],
]
LIKELIEST = {
    "capillary": ("identifier_value", {"channel:E-Mail": "EMAIL"}),
    "infobip": ("destination", {"channel:E-Mail": "EMAIL", "channel:SMS": "skip"}),
}


@pytest.mark.parametrize("connection", sorted(LIKELIEST))
def test_each_column_of_a_german_export_is_proposed(connection: str) -> None:
    """Pressing return at each question maps each column as it is meant; only the priority has to be said."""
    look = FileLook(GERMAN, GERMAN_ROWS, lambda place: (row[place] for row in GERMAN_ROWS))
    made = FeedDraft(look, {connection: PROVIDERS[connection].row}, {}, IngestOptions())
    asked: dict[str, str | None] = {}
    while questions := made.questions():
        for question in questions:
            asked[question.key] = question.default
            made.answer(question, question.default or "BULK")
    person, channels = LIKELIEST[connection]
    columns = {
        "E-Mail-Adresse": person,
        "Kanal": "channel",
        "Abgemeldet": "action",
        "Datum": "effective_at",
        **({"Grund": "reason"} if connection == "capillary" else {}),
    }
    assert made.feed().columns == columns
    assert made.feed().values["Abgemeldet"] == {"ja": "OPTOUT", "nein": "skip"}
    assert made.feed().time_format == "%d.%m.%Y"
    assert {key: asked[key] for key in asked if key.startswith("channel:")} == channels
    assert [key for key, default in asked.items() if default is None] == ["set:priority"] * (connection == "capillary")


@pytest.mark.parametrize("sure", [True, False])
def test_what_is_not_sure_is_never_taken_unasked(*, sure: bool) -> None:
    """Of two dates, two columns of yes and no, and a number of unknown meaning the likeliest is only proposed."""
    names = ("Kundennummer", "Aktiv", "Abgemeldet", "Erstellt", "Abgemeldet am")
    rows = [["1001", "ja", "ja", "01.02.2020", "20.11.2026"], ["1002", "ja", "nein", "13.02.2020", "05.11.2026"]]
    if sure:
        names, rows = names[:1] + names[2:3] + names[4:], [row[:1] + row[2:3] + row[4:] for row in rows]
    made = FeedDraft(
        FileLook(names, rows, lambda place: (row[place] for row in rows)),
        {"capillary": PROVIDERS["capillary"].row},
        {"capillary": {"channel": "EMAIL", "priority": "BULK"}},
        IngestOptions(),
    )
    found = {}
    while questions := made.questions():
        for question in questions:
            found[question.key] = (question.default, question.sure)
            made.answer(question, question.default or "externalId")

    assert (found["person"], found["identifier"]) == (("Kundennummer", False), (None, False))
    assert (found["action"], found["time"]) == (("Abgemeldet", sure), ("Abgemeldet am", sure))
    assert made.feed().constants == {"identifier_name": "externalId"}


def test_what_must_be_said_is_told_with_what_may_be_said() -> None:
    """No one has to look up the words of a provider; the number of an answer is an answer."""
    look = FileLook(("Mail", "action"), [["ann@example.com", "OPTOUT"]], lambda place: iter(("OPTOUT",)[:place]))
    made = FeedDraft(look, {"capillary": PROVIDERS["capillary"].row}, {}, IngestOptions())
    made.answer(made.questions()[0], "none")

    [priority] = made.questions()
    assert (priority.options, "BULK for promotional" in priority.text) == (("TRANS", "BULK"), True)
    with pytest.raises(ValueError, match="TRANS, BULK"):
        made.answer(priority, "3")
    made.answer(priority, "2")
    assert made.feed().constants["priority"] == "BULK"


def test_a_row_without_a_time_of_leaving_is_asked_about() -> None:
    """In a list of all customers who has not left has no time: a feed of opt-outs must not opt them out."""
    rows = [["ann@example.com", "2026-11-20"], ["bob@example.com", ""]]
    made = draft(("Mail", "Unsubscribed at"), *rows)
    [action] = made.questions()
    assert (action.default, action.sure) == ("OPTOUT", False)
    made.answer(action, "OPTOUT")
    made.answer(made.questions()[0], "Unsubscribed at")
    [blank] = made.questions()
    assert (blank.default, blank.sure) == ("skip", False)
    assert "1 of 2 rows" in blank.text
    made.answer(blank, "skip")
    [zone] = made.questions()
    assert zone.key == "timezone"
    made.answer(zone, "Europe/Berlin")
    assert made.questions() == []
    assert made.feed().values == {"Unsubscribed at": {"": "skip", "*": "keep"}}


def test_a_channel_of_a_misspelt_name_is_proposed_where_the_person_is_plain() -> None:
    """Without it every row would be said to be of one channel, whatever `chanel` says."""
    names, rows = ("user_id", "chanel", "priority", "action"), [["387006417", "EMAIL", "BULK", "OPTOUT"]]
    look = FileLook(names, rows, lambda place: (row[place] for row in rows))
    models: dict[str, type[ConsentRow]] = {"capillary": PROVIDERS["capillary"].row}

    [asked] = FeedDraft(look, models, {}, IngestOptions()).questions()
    assert (asked.key, asked.options[0], "EMAIL" in asked.options) == ("channel", "chanel", True)

    configured = FeedDraft(look, models, {"capillary": {"channel": "EMAIL"}}, IngestOptions())
    assert "channel" not in [one.key for one in configured.questions()]


def test_the_words_of_a_provider_are_no_times() -> None:
    """A column of BULK and TRANS, given as the time, would date every row by the file; what it holds is shown."""
    rows = [["ann@example.com", "BULK", ""], ["bob@example.com", "trans", ""]]
    look = FileLook(("Mail", "Prio", "Seit"), rows, lambda place: (row[place] for row in rows))
    given = IngestOptions(maps={"Mail": "identifier_value"}, constants={"channel": "EMAIL", "action": "OPTOUT"})
    made = FeedDraft(look, {"capillary": PROVIDERS["capillary"].row}, {}, given)
    [time] = [one for one in made.questions() if one.key == "time"]
    with pytest.raises(ValueError, match=r"^Prio holds no times but BULK, trans: name a column of times, or none$"):
        made.answer(time, "Prio")
    made.answer(time, "Seit")  # it may be filled another day
