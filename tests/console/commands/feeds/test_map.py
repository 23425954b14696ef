"""`optrelay map` looks at a file, asks what is ambiguous, writes a feed, and ends with a dry run."""

from __future__ import annotations

import io
import os
import stat
import time
from pathlib import Path

import pytest

from tests.support.command_line import Cli

SETTINGS = """\
# The desk that keeps this: extension 12
[connections.infobip]   # our blocklist
base_url = "http://127.0.0.1:1"
api_key = "hush-hush-8"
"""
CRM = """\
Kunde,Kontakt,Newsletter,Stand
501,ann@example.com,ja,20.11.2026
502,bob@example.com,nein,05.11.2026
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Path:
    """A folder with settings of an Infobip connection and no other."""
    del cli  # which clears the environment first
    for name in ("BASE_URL", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"OPTRELAY_CONNECTIONS__CAPILLARY__{name}")
    (tmp_path / "optrelay.toml").write_text(SETTINGS)
    (tmp_path / "optrelay.toml").chmod(0o644)
    return tmp_path


def written(folder: Path, name: str, text: str) -> str:
    """Write a file that was finished a minute ago."""
    (folder / name).write_text(text)
    os.utime(folder / name, (time.time() - 60,) * 2)
    return name


def test_the_dialogue_asks_only_what_is_ambiguous_and_writes_the_feed(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which column names a person is plain; which way a yes opts them, and the zone, only a person can say."""
    file = written(folder, "crm-2026-11-20.csv", CRM)
    answers = ["Newsletter", "OPTIN", "OPTOUT", "Stand", "Europe/Berlin", "crm", "y"]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{one}\n" for one in answers)))

    answer = cli("map", file)

    assert answer.code == 0, answer.err
    text = (folder / "optrelay.toml").read_text()
    assert text.startswith(SETTINGS)
    assert stat.S_IMODE((folder / "optrelay.toml").stat().st_mode) == 0o600
    assert "ann@example.com" not in answer.out
    assert "What does ja in Newsletter mean?" in answer.out
    assert "2 rows = 2 accepted" in answer.out  # the dry run
    found = cli("import", file, "--json")
    assert (found.json["accepted"], found.code) == (2, 0)


def test_programs_get_questions_and_give_options(cli: Cli, folder: Path) -> None:
    """With --json nothing is asked: what is open is told, and answered by options; --yes never decides a yes or no."""
    file = written(folder, "crm.csv", CRM)

    asked = cli("map", file, "--yes", "--json")
    done = cli("map", file, "--yes", "--json", "--name", "crm", "--values", "Newsletter:ja=OPTIN,nein=OPTOUT")

    assert (asked.code, asked.json["written"]) == (2, False)
    assert [one["key"] for one in asked.json["questions"]] == ["value:ja", "value:nein"]
    assert (done.code, done.json["written"], done.json["questions"]) == (0, True, [])
    assert done.json["feed"]["columns"] == {"Kontakt": "destination", "Newsletter": "action", "Stand": "effective_at"}
    assert done.json["feed"]["time_format"] == "%d.%m.%Y"
    assert not any("example.com" in cell for cells in done.json["columns"].values() for cell in cells)
    again = cli("map", file, "--yes", "--name", "crm", "--values", "Newsletter:ja=OPTIN,nein=OPTOUT")
    assert (again.code, "--replace" in again.err) == (2, True)


def test_a_column_that_settles_no_order_is_asked(cli: Cli, folder: Path) -> None:
    """No day after the 12th: both formats are offered, none is taken."""
    file = written(folder, "crm.csv", CRM.replace("20.11.2026", "04.11.2026"))

    asked = cli("map", file, "--yes", "--json", "--values", "Newsletter:ja=OPTIN,nein=OPTOUT")

    [question] = asked.json["questions"]
    assert (question["key"], question["options"]) == ("order", ["%d.%m.%Y", "%m.%d.%Y"])


def test_errors_about_columns_name_the_command(cli: Cli, folder: Path) -> None:
    """A person who runs a strange file learns how to make it known."""
    answer = cli("import", written(folder, "crm.csv", CRM))

    assert answer.code == 2
    assert "optrelay map FILE" in answer.err


def test_settings_that_are_no_file_are_left_alone(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPTRELAY_CONFIG=/dev/null says that there is none."""
    monkeypatch.setenv("OPTRELAY_CONFIG", os.devnull)
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__INFOBIP__API_KEY", "hush-hush-8")
    file = written(folder, "crm.csv", CRM)

    answer = cli("map", file, "--yes", "--name", "crm", "--values", "Newsletter:ja=OPTIN,nein=OPTOUT")

    assert answer.code == 2
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


@pytest.mark.parametrize(
    ("options", "say"),
    [
        ((), "--values 'ja=OPTOUT'"),
        (("--values", "Newsletter:ja=OPTIN,nein=OPTOUT"), "--timezone ZONE"),
        (("--values", "Newsletter:ja=OPTIN,nein=OPTOUT", "--timezone", "UTC"), "--name NAME"),
    ],
)
def test_where_no_one_is_there_to_ask_the_option_is_named(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], say: str
) -> None:
    """In cron there is no terminal: exit code 2, what to say, and nothing written."""
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    given = ("--map", "Kontakt=destination", "--map", "Newsletter=action", "--map", "Stand=effective_at")
    answer = cli("map", written(folder, "crm.csv", CRM), *given, *options)
    assert (answer.code, say in answer.err) == (2, True), answer.err
    assert (folder / "optrelay.toml").read_text() == SETTINGS


def test_an_empty_answer_is_told_what_is_needed(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question without a proposal cannot be passed by pressing return, and says so."""
    file = written(folder, "crm.csv", CRM.replace("20.11.2026", "04.11.2026"))
    monkeypatch.setattr("sys.stdin", io.StringIO("Newsletter\nOPTIN\nOPTOUT\nStand\n\n"))
    answer = cli("map", file)
    assert "answer one of: %d.%m.%Y, %m/%d/%Y" in answer.err.replace("%m.%d.%Y", "%m/%d/%Y")


def test_times_of_several_forms_are_asked_about(cli: Cli, folder: Path) -> None:
    """A workbook mixes real dates with typed ones: --yes does not take the file's own time instead of them."""
    file = written(folder, "crm.csv", CRM.replace("20.11.2026", "2026-11-20 08:30:00"))
    asked = cli("map", file, "--yes", "--json", "--values", "Newsletter:ja=OPTIN,nein=OPTOUT")
    [question] = asked.json["questions"]
    assert (question["key"], question["default"], question["options"][0]) == ("time", None, "Stand")
    assert "--map COLUMN=effective_at" in question["say"]
    assert asked.json["columns"]["Stand"] == ["9999-99-99 99:99:99", "99.99.9999"]


def test_the_next_file_with_another_id_in_its_name_is_of_the_feed(cli: Cli, folder: Path) -> None:
    """An export's name carries a hexadecimal id; words and short names are no ids."""
    file = written(
        folder, "unsubscribed_export_8f2a9c_KW47.csv", "Email Address,UNSUB_TIME\na@example.com,2026-11-20\n"
    )
    done = cli("map", file, "--yes", "--json")
    assert done.json["feed"]["file"] == ["unsubscribed_export_*_KW*.csv"]


def test_a_zone_that_there_is_not_is_asked_again(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A feed with such a zone could read no file; the name that return takes is the file's, without its date."""
    answers = ["Newsletter", "OPTIN", "OPTOUT", "Stand", "Berlin", "Europe/Berlin", "", "y"]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{one}\n" for one in answers)))

    answer = cli("map", written(folder, "crm_2026-11-20.csv", CRM))

    assert answer.code == 0, answer.err
    assert "'Berlin' is no time zone: give one like Europe/Berlin" in answer.err
    text = (folder / "optrelay.toml").read_text()
    assert "[feeds.crm]" in text
    assert 'timezone = "Europe/Berlin"' in text


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ("501,dora@example.com,ja,20.11.2026", False),
        ("387006417,EMAIL,BULK,OPTOUT", False),
        ("+44 7700 900123,SMS,BULK,OPTOUT", False),
        ("Kunde 2026,Kontakt,Newsletter,2026-11", True),
    ],
)
def test_a_row_that_stands_for_a_header_is_refused_and_not_shown(
    cli: Cli, folder: Path, *, header: str, shown: bool
) -> None:
    """The names of columns are shown as they stand, so a person's data must not be taken for one."""
    file = written(folder, "crm.csv", "\n".join([header, *CRM.splitlines()[1:]]))
    answer = cli("map", file, "--json")
    assert (header.split(",", maxsplit=1)[0] in answer.out + answer.err) is shown
    assert ("Its first line looks like a row" not in answer.err) is shown


def test_a_connection_that_there_is_not_is_named_with_those_there_are(cli: Cli, folder: Path) -> None:
    """A slip in --connection is no open question."""
    answer = cli("map", written(folder, "crm.csv", CRM), "--connection", "infobop")
    assert (answer.code, "there is no connection 'infobop' (known: infobip)" in answer.err) == (2, True)


def test_yes_leaves_out_a_column_that_no_row_needs_and_says_so(cli: Cli, folder: Path) -> None:
    """Infobip's `sender` narrows an entry: only a person can say that `Absender` is meant so."""
    file = written(folder, "crm.csv", "Kontakt,Absender\nann@example.com,Shop\nbob@example.com,Shop\n")
    done = cli("map", file, "--yes", "--name", "crm", "--set", "action=OPTOUT", "--effective-at", "2026-11-20")
    assert done.code == 0, done.err
    assert "--map COLUMN=sender" in done.out + done.err
    assert "Absender" not in (folder / "optrelay.toml").read_text()


def test_yes_takes_a_spelling_of_a_channel_that_is_certain(cli: Cli, folder: Path) -> None:
    """`E-Mail` is EMAIL in any spelling; `Mail` may be a letter, and is asked."""
    rows = "Kontakt,Kanal\nann@example.com,E-Mail\nbob@example.com,e mail\ncid@example.com,Mail\n"
    given = ("--map", "Kanal=channel", "--set", "action=OPTOUT", "--effective-at", "2026-11-20")
    asked = cli("map", written(folder, "crm.csv", rows), "--yes", "--json", *given)
    assert [one["key"] for one in asked.json["questions"]] == ["channel:Mail"]


def test_a_column_without_times_is_no_answer_to_since_when(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said what the column holds, no person's cell is shown, and the question comes again."""
    answers = ["Newsletter", "OPTIN", "OPTOUT", "Kunde", "Weg", "Name", "Kontakt", "Stand", "UTC", "crm", "n"]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{one}\n" for one in answers)))
    rows = "Kunde,Kontakt,Name,Newsletter,Weg,Stand\n501,ann@example.com,Ann,ja,EMAIL,20.11.2026\n"
    more = "502,bob@example.com,Bob,nein,EMAIL,05.11.2026\n"
    answer = cli(
        "map", written(folder, "crm.csv", rows + more), "--map", "Kontakt=destination", "--set", "channel=EMAIL"
    )
    assert answer.code == 0, answer.err
    message = " ".join(answer.err.split())
    assert "Weg holds no times but channels: name a column of times, or none" in message
    assert "Kontakt holds no times but e-mail addresses" in message
    assert "Name holds no times but 2 different texts" in message
    assert "Kunde holds no times" in message
    assert "Ann" not in message


def test_a_number_is_no_name_of_a_feed(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers pick an option everywhere else, and here there are none."""
    answers = ["Newsletter", "OPTIN", "OPTOUT", "Stand", "Europe/Berlin", "1", "crm", "y"]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{one}\n" for one in answers)))
    answer = cli("map", written(folder, "crm.csv", CRM))
    assert answer.code == 0, answer.err
    assert "1 is a number, and there are no options to pick from: type a name, like crm" in " ".join(answer.err.split())
    assert "[feeds.crm]" in (folder / "optrelay.toml").read_text()


def test_a_pattern_that_fits_one_name_only_is_pointed_out(cli: Cli, folder: Path) -> None:
    """Next week's file may be called otherwise: then it is of no feed."""
    given = ("--map", "Kontakt=destination", "--map", "Newsletter=action", "--timezone", "UTC", "--name", "crm")
    given += ("--values", "Newsletter:ja=OPTIN,nein=OPTOUT", "--yes")
    note = "only files called abmeldungen.csv are of this feed; for others give --pattern, like 'abmeldungen*.csv'"
    plain, numbered = written(folder, "abmeldungen.csv", CRM), written(folder, "abmeldungen_1.csv", CRM)
    shown, as_json = cli("map", plain, *given), cli("map", plain, *given, "--replace", "--json")
    other = cli("map", numbered, *given, "--replace", "--json")
    chosen = cli("map", plain, *given, "--replace", "--json", "--pattern", "abmeldungen.csv")
    assert note in " ".join((shown.out + shown.err).split())
    assert as_json.json["notes"] == [note]
    assert (other.json["notes"], chosen.json["notes"]) == ([], [])
