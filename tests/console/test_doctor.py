"""The doctor: what is wrong is named with what to do, and no secret is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.console.answering import Cli


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
    ("setting", "value", "words"),
    [
        ("CONNECTIONS__CAPILLARY__PASSWORD", "", "PASSWORD"),
        ("CONNECTIONS__CAPILLARY__BASE_URL", "http://example.com", "https://"),
        ("CONNECTIONS__CAPILLARY__PROVIDER", "nobody", "there is no provider"),
        ("BROKER_URL", "redis://127.0.0.1:1/0", "it cannot be reached"),
        ("BROKER_URL", "nonsense", "redis://localhost:6379/0"),
        ("LEDGER_URL", "postgresql+psycopg://kim:pw@127.0.0.1:1/x", "Connection refused"),
        ("LEASE_SECONDS", "5", "OPTRELAY_LEASE_SECONDS"),
        ("STROKE_SIZE", "x", "OPTRELAY_STROKE_SIZE"),
    ],
)
def test_each_problem_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, words: str) -> None:
    """Whatever is wrong is said, and the exit code is 1."""
    monkeypatch.setenv(f"OPTRELAY_{setting}", value)
    answer = cli("doctor")
    assert answer.code == 1
    assert words in answer.out


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
