"""The doctor: what is wrong is named with what to do, and no secret is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import Cli


def test_a_sound_installation_has_no_problem(cli: Cli) -> None:
    """With a connection configured and nothing else, everything needed is there."""
    answer = cli("doctor", "--json")
    assert (answer.code, answer.json["ok"]) == (0, True)


def test_the_password_is_never_shown(cli: Cli) -> None:
    """It is said that credentials are there, not what they are."""
    answer = cli("doctor")
    assert "credentials are set" in answer.out
    assert "hush-hush-7" not in answer.out + answer.err


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("CONNECTIONS__CAPILLARY__PASSWORD", "", "PASSWORD"),
        ("CONNECTIONS__CAPILLARY__BASE_URL", "http://example.com", "https://"),
        ("CONNECTIONS__CAPILLARY__PROVIDER", "unknown", "there is no provider"),
        ("CONNECTIONS__SHOP__BASE_URL", "http://127.0.0.1", "OPTRELAY_CONNECTIONS__<NAME>__PROVIDER names it"),
        ("BROKER_URL", "redis://127.0.0.1:1/0", "it cannot be reached"),
        ("BROKER_URL", "nonsense", "redis://localhost:6379/0"),
        ("LEDGER_URL", "postgresql+psycopg://kim:pw@127.0.0.1:1/x", "Connection refused"),
        ("LEASE_SECONDS", "5", "OPTRELAY_LEASE_SECONDS"),
        ("BATCH_CUSTOMERS", "x", "OPTRELAY_BATCH_CUSTOMERS"),
    ],
)
def test_each_problem_is_named(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, message: str
) -> None:
    """Whatever is wrong is said, and the exit code is 1."""
    monkeypatch.setenv(f"OPTRELAY_{setting}", value)
    answer = cli("doctor")
    assert answer.code == 1
    assert message in answer.out


def test_a_ledger_that_others_can_read_is_a_problem(cli: Cli, tmp_path: Path) -> None:
    """The ledger names persons: everybody's eyes on it are reported, with the remedy."""
    cli("migrate")
    (tmp_path / "optrelay.db").chmod(0o644)
    answer = cli("doctor")
    assert (answer.code, "chmod 600" in answer.out) == (1, True)


def test_a_ledger_of_another_revision_is_a_problem(cli: Cli, tmp_path: Path) -> None:
    """An empty database asks for `optrelay migrate`."""
    (tmp_path / "optrelay.db").touch(0o600)
    answer = cli("doctor")
    assert (answer.code, "optrelay migrate" in answer.out) == (1, True)


def test_a_misspelt_setting_is_pointed_out(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that means nothing is named, with what it may have been meant to be, and not what it holds."""
    monkeypatch.setenv("OPTRELAY_LEGER_URL", "sqlite:///secret.db")
    answer = cli("doctor")
    assert "OPTRELAY_LEGER_URL is no setting and is ignored" in answer.out
    assert "did you mean OPTRELAY_LEDGER_URL?" in answer.out
    assert "secret" not in answer.out


def test_a_file_that_is_no_ledger_is_named(cli: Cli, tmp_path: Path) -> None:
    """A damaged file is said to be one, not only that something failed."""
    (tmp_path / "optrelay.db").write_bytes(b"this was a ledger once" * 100)
    answer = cli("status")
    assert (answer.code, "file is not a database" in answer.err) == (5, True)
