"""An audience in two files: every row in one of them, and no one allowed because something was not found out."""

from __future__ import annotations

import csv
import json
import stat
import zipfile
from pathlib import Path

import pytest

from consent.identifiers.suppression import Question
from consent.ledger.ledger import Ledger
from tests.support.command_line import Cli, bury_all, settle_all, write

MAIL = ("--channel", "EMAIL", "--priority", "BULK", "--output", "clean.csv")
OUT = "identifier_name,identifier_value,source,channel,priority,action,effective_at"


@pytest.fixture
def known(cli: Cli, tmp_path: Path) -> Cli:
    """Ann and Bob opted out of promotional mail, Cat of other mail, and Dan of nothing."""
    rows = (
        "email,Ann@Example.com,WEBSITE,EMAIL,BULK,OPTOUT,2026-01-02T00:00:00Z",
        "email,bob@example.com,INSTORE,EMAIL,BULK,OPTOUT,2026-01-02T00:00:00Z",
        "email,cat@example.com,INSTORE,EMAIL,TRANS,OPTOUT,2026-01-02T00:00:00Z",
        "email,dan@example.com,INSTORE,EMAIL,BULK,OPTIN,2026-01-02T00:00:00Z",
    )
    assert cli("import", write(tmp_path, "consents.csv", *rows, header=OUT)).code == 0
    return cli


def read(path: Path) -> list[list[str]]:
    """The rows of a file with its header."""
    return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))


AUDIENCE = ("1,ann@example.com,=A1", "2,BOB@example.com,", "3,cat@example.com,x", '4,dan@example.com,"a, b"', "5,eve,")


def test_both_files_are_delimited_as_the_audience_is(known: Cli, tmp_path: Path) -> None:
    """Rows go on as they are: what reads the audience by its semicolons reads these, too."""
    audience = write(
        tmp_path, "audience.csv", "1;ann@example.com;a, b", "4;dan@example.com;a, b", header="id;email;note"
    )

    assert known("scrub", audience, *MAIL).code == 0

    assert (tmp_path / "clean.csv").read_text().splitlines() == ["id;email;note", "4;dan@example.com;a, b"]
    assert (tmp_path / "clean.csv.stopped.csv").read_text().splitlines()[1].endswith(";1;ann@example.com;a, b")


def test_each_row_is_in_one_file(known: Cli, url: str, tmp_path: Path) -> None:
    """With its cells as they were, and in the other file with why, since when and where; a check is recorded."""
    audience = write(tmp_path, "audience.csv", *AUDIENCE, "6,ann@example.com", header="id,E-Mail,note")
    answer = known("scrub", audience, *MAIL, "--json")

    assert (answer.code, answer.json["clean"], answer.json["stopped"]) == (0, 2, 4)
    assert answer.json["reasons"] == {"opted_out": 2, "unusable_value": 1, "too_few_cells": 1}
    assert read(tmp_path / "clean.csv") == [
        ["id", "E-Mail", "note"],
        ["3", "cat@example.com", "x"],
        ["4", "dan@example.com", "a, b"],
    ]
    stopped = read(tmp_path / "clean.csv.stopped.csv")
    assert stopped[0] == ["_code", "_why", "_since", "_connection", "_state", "_import", "id", "E-Mail", "note"]
    assert stopped[1][2:5] == ["2026-01-02T00:00:00Z", "capillary", "pending"]
    assert [row[6:] for row in stopped[1:3]] == [["1", "ann@example.com", "'=A1"], ["2", "BOB@example.com", ""]]
    assert "eve" not in stopped[3][1]
    for name in ("clean.csv", "clean.csv.stopped.csv"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    ledger = Ledger(url)
    [check] = ledger.suppression.checks()
    ledger.close()
    assert (check["id"], check["source"], check["clean"], check["stopped"]) == (answer.json["check"], audience, 2, 4)
    assert (Question(check["channel"], check["priority"]), len(check["sha256"])) == (Question("EMAIL", "BULK"), 64)


@pytest.mark.parametrize("state", ["applied", "dead"])
def test_what_was_delivered_and_what_died_stops_alike(known: Cli, url: str, tmp_path: Path, state: str) -> None:
    """A provider that does not know the customer does not make Ann opt in."""
    (settle_all if state == "applied" else bury_all)(url)

    answer = known("scrub", write(tmp_path, "a.csv", "ann@example.com", header="email"), *MAIL, "--json")

    assert (answer.json["clean"], answer.json["states"]) == (0, {state: 1})


def test_without_a_priority_any_of_them_stops(known: Cli, tmp_path: Path) -> None:
    """Cat opted out of transactional mail alone."""
    audience = write(tmp_path, "a.csv", "cat@example.com", header="email")

    answer = known("scrub", audience, "--channel", "email", "--output", "c.csv", "--json")

    assert answer.json["stopped"] == 1


def test_names_that_the_audience_lacks(known: Cli, tmp_path: Path) -> None:
    """The opt-outs are by e-mail, and the audience gives numbers: nothing is written unless someone decides."""
    audience = write(tmp_path, "a.csv", "+447700900123", header="Phone")

    refused = known("scrub", audience, *MAIL)

    assert (refused.code, "2 by email" in refused.err, sorted(tmp_path.glob("clean*"))) == (2, True, [])
    assert known("scrub", audience, *MAIL, "--unknown", "perhaps").code == 2
    allowed = known("scrub", audience, *MAIL, "--unknown", "allow", "--json")
    assert allowed.json["clean"] == 1
    stopped = known("scrub", audience, *MAIL[:-1], "c2.csv", "--unknown", "stop", "--json")
    assert stopped.json["reasons"] == {"unknown": 1}


def test_every_format_that_is_imported(known: Cli, tmp_path: Path) -> None:
    """JSON lines, an archive, and standard input by another delimiter."""
    (tmp_path / "a.ndjson").write_text(
        "\n".join(json.dumps({"name": name, "email": f"{name}@example.com"}) for name in ("ann", "dan"))
    )
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.ndjson", "a.ndjson")
    write(tmp_path, "semicolons.csv", "Ann;ann@example.com", "Dan;dan@example.com", header="Name;Their mail")

    for number, (name, more) in enumerate(
        {"a.ndjson": (), "a.zip": (), "semicolons.csv": ("--map", "Their mail=email")}.items()
    ):
        answer = known("scrub", name, *MAIL[:-1], f"{number}.csv", *more, "--json")
        assert (answer.code, answer.json["clean"], answer.json["stopped"]) == (0, 1, 1), name


@pytest.mark.parametrize(
    ("header", "more", "message"),
    [
        ("name", (), "has no column that names people"),
        ("identifier_value", (), "has no column that names people"),
        ("email,mail,E-Mail", (), "several columns for email"),
        ("email", ("--map", "x=email"), "has no column 'x'"),
        ("email", ("--map", "email=shoe"), "write one of user_id"),
        ("email", ("--channel", "FAX"), "no connection has the channel 'FAX'"),
        ("email", ("--priority", "HIGH"), "write one of BULK, TRANS"),
        ("email", ("--connection", "nowhere"), "known: capillary"),
        ("email", ("--output", "a.csv"), "is there already"),
    ],
)
def test_what_cannot_be_asked(known: Cli, tmp_path: Path, header: str, more: tuple[str, ...], message: str) -> None:
    """It is refused with the remedy, and nothing is written."""
    audience = write(tmp_path, "a.csv", ",".join("x" for _ in header.split(",")), header=header)

    answer = known("scrub", audience, *MAIL, *more)

    assert (answer.code, sorted(tmp_path.glob("clean*"))) == (2, [])
    assert message in answer.err.replace("\n", " ")


def test_a_ledger_that_cannot_be_read_allows_no_one(known: Cli, url: str, tmp_path: Path) -> None:
    """The file is damaged behind its first page: exit code 5, and no file that looks like an answer."""
    audience = write(tmp_path, "a.csv", "ann@example.com", header="email")
    path = Path(url.removeprefix("sqlite:///"))
    path.write_bytes(path.read_bytes()[:4096] + b"x" * 200_000)

    answer = known("scrub", audience, *MAIL)

    assert (answer.code, sorted(tmp_path.glob("clean*"))) == (5, [])


def test_a_ledger_that_is_not_there_allows_no_one(cli: Cli, tmp_path: Path) -> None:
    """The command ran in the wrong folder."""
    answer = cli("scrub", write(tmp_path, "a.csv", "ann@example.com", header="email"), *MAIL)

    assert (answer.code, "there is no ledger" in answer.err, sorted(tmp_path.glob("clean*"))) == (2, True, [])


FEED = """
[feeds.crm]
columns = { "Kontakt" = "email", "Stand" = "effective_at" }
set = { action = "OPTOUT" }
delimiter = "semicolon"
skip_top = 2
skip_end = 1
[feeds.phones]
set = { identifier_name = "mobile" }
columns = { "Nummer" = "identifier_value" }
region = "GB"
[feeds.told]
columns = { "Kontakt" = "email" }
values = { "Kontakt" = { "x" = "ann@example.com" } }
"""


def with_feeds(cli: Cli, tmp_path: Path, text: str = FEED) -> None:
    """Let the commands read feeds."""
    (tmp_path / "optrelay.toml").write_text(text)
    cli("status")


def test_an_audience_is_read_as_a_feed_says(known: Cli, tmp_path: Path) -> None:
    """An export with a title, a total and columns of its own; the feed's columns that name no one do not matter."""
    with_feeds(known, tmp_path)
    lines = ("Export", "2026-11-29", "Nr;Kontakt", "1;Ann@example.com", "2;dan@example.com", "Total;2")
    audience = tmp_path / "crm.csv"
    audience.write_text("\n".join(lines) + "\n")

    assert known("scrub", str(audience), *MAIL).code == 2
    answer = known("scrub", str(audience), *MAIL, "--feed", "crm", "--json")

    assert (answer.code, answer.json["rows"], answer.json["reasons"]) == (0, 2, {"opted_out": 1}), answer.err
    assert (tmp_path / "clean.csv").read_text().splitlines() == ["Nr;Kontakt", "2;dan@example.com"]


def test_lines_before_and_behind_are_skipped(known: Cli, tmp_path: Path) -> None:
    """The same by options."""
    audience = write(tmp_path, "a.csv", "email", "ann@example.com", "dan@example.com", "2 rows", header="Export")
    answer = known("scrub", audience, *MAIL, "--skip-top", "1", "--skip-end", "1", "--json")
    assert (answer.code, answer.json["clean"], answer.json["stopped"]) == (0, 1, 1), answer.err


def test_a_name_that_a_feed_leaves_out_is_looked_for_all_the_same(known: Cli, tmp_path: Path) -> None:
    """The feed knows the number alone; Ann opted out by the address that stands beside it."""
    with_feeds(known, tmp_path)
    audience = write(
        tmp_path, "a.csv", "07700900123,ann@example.com", "07700900124,dan@example.com", header="Nummer,email"
    )
    answer = known("scrub", audience, *MAIL, "--feed", "phones", "--json")
    assert (answer.code, answer.json["reasons"]) == (0, {"opted_out": 1}), answer.err


def test_a_feed_says_the_country_of_numbers_and_a_name_of_every_row(known: Cli, tmp_path: Path) -> None:
    """Eve opted out by her number; the audience has it without a country code, and says nowhere what it is."""
    rows = ("mobile,+447700900123,INSTORE,SMS,BULK,OPTOUT,2026-01-02T00:00:00Z",)
    assert known("import", write(tmp_path, "eve.csv", *rows, header=OUT)).code == 0
    with_feeds(known, tmp_path)
    audience = write(tmp_path, "a.csv", "07700 900123", "07700 900124", header="Nummer")
    text = ("--channel", "SMS", "--output", "clean.csv", "--json")

    answer = known("scrub", audience, *text, "--feed", "phones")

    assert (answer.code, answer.json["reasons"]) == (0, {"opted_out": 1}), answer.err
    assert read(tmp_path / "clean.csv") == [["Nummer"], ["07700 900124"]]
    by_option = known(
        "scrub", audience, "--channel", "SMS", "--output", "b.csv", "--json", "--map", "Nummer=mobile", "--region", "GB"
    )
    assert by_option.json["reasons"] == {"opted_out": 1}, by_option.err


@pytest.mark.parametrize(
    ("feed", "header", "message"),
    [
        ("none", "email", "there is no feed 'none'"),
        ("told", "Kontakt", "says by `values` what the cells of Kontakt mean"),
        ("phones", "identifier_name,Nummer", "and feed phones sets it"),
        ("phones", "id,note", "no column that names people"),
    ],
)
def test_a_feed_that_does_not_fit_allows_no_one(
    known: Cli, tmp_path: Path, feed: str, header: str, message: str
) -> None:
    """Nothing is written, and the reason says what to do."""
    with_feeds(known, tmp_path)
    audience = write(tmp_path, "a.csv", "x,y"[: len(header.split(",")) * 2 - 1], header=header)
    answer = known("scrub", audience, *MAIL, "--feed", feed)
    assert (answer.code, message in answer.err.replace("\n", " ")) == (2, True), answer.err
    assert not (tmp_path / "clean.csv").exists()
