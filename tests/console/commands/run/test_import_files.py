"""Recording files from the command line."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from consent.settings import load_settings
from console.local.run_lease import exclusive_run
from tests.support.command_line import Cli, settle_all, write

FIXED = ["import", "rows", "accepted", "rejected", "duplicates", "applied", "unchanged", "superseded", "dead"]
FIXED += ["pending", "calls", "sealed", "seconds"]


def test_json_holds_the_promised_keys_first_and_the_sums_hold(cli: Cli, consents: str) -> None:
    """A program that reads the JSON finds every row in exactly one place."""
    answer = cli("import", consents, "--json")
    found = answer.json
    assert list(found)[: len(FIXED)] == FIXED
    assert (found["rows"], found["accepted"], found["rejected"], found["duplicates"]) == (6, 4, 1, 1)
    assert (found["superseded"], found["pending"], found["sealed"]) == (1, 3, False)
    assert answer.code == 1


def test_a_rejected_row_is_in_a_file_that_can_be_fixed(cli: Cli, consents: str, tmp_path: Path) -> None:
    """A person who sees that rows were rejected is told how many, why, and in which file they are."""
    answer = cli("import", consents)
    assert "1 × unknown_value; fix" in answer.out
    assert answer.out.count("write one of MOBILE, EMAIL, wechat, whatsapp, ios, android, line") == 1
    assert "1003999" in (tmp_path / "consents.csv.rejects.csv").read_text()


def test_the_first_rejected_rows_are_named_with_the_files_own_columns(cli: Cli, tmp_path: Path) -> None:
    """Line, column and reason; a column that a feed maps stands by both names."""
    rows = [f"{who},EMAIL,BULK,OPTOUT,2026-01-01T00:00:00Z" for who in ("", "", "1004000", "", "")]
    file = write(tmp_path, "one.csv", *rows, header="Kunde,channel,priority,action,effective_at")
    answer = cli("import", file, "--map", "Kunde=user_id")
    reason = "the row names no customer: fill user_id (Kunde), or identifier_name and identifier_value"
    for line in (2, 3, 5):
        assert f"\n    line {line}, Kunde: {reason}\n" in answer.out
    assert "\n    and 1 more\n" in answer.out
    [import_id] = [one["import"] for one in cli("status", "--json").json["imports"]]
    assert f"\n    line 2, Kunde: {reason}\n" in cli("status", import_id).out


def test_the_same_file_again_records_nothing(cli: Cli, consents: str) -> None:
    """Importing a file twice changes nothing, and says so."""
    first = cli("import", consents, "--json").json
    again = cli("import", consents, "--json")
    assert "nothing was recorded" in again.err
    assert again.json | {"files": None} == first | {"files": None}
    assert [one["state"] for one in first["files"] + again.json["files"]] == ["recorded", "known"]


def test_a_file_without_a_row_is_told(cli: Cli, tmp_path: Path) -> None:
    """A transfer that broke off behind the header looks like a quiet night: so it is said."""
    answer = cli("import", write(tmp_path, "quiet.csv"))
    assert (answer.code, "the file has a header and no rows" in answer.err) == (0, True)


def test_several_files_give_their_sum_and_each_of_them(cli: Cli, consents: str, tmp_path: Path) -> None:
    """Two files are counted together, and each for itself."""
    other = write(tmp_path, "other.csv", "1004000,EMAIL,BULK,OPTOUT,2026-01-01T00:00:00Z")
    found = cli("import", consents, other, "--json").json
    assert found["import"] is None
    assert (found["rows"], [one["rows"] for one in found["imports"]]) == (7, [6, 1])


def test_what_became_of_the_rows_is_said_as_a_sum(cli: Cli, consents: str, tmp_path: Path) -> None:
    """However many rows there are, the sentence is one that a person would say."""
    one = write(tmp_path, "one.csv", "1004000,EMAIL,BULK,OPTOUT,2026-01-01T00:00:00Z")
    assert "\n  6 rows = 4 accepted + 1 rejected + 1 duplicate\n" in cli("import", consents).out
    assert "\n  1 row = 1 accepted + 0 rejected + 0 duplicates\n" in cli("import", one).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--effective-at", "soon"), "ISO 8601"),
        (("--map", "phone"), "their=ours"),
        (("--timezone", "Mars/Base"), "no time zone"),
        (("--patience", "soon"), "15m"),
        (("--connection", "unknown"), "there is no connection 'unknown' (known: capillary)"),
        (("--encoding", "klingon"), "klingon"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(
    cli: Cli, consents: str, arguments: tuple[str, ...], message: str
) -> None:
    """A wrong option ends with code 2 and a sentence that shows how it is written."""
    answer = cli("import", consents, *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err


def test_without_a_connection_the_remedy_is_named(cli: Cli, consents: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has configured nothing yet learns which variables to set."""
    for name in ("BASE_URL", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"OPTRELAY_CONNECTIONS__CAPILLARY__{name}")
    answer = cli("import", consents)
    assert answer.code == 2
    assert "OPTRELAY_CONNECTIONS__CAPILLARY__BASE_URL" in answer.err


def test_one_rejects_file_for_two_files_is_refused(cli: Cli, consents: str, tmp_path: Path) -> None:
    """Two files never write their rejects over each other."""
    other = write(tmp_path, "other.csv", "1004000,EMAIL,BULK,OPTOUT,2026-01-01T00:00:00Z")
    answer = cli("import", consents, other, "--rejects", "r.csv")
    assert answer.code == 2
    assert "--rejects names one file" in answer.err


def test_a_broker_that_is_away_is_only_a_note(cli: Cli, consents: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorded change counts as recorded although no one could be woken for it."""
    monkeypatch.setenv("OPTRELAY_BROKER_URL", "redis://127.0.0.1:1/0")
    answer = cli("import", consents)
    assert answer.code == 1  # for the rejected row
    assert "the sweep sends them once it is back" in answer.err


def test_waiting_ends_when_workers_elsewhere_have_settled_it(cli: Cli, consents: str, url: str) -> None:
    """`--wait` comes back when every change has been settled, and not before."""
    done = threading.Event()

    def work() -> None:
        while not done.is_set() and not settle_all(url):
            time.sleep(0.05)

    cli("migrate")
    worker = threading.Thread(target=work)
    worker.start()
    found = cli("import", consents, "--wait", "--patience", "5s", "--json").json
    done.set()
    worker.join()
    assert (found["applied"], found["pending"], found["sealed"]) == (3, 0, True)


def test_waiting_has_an_end_if_no_one_works(cli: Cli, consents: str) -> None:
    """If nothing moves for as long as one is patient, it ends with code 4, and everything is kept."""
    answer = cli("import", consents, "--wait", "--patience", "1s", "--json")
    assert (answer.code, answer.json["pending"], answer.json["limited_by"]) == (4, 3, {})
    assert "connection capillary has been stuck for" in answer.json["reasons"][0]
    assert "is `optrelay worker` running" in answer.json["reasons"][0]


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("CONNECTIONS__CAPILLARY__PASSWORD", "", "needs credentials"),
        ("CONNECTIONS__CAPILLARY__BASE_URL", "127.0.0.1:8090", "is not a web address"),
        ("BROKER_URL", "nonsense", "redis://localhost:6379/0"),
    ],
)
def test_a_run_that_cannot_deliver_records_nothing(
    cli: Cli, consents: str, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, message: str
) -> None:
    """What is wrong with the connection or the broker is told before the first row is recorded."""
    monkeypatch.setenv(f"OPTRELAY_{setting}", value)
    answer = cli("run", consents)
    assert (answer.code, message in answer.err) == (2, True)
    assert not Path(f"{consents}.rejects.csv").exists()
    assert cli("status", "--json").json["imports"] == []


def test_a_broker_that_is_away_is_named(cli: Cli, consents: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No one is blamed but the broker, long before a provider would be given up; everything is kept."""
    monkeypatch.setenv("OPTRELAY_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setattr("console.local.monitor._BROKER_SECONDS", 0.5)
    answer = cli("run", consents, "--json")
    assert (answer.code, answer.json["pending"]) == (5, 3)
    assert "the broker cannot be reached: see OPTRELAY_BROKER_URL" in answer.err


def test_an_import_beside_a_run_says_who_delivers(cli: Cli, consents: str) -> None:
    """`optrelay up` delivers already: to be told to call `optrelay run` would lead to "another run is using this"."""
    alone = cli("import", consents)
    with exclusive_run(load_settings()):
        beside = cli("import", consents)

    assert "`optrelay run` delivers what is pending" in alone.err
    assert "`optrelay up` or `run` is at work" in beside.err
    assert f"process {os.getpid()}" in beside.err


def test_waiting_where_no_worker_may_be_says_so(cli: Cli, consents: str) -> None:
    """Without a broker no one was woken: a command that waits in vain says what would deliver."""
    answer = cli("import", consents, "--wait", "--patience", "1s")
    assert answer.code == 4
    assert "OPTRELAY_BROKER_URL is not set here" in answer.err
    assert "`optrelay run` delivers" in answer.err


@pytest.mark.parametrize(
    ("variable", "remedy"),
    [("OPTRELAY_CONECTIONS__CAPILLARY__RATE", "did you mean OPTRELAY_CONNECTIONS?"), ("OPTRELAY_ZZZ", "see docs/")],
)
def test_a_variable_that_is_misspelt_is_not_ignored_in_silence(
    cli: Cli, consents: str, monkeypatch: pytest.MonkeyPatch, variable: str, remedy: str
) -> None:
    """Else a limit that someone has set would go unnoticed until the provider complains."""
    monkeypatch.setenv(variable, "5/minute")
    assert f"{variable} is no setting and is ignored: {remedy}" in cli("import", consents).err
    assert f"{variable} is no setting and is ignored" in cli("doctor").out


def test_a_key_that_is_misspelt_is_not_ignored_in_silence(cli: Cli, consents: str, tmp_path: Path) -> None:
    """The same in optrelay.toml."""
    (tmp_path / "optrelay.toml").write_text("reasert = true\nledger_url = 'sqlite:///other.db'\n")
    message = "optrelay.toml: reasert is no setting and is ignored"
    assert f"{message}: did you mean reassert?" in cli("import", consents).err
    assert message in cli("doctor").out


def test_a_misspelt_setting_of_a_connection_is_refused(
    cli: Cli, consents: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection has only settings that mean something; the message says which one may be meant."""
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__CAPILLARY__RAET", "5/minute")
    answer = cli("import", consents)
    assert (answer.code, "there is no such setting; did you mean RATE?" in answer.err) == (2, True)


@pytest.mark.parametrize(
    ("setting", "way"), [("true", "always"), ("False", "never"), ("1", "always"), ("off", "never")]
)
def test_the_former_values_of_reassert_are_understood_with_a_notice(
    cli: Cli, consents: str, monkeypatch: pytest.MonkeyPatch, setting: str, way: str
) -> None:
    """An installation that sends every opt-out goes on doing so, and is told how that is written now."""
    monkeypatch.setenv("OPTRELAY_REASSERT", setting)

    assert (
        f"OPTRELAY_REASSERT is fresh, always or never now: write {way}, which is what it means"
        in cli("import", consents).err
    )
    assert load_settings().reassert == way


def test_the_former_value_in_optrelay_toml_is_understood(cli: Cli, consents: str, tmp_path: Path) -> None:
    """The same in the file, for the installation and for a connection."""
    (tmp_path / "optrelay.toml").write_text("reassert = true\n[connections.capillary]\nreassert = false\n")

    noted = cli("import", consents).err

    assert "optrelay.toml: reassert is fresh, always or never now: write always" in noted
    assert "optrelay.toml: connections.capillary.reassert is fresh, always or never now: write never" in noted
    assert load_settings().reassert_rules.of("capillary") == "never"


def test_a_way_that_is_none_is_refused(cli: Cli, consents: str) -> None:
    """A slip must not be taken for the default."""
    answer = cli("import", consents, "--reassert", "sometimes")

    assert answer.code == 2
    assert "--reassert is fresh, always or never" in answer.err


def test_a_file_is_read_again_once_the_defaults_of_its_columns_have_changed(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An opt-out for the wrong priority stays wrong: after the setting was fixed, the file was `recorded before`."""
    file = tmp_path / "consents.csv"
    file.write_text("user_id,channel,action,effective_at\n1001417,EMAIL,OPTOUT,2026-01-02T00:00:00Z\n")
    for priority in ("TRANS", "BULK"):
        monkeypatch.setenv("OPTRELAY_CONNECTIONS__CAPILLARY__DEFAULTS", f'{{"priority": "{priority}"}}')
        assert cli("import", str(file), "--json").json["pending"] == 1
        assert "recorded before" in cli("import", str(file)).err


def test_a_pipe_under_the_name_of_the_rejects_is_told_with_its_remedy(cli: Cli, tmp_path: Path) -> None:
    """Each night's import ended with exit code 70, as if our code were broken, and recorded nothing."""
    write(tmp_path, "bad.csv", "1,FAX,BULK,OPTOUT,")
    os.mkfifo(tmp_path / "bad.csv.rejects.csv")

    answer = cli("import", "bad.csv")

    assert answer.code == 2
    assert "--rejects" in answer.err
    assert cli("import", "bad.csv", "--rejects", "elsewhere.csv").code == 1


def test_the_summary_says_where_the_rejects_of_last_night_are(cli: Cli, tmp_path: Path) -> None:
    """An opt-out that was fixed and not yet imported is still there, and a person is told its new name."""
    write(tmp_path, "nightly.csv", "1,FAX,BULK,OPTOUT,")
    cli("import", "nightly.csv")
    write(tmp_path, "nightly.csv", "2,FUX,BULK,OPTOUT,")

    answer = cli("import", "nightly.csv")

    assert "nightly.csv.1.rejects.csv" in answer.err
    assert "FAX" in (tmp_path / "nightly.csv.1.rejects.csv").read_text()
    assert "FUX" in (tmp_path / "nightly.csv.rejects.csv").read_text()
