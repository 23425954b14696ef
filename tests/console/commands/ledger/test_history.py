"""Asking on the command line what was said about someone."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from console.ui.text import origin_text
from tests.support.command_line import Cli, settle_all, write


@pytest.fixture
def delivered(cli: Cli, consents: str, url: str) -> Cli:
    """A file was imported and delivered."""
    cli("import", consents)
    settle_all(url)
    return cli


def test_every_change_about_a_customer_is_told(delivered: Cli) -> None:
    """Since when it holds, what became of it, and in which row of which file it stood; his number stays half hidden."""
    answer = delivered("history", "userId=1002888")
    whole = delivered("history", "user_id=1002888", "--reveal")

    assert answer.code == 0
    assert "user_id=…88  capillary" in answer.out
    assert "applied" in answer.out
    assert "consents.csv, " in answer.out
    assert "the provider confirmed OPTIN at 20" in answer.out
    assert "1002888" not in answer.out
    assert "user_id=1002888" in whole.out


def test_outcomes_name_a_row_as_a_history_does(delivered: Cli) -> None:
    """`consents.csv, 4` beside `consents.csv, line 4`: a number alone may be anything."""
    assert "consents.csv, line " in delivered("history", "userId=1002888").out
    assert "consents.csv, line " in " ".join(delivered("changes").out.split())


def test_what_a_command_made_has_no_line(delivered: Cli, url: str) -> None:
    """`undo of consents.csv, 4`: its number was the line of the change that was undone."""
    delivered("undo", "latest", "--why", "the wrong file")
    settle_all(url)
    lines = [line.rstrip() for line in delivered("history", "user_id=1002888").out.splitlines()]
    assert next(line for line in lines if "undo of consents.csv" in line).endswith("  undo of consents.csv")


@pytest.mark.parametrize(
    ("kind", "origin"),
    [("csv", "a, line 1,002"), ("redis", "a, event 1,002"), ("http", "a, event 1,002"), ("undo", "a")],
)
def test_a_number_says_what_it_counts(kind: str, origin: str) -> None:
    """An event of a stream stood among the dead letters as a line."""
    assert origin_text("a", kind, 1002) == origin
    assert origin_text("a", kind, None) == "a"


def test_programs_are_told_the_same(delivered: Cli) -> None:
    """One object for each target: its slots now, and its changes as they are told over HTTP."""
    [found] = delivered("history", "user_id=1002888", "--json").json
    assert (found["connection"], found["target"]) == ("capillary", "user_id=…88")
    assert {one["state"] for one in found["changes"]} <= {"applied", "superseded"}
    assert found["changes"][0]["origin"]["name"] == "consents.csv"
    assert found["slots"][0]["confirmed"] == found["slots"][0]["action"]
    assert found["slots"][0]["confirmed_at"].endswith("+00:00")


def test_a_name_is_read_as_a_row_would_be(delivered: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """From standard input, with blanks around it, as a number."""
    monkeypatch.setattr("sys.stdin", io.StringIO('{"User ID": 1002888}\n{"user_id": " 1002888 "}\n'))
    assert len(delivered("history", "-", "--json").json) == 1


def test_the_ledger_tells_it_where_no_connection_is_configured(delivered: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who may read the ledger needs no credentials to ask."""
    for name in ("BASE_URL", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"OPTRELAY_CONNECTIONS__CAPILLARY__{name}")
    assert len(delivered("history", "user_id=1002888", "--json").json) == 1


def test_no_one_is_found_who_was_never_named(delivered: Cli) -> None:
    """Code 1, and a hint; a part of a number is not a number."""
    answer = delivered("history", "user_id=100288")
    assert (answer.code, "no change was ever recorded about this" in answer.out) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("1002888",), "NAME=VALUE"),
        (("usr_id=1",), "'usr_id' is no column; did you mean user_id? A person"),
        (
            ("shoe=ann@example.com",),
            "'shoe' is no column. A person or a subscription is named by some of identifier_name",
        ),
        (("user_id=",), "a value is empty"),
        (("usr_idd=", "user_id=1"), "a value is empty"),
        (("user_id=1002888", "channel=EMAIL"), "no person is named by user_id and channel"),
        (("user_id=1002888", "action=OPTOUT"), "give some of identifier_name, identifier_value"),
        (("user_id=1002888\udcff",), "damaged characters"),
        (("user_id=1", "--connection", "unknown"), "there is no connection 'unknown'"),
    ],
)
def test_a_question_that_makes_no_sense_is_named(delivered: Cli, arguments: tuple[str, ...], message: str) -> None:
    """What is wrong, and the like; nothing that was typed as a value."""
    answer = delivered("history", *arguments)
    assert (answer.code, message in answer.err) == (2, True)
    assert "1002888" not in answer.err


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "name a person"),
        ('{"user_id": null}', "line 1: a value is neither text"),
        ('{"user_id": 1, "user_id": 2}', "line 1: 'user_id': this name stands twice"),
    ],
)
def test_lines_that_ask_nothing_are_named(
    delivered: Cli, monkeypatch: pytest.MonkeyPatch, lines: str, message: str
) -> None:
    """No one should take an empty question for an answer."""
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    answer = delivered("history", "-")
    assert (answer.code, message in answer.err) == (2, True)


def test_many_may_be_asked_about_at_once(delivered: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lines there are, they are asked in portions, and each target is told once."""
    lines = [f'{{"user_id": {number}}}' for number in (*range(5_000, 6_500), 1002888, 1001417, 1002888)]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    assert sorted(one["target"] for one in delivered("history", "-", "--json").json) == ["user_id=…17", "user_id=…88"]


def test_a_national_number_is_asked_for_as_rows_write_it(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who answers a complaint types the number as the person said it, and must not hear that nothing was ever said."""
    for name, value in (("BASE_URL", "http://127.0.0.1:1"), ("API_KEY", "throw-away"), ("REGION", "US")):
        monkeypatch.setenv(f"OPTRELAY_CONNECTIONS__INFOBIP__{name}", value)
    header = "destination,action,effective_at"
    cli(
        "import",
        write(tmp_path, "people.csv", "2025550104,OPTOUT,2026-01-01", header=header),
        "--connection",
        "infobip",
    )

    for asked in ("(202) 555-0104", "+1 202 555 0104", "12025550104"):
        assert cli("history", f"destination={asked}").code == 0
    assert cli("history", "destination=(202) 555-0105").code == 1


def test_what_narrows_a_block_is_no_name(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone asks by the row that was sent, with its channel, and is told that nothing was ever said."""
    for name, value in (("BASE_URL", "http://127.0.0.1:1"), ("API_KEY", "throw-away")):
        monkeypatch.setenv(f"OPTRELAY_CONNECTIONS__INFOBIP__{name}", value)
    header = "destination,channel,action,effective_at"
    rows = write(tmp_path, "people.csv", "ann@example.com,SMS,OPTOUT,2026-01-01T00:00:00Z", header=header)
    cli("import", rows, "--connection", "infobip")

    for narrowed in (("channel=SMS",), ("channel=SMS", "sender=SHOP"), ()):
        assert cli("history", "destination=Ann@example.com", *narrowed).code == 0
    assert "no person is named by sender" in cli("history", "sender=SHOP").err


def test_a_slot_is_told_in_words_and_its_reason_on_request(cli: Cli, url: str, tmp_path: Path) -> None:
    """Columns instead of the ledger's text, when the provider took it, and the reason of the row only if revealed."""
    columns = "user_id,channel,priority,action,effective_at,reason"
    cli("import", write(tmp_path, "a.csv", "7,EMAIL,BULK,OPTOUT,2026-01-02T00:00:00Z,Ann moved", header=columns))
    settle_all(url)
    hidden, shown = cli("history", "user_id=7"), cli("history", "user_id=7", "--reveal")

    assert "channel EMAIL, priority BULK: OPTOUT since" in hidden.out
    assert "applied 20" in hidden.out
    assert ("Ann" in hidden.out, "reason given: Ann moved" in shown.out) == (False, True)
    [found] = cli("history", "user_id=7", "--json").json
    assert found["changes"][0]["slot"] == '["EMAIL","","BULK",-1]'
    assert "details" not in found["changes"][0]


def test_an_address_is_looked_for_wherever_it_may_stand(cli: Cli, tmp_path: Path, url: str) -> None:
    """`email=` is no column of a row: it finds what was said by an identifier, in any spelling."""
    head = "identifier_name,identifier_value,channel,priority,action,effective_at"
    row = "email,ann@example.com,EMAIL,BULK,OPTOUT,2026-11-20T08:30:00Z"
    cli("import", write(tmp_path, "a.csv", row, header=head))
    settle_all(url)

    found = cli("history", "email= ANN@example.com", "--json")

    assert (found.code, len(found.json)) == (0, 1)
    assert cli("history", "email=other@example.com").code == 1
    assert "ann@example.com" not in cli("history", "mobile=ann@example.com").err
