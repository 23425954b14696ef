"""The command `deadlines`: opt-outs that are late, and those that wait for a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from consent.ledger.queries.backlog import StuckOptOuts
from console.ui.outlook import stuck_in_words
from tests.support.command_line import Cli, bury_all, write


def test_a_late_dead_letter_is_shown_and_checked(cli: Cli, url: str, tmp_path: Path) -> None:
    """A mailbox provider's two days are over, and the opt-out died: `--check` says so until someone decides."""
    since = datetime.now(UTC) - timedelta(days=3)
    assert cli("import", write(tmp_path, "a.csv", f"1001417,EMAIL,BULK,OPTOUT,{since:%Y-%m-%dT%H:%M:%SZ}")).code == 0
    bury_all(url)

    answer = cli("deadlines", "--check", "--json")

    assert answer.code == 1
    [one] = answer.json["stuck"]
    assert (one["state"], one["rule"], one["open"], one["late"]) == ("dead", "gmail-48h", 1, 1)
    assert "Opt-outs that wait for a person" in cli("deadlines").err + cli("deadlines").out

    message = "waits for a person: capillary: 1 opt-out among the dead letters: 1 late by the rule gmail-48h"
    other = write(tmp_path, "b.csv", "1001418,EMAIL,BULK,OPTOUT,2026-11-20T08:30:00Z")
    for command in (("status",), ("run", "--dry-run", other)):
        found = cli(*command, "--json")
        assert found.json["stuck"] == answer.json["stuck"]
        assert message in " ".join((cli(*command).err + cli(*command).out).split())
    assert cli("status", "--check").code == 0

    assert cli("dead-letters", "discard", "--all", "--yes", "--why", "moved away").code == 0
    assert cli("deadlines", "--check").code == 0


def test_a_forecast_says_why_it_is_shown_in_red(cli: Cli, tmp_path: Path) -> None:
    """What is late already is told beside when it will be done, not by a color alone."""
    since = datetime.now(UTC) - timedelta(days=3)
    assert cli("import", write(tmp_path, "a.csv", f"1001417,EMAIL,BULK,OPTOUT,{since:%Y-%m-%dT%H:%M:%SZ}")).code == 0
    answer = cli("status")
    assert "1 customer past the deadline already" in " ".join((answer.out + answer.err).split())


def test_where_not_all_were_looked_at_each_count_is_a_least_one() -> None:
    """Of very many only the first are looked at; how many of the others are late is not known."""
    some = StuckOptOuts("capillary", "held", "gmail-48h", 10_000, 9, 12, None, at_least=True)

    assert stuck_in_words(some) == (
        "capillary: at least 10,000 opt-outs held by a guard: at least 12 late, at least 9 due within a day by the "
        "rule gmail-48h; see `optrelay held`; `optrelay deadlines` looks at all of them"
    )
