"""The ledger's address: what is written wrongly is refused in words, and no part of it is ever shown."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from consent.ledger.database import Database
from tests.support.command_line import Cli

WRONG = [
    "postgresql+psycopg://optrelay:S3cr@et-Pw@127.0.0.1/x",
    "postgresql+psycopg://optrelay:S3@cret/x@127.0.0.1/x",
    "postgresql+psycopg://optrelay:S3@cret/et#Pw@127.0.0.1/x",
    "postgresql+psycopg://optrelay:S3@cret?et-Pw@127.0.0.1/x",
    "postgresql+psycopg://optrelay:S3/cr@et-Pw@127.0.0.1/x",
    "postgresql+psycopg://optrelay@127.0.0.1:S3cret-Pw/x",
    "postgresql+psycopg://optrelay:S3cret-Pw@127.0.0.1:99999/x",
    "postgresql+psycopg://optrelay@127.0.0.1/x?S3cret-Pw=1",
    "postgresql+nosuch://optrelay:S3cret-Pw@127.0.0.1/x",
    "mysql://optrelay:S3cret-Pw@127.0.0.1/x",
    "S3cret-Pw",
    "sqlite:///x.db?S3cret-Pw=1",
    "postgresql+psycopg://optrelay:S3cret-Pw@127.0.0.1/x?prepare_threshold=often",
]


@pytest.mark.parametrize("address", WRONG, ids=range(len(WRONG)))
def test_a_wrong_address_is_refused_without_repeating_it(
    cli: Cli, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password that is not percent-encoded stands in part on the screen, in logs, and in a question to the DNS."""
    monkeypatch.setenv("OPTRELAY_LEDGER_URL", address)

    for command in ("status", "migrate", "run"):
        answer = cli(command)

        assert answer.code == 2
        assert "OPTRELAY_LEDGER_URL" in answer.err
        assert not any(part in answer.err + answer.out for part in ("S3", "cret", "et-Pw"))


@pytest.mark.parametrize("password", ["pa#ss", "ab/cd", "pa%40ss", "pa?ss", "pa[ss", "pa:ss"])
def test_other_passwords_are_taken_as_they_are(password: str) -> None:
    """A password that works elsewhere is refused here."""
    url = Database(f"postgresql+psycopg://optrelay:{password}@127.0.0.1:5432/optrelay").url

    assert (url.password, url.host, url.port) == (password.replace("%40", "@"), "127.0.0.1", 5432)


def test_a_password_behind_the_question_mark_is_hidden_like_any_other() -> None:
    """`optrelay doctor` shows the address, and hides only a password that stands in its usual place."""
    url = Database("postgresql://127.0.0.1/x?password=S3cret-Pw&sslmode=disable").url

    assert url.password == "S3cret-Pw"
    assert "S3cret" not in url.render_as_string(hide_password=True)


def test_options_in_the_address_reach_the_driver(postgres_database: str) -> None:
    """`?connect_timeout=3` was overruled, and `?prepare_threshold=0` ended with exit code 70."""
    for options in ("prepare_threshold=none", "prepare_threshold=0&connect_timeout=3", "application_name=nightly"):
        mark = "&" if "?" in postgres_database else "?"
        database = Database(f"{postgres_database}{mark}{options}")
        assert database.read(lambda tx: tx.execute(text("SELECT 1")).scalar()) == 1
        database.close()


def test_a_session_that_takes_no_writes_any_more_is_left_for_another(postgres_database: str) -> None:
    """After a switch-over workers stay with the old server, which only reads, until someone restarts them."""
    database = Database(postgres_database)
    database.write(lambda tx: tx.execute(text("CREATE TABLE noted (n int)")), checked=False)
    database.read(lambda tx: tx.execute(text("SET SESSION default_transaction_read_only = on")))

    database.write(lambda tx: tx.execute(text("INSERT INTO noted VALUES (1)")), checked=False)

    assert database.read(lambda tx: tx.execute(text("SELECT count(*) FROM noted")).scalar()) == 1
    database.close()


def test_a_ledger_that_takes_no_writes_is_told(
    cli: Cli, postgres_database: str, consents: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger's server is a standby, everything stands still, and `status` says "ready"."""
    monkeypatch.setenv("OPTRELAY_LEDGER_URL", postgres_database)
    assert cli("migrate").code == 0
    assert cli("status", "--json").json["ledger"] == {"takes_writes": True}
    database = Database(postgres_database)
    name = database.url.database
    statement = f"ALTER DATABASE {name} SET default_transaction_read_only = on"
    database.write(lambda tx: tx.execute(text(statement)), checked=False)
    database.close()

    seen, refused = cli("status", "--json"), cli("import", consents)

    assert seen.json["ledger"] == {"takes_writes": False}
    assert "takes no writes" in seen.err
    assert refused.code == 5
    assert "takes no writes" in " ".join(refused.err.split())
