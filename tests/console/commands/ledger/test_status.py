"""What stands in the ledger, and why an import is not sealed yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from consent.imports import ImportSource
from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import Breaker, BucketHealth, Trip
from tests.deployment.compose import ROOT
from tests.support.command_line import Cli, bury_all, settle_all, write


def _stop(url: str, breaker: Breaker, reason: str, name: str = "capillary") -> None:
    ledger = Ledger(url)
    ledger.breakers.open_breaker(
        BucketHealth(name),
        Trip(breaker, reason, ledger.now() + 60_000_000),
        now=ledger.now(),
    )
    ledger.close()


def test_without_a_ledger_none_is_made(cli: Cli, tmp_path: Path) -> None:
    """Looking never creates a ledger in the wrong folder."""
    answer = cli("status")
    assert answer.code == 2
    assert "there is no ledger at" in answer.err
    assert not list(tmp_path.iterdir())


def test_a_pending_import_says_where_it_waits(cli: Cli, consents: str) -> None:
    """While changes are under way, status says how many wait on which connection, and ends with code 0 or 1."""
    cli("import", consents)
    answer = cli("status", "latest")
    assert "not sealed yet: 3 changes pending" in answer.out
    assert "capillary: 3 pending" in answer.out
    assert answer.code == 1  # one row was rejected


def test_a_clean_sealed_import_ends_with_0(cli: Cli, url: str, tmp_path: Path) -> None:
    """Everything settled well is exit code 0."""
    number = cli("import", write(tmp_path, "one.csv", "1001417,EMAIL,BULK,OPTIN,2026-01-01T00:00:00Z"), "--json").json
    settle_all(url)
    answer = cli("status", number["import"][:12])
    assert (answer.code, "sealed: every row is accounted for" in answer.out) == (0, True)


def test_a_dead_letter_makes_it_1(cli: Cli, url: str, tmp_path: Path) -> None:
    """A change that died is exit code 1, with its code."""
    cli("import", write(tmp_path, "one.csv", "1001417,EMAIL,BULK,OPTIN,2026-01-01T00:00:00Z"))
    bury_all(url)
    answer = cli("status", "latest")
    assert (answer.code, "dead: 1 × 1012: Capillary cannot find this customer; see" in answer.out) == (1, True)


def test_status_tells_about_the_import_and_a_run_about_itself_as_the_help_says(
    cli: Cli, url: str, consents: str
) -> None:
    """A person wondered why the same file ended with 0 and its status with 1."""
    cli("import", consents)
    settle_all(url)
    assert (cli("import", consents).code, cli("status", "latest").code) == (0, 1)
    shown = " ".join(cli("status", "--help").out.replace("│", "").split())
    assert "1 rows of it were rejected or are dead, whichever run that was" in shown
    assert "3 held" in shown
    page = (ROOT / "docs" / "cli.md").read_text()
    assert "`status IMPORT` tells about the import, whichever run it was" in page


@pytest.mark.parametrize(
    ("breaker", "message"),
    [(Breaker.REFUSED, "stopped, everything is kept: no such till"), (Breaker.DOWN, "tried again in")],
)
def test_a_stopped_connection_is_named_with_its_reason(
    cli: Cli, consents: str, url: str, breaker: Breaker, message: str
) -> None:
    """An import that cannot go on because of its connection ends with code 4 and says why."""
    cli("import", consents)
    _stop(url, breaker, "no such till")
    answer = cli("status", "latest")
    assert (answer.code, message in answer.out) == (4, True)
    assert message in cli("status").out
    found = cli("status", "--json").json["connections"][0]
    assert (found["breaker"], found["reason"], found["pending"]) == (breaker.value, "no such till", 2)


def test_what_limits_a_connection_is_said(cli: Cli, consents: str, url: str) -> None:
    """Nothing was called yet: nothing limits it. While it is stopped, the provider's errors do."""
    cli("import", consents)
    assert cli("status", "--json").json["connections"][0]["limited_by"] is None

    _stop(url, Breaker.DOWN, "no such till")
    assert cli("status", "--json").json["connections"][0]["limited_by"] == "errors"


def test_a_throttled_connection_says_until_when(cli: Cli, consents: str, url: str) -> None:
    """A provider that asked us to wait is not taken for one that is down."""
    cli("import", consents)
    ledger = Ledger(url)
    ledger.breakers.throttle("capillary", until=ledger.now() + 30_000_000)
    ledger.close()
    assert "the provider asked us to wait; on again in" in cli("status").out


def test_an_unknown_import_is_refused(cli: Cli, consents: str) -> None:
    """A wrong id says where the right ones are."""
    cli("import", consents)
    answer = cli("status", "19990101")
    assert (answer.code, "`optrelay status` lists them" in answer.err) == (2, True)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["status", "n\udce4"], 2),
        (["dead-letters", "list", "--code", "\udce4"], 0),
        (["dead-letters", "discard", "--all", "--yes", "--why", "sch\udcf6n", "--who", "j\udcf6rg"], 0),
        (["rejected-events", "list", "--source", "n\udce4chtlich.csv"], 0),
        (["rejected-events", "list", "--import", "\udce4"], 2),
    ],
)
def test_words_in_another_encoding_are_words(cli: Cli, consents: str, command: list[str], code: int) -> None:
    """Someone at a terminal of Latin-1 says why an opt-out is put away, and is told of an unexpected error."""
    assert cli("import", consents).code == 1
    assert cli(*command).code == code


def test_a_beginning_that_fits_two_imports_is_refused(cli: Cli, consents: str, tmp_path: Path) -> None:
    """Half an id never picks an import at random."""
    cli("import", consents, write(tmp_path, "one.csv", "1001417,EMAIL,BULK,OPTIN,2026-01-09T00:00:00Z"))
    assert "give more of the id" in cli("status", "20").err


GUPSHUP = "app_id,subscription_id,action,effective_at"


@pytest.fixture
def apps(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file for two apps of one Gupshup connection, recorded."""
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__WA__PROVIDER", "gupshup")
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__WA__BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__WA__TOKEN", "sk_throw-away")
    rows = (f"app-{app},2{app}00{n},OPTOUT,2026-01-02T00:00:00Z" for app, n in ((1, 1), (1, 2), (2, 1)))
    cli("import", write(tmp_path, "apps.csv", *rows, header=GUPSHUP), "--connection", "wa")
    return "wa/app-1"


def test_a_stopped_app_is_named_and_its_neighbour_is_ready(cli: Cli, apps: str, url: str) -> None:
    """Of two apps of one connection only the one that is refused is shown as stopped, by name."""
    _stop(url, Breaker.REFUSED, "no such token", apps)

    stopped, ready = [line for line in cli("status").out.splitlines() if "wa (app" in line]
    assert ("wa (app app-1)" in stopped, "stopped" in stopped) == (True, True)
    assert ("wa (app app-2)" in ready, "ready; at 5/minute" in ready) == (True, True)

    answer = cli("status", "latest")
    assert "wa (app app-1): 2 pending; stopped, everything is kept: no such token" in answer.out
    assert "wa (app app-2): 1 pending\n" in answer.out
    found = cli("status", "latest", "--json").json
    assert (found["waiting"], found["stopped"]) == ({"wa/app-1": 2, "wa/app-2": 1}, {"wa/app-1": "no such token"})


def test_each_limit_of_a_connection_stands_by_itself(cli: Cli, apps: str) -> None:
    """As data: a connection with several limits is one entry for each, and one without anything to do stands once."""
    found = cli("status", "--json").json["connections"]

    assert apps == "wa/app-1"
    assert [(one["connection"], one["bucket"], one["pending"], one["rate"]) for one in found] == [
        ("capillary", "", 0, "100/minute"),
        ("wa", "app-1", 2, "5/minute"),
        ("wa", "app-2", 1, "5/minute"),
    ]


def test_a_source_that_is_listened_to_is_no_unread_file(cli: Cli, url: str) -> None:
    """While a listener is at work its import is open, and there is no file to be run again."""
    cli("migrate")
    ledger = Ledger(url)
    ledger.intake.open_import(ImportSource("redis", "stream", "run", 0, None, stream=True))
    ledger.close()
    answer = cli("status", "latest")
    assert "its listener is still running" in answer.out
    assert "file" not in answer.out


def test_an_import_can_be_copied_from_a_narrow_terminal(
    cli: Cli, consents: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In eighty columns an import's id stands whole; its day is in the id, so nothing else need tell it."""
    id_ = cli("import", consents, "--json").json["import"]
    assert "started (UTC)" in cli("status").out
    monkeypatch.setenv("COLUMNS", "80")
    narrow = cli("status").out
    assert any(line.startswith(f"{id_}  ") for line in narrow.splitlines())
    assert "started (UTC)" not in narrow


def test_a_table_can_be_read_in_forty_columns(cli: Cli, consents: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a phone each column was a letter wide; there the cells stand below one another with their names."""
    id_ = cli("import", consents, "--json").json["import"]
    monkeypatch.setenv("COLUMNS", "40")
    shown = cli("status").out.splitlines()
    assert f"import: {id_}" in shown
    assert shown[shown.index(f"import: {id_}") + 2] == "  rows: 6"
    assert max(map(len, shown)) <= 40
