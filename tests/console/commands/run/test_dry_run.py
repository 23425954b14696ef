"""Saying what would happen, and doing nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consent.ledger.ledger import Intake
from tests.support.command_line import HEADER, ROWS, Cli, settle_all, write


def test_a_dry_run_leaves_nothing_behind(cli: Cli, consents: str, tmp_path: Path) -> None:
    """A dry run makes no ledger, no rejects file and no other file."""
    before = sorted(tmp_path.iterdir())
    answer = cli("run", consents, "--dry-run")
    assert "nothing was recorded" in answer.out
    assert sorted(tmp_path.iterdir()) == before


def test_it_predicts_what_the_import_then_does(cli: Cli, consents: str) -> None:
    """The forecast is what then happens, row for row."""
    predicted = cli("import", consents, "--dry-run", "--json")
    done = cli("import", consents, "--json")
    same = ("rows", "accepted", "rejected", "duplicates", "superseded", "unchanged", "pending", "reject_codes")
    assert {name: predicted.json[name] for name in same} == {name: done.json[name] for name in same}
    assert (predicted.json["customers"], predicted.json["calls"], predicted.code) == (2, 2, 1)


def test_it_knows_what_the_ledger_knows(cli: Cli, consents: str, url: str, tmp_path: Path) -> None:
    """Known rows are duplicates, older changes superseded, confirmed ones unchanged: no call is predicted for them."""
    cli("import", consents)
    settle_all(url)
    more = write(
        tmp_path,
        "more.csv",
        "1002888,EMAIL,TRANS,OPTIN,2026-01-03T00:00:00Z",  # recorded before
        "1001417,EMAIL,BULK,OPTIN,2025-06-01T00:00:00Z",  # older than what the ledger holds
        "1001417,EMAIL,BULK,OPTOUT,2026-02-01T00:00:00Z",  # newer, but confirmed already
        "1001417,MOBILE,BULK,OPTOUT,2026-02-01T00:00:00Z",  # new
    )
    predicted = cli("import", more, "--dry-run", "--json").json
    assert (predicted["duplicates"], predicted["superseded"], predicted["unchanged"], predicted["pending"]) == (
        1,
        1,
        1,
        1,
    )
    assert predicted["calls"] == 1
    done = cli("import", more, "--json").json
    assert {name: predicted[name] for name in ("duplicates", "superseded", "unchanged", "pending")} == {
        name: done[name] for name in ("duplicates", "superseded", "unchanged", "pending")
    }


def test_it_predicts_that_a_file_which_broke_off_is_made_up_for(
    cli: Cli, consents: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a file was recorded and told to no one: the whole file would tell all of it, and the dry run says so."""

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Intake, "finish_reading", stopped)
        assert cli("import", consents).code == 130
    whole = write(tmp_path, "whole.csv", *ROWS, "1009000,EMAIL,BULK,OPTOUT,2026-02-01T00:00:00Z")

    predicted = cli("import", whole, "--dry-run", "--json").json
    done = cli("import", whole, "--json").json

    same = ("rows", "accepted", "rejected", "duplicates", "superseded", "unchanged", "pending")
    assert {name: predicted[name] for name in same} == {name: done[name] for name in same}
    assert predicted["calls"] == 3


def test_the_real_ledger_is_only_read(cli: Cli, consents: str, tmp_path: Path) -> None:
    """Rehearsing a file leaves the ledger's figures as they were."""
    cli("import", consents)
    before = figures(cli)
    write(tmp_path, "more.csv", "1009000,EMAIL,BULK,OPTOUT,2026-02-01T00:00:00Z")
    cli("run", "more.csv", "--dry-run")
    assert figures(cli) == before


def figures(cli: Cli) -> dict[str, Any]:
    """What status tells, without what time alone changes: the age of what waits, and when it will be done."""
    status: dict[str, Any] = cli("status", "--json").json
    return {name: value for name, value in status.items() if name not in {"oldest_pending_opt_out", "deadlines"}}


def test_a_file_that_was_recorded_before_is_named(cli: Cli, consents: str) -> None:
    """Who rehearses last night's file again is told that it would change nothing."""
    number = cli("import", consents, "--json").json["import"]
    predicted = cli("import", consents, "--dry-run", "--json").json
    assert (predicted["already_imported"], predicted["calls"]) == ({consents: number}, 0)


def test_the_time_is_told_at_the_connections_rate(cli: Cli, tmp_path: Path) -> None:
    """Three hundred customers at Capillary's documented hundred a minute are said to take three minutes."""
    rows = [f"{2_000_000 + n},EMAIL,BULK,OPTOUT,2026-01-01T00:00:00Z" for n in range(300)]
    answer = cli("run", write(tmp_path, "many.csv", *rows), "--dry-run")
    assert "capillary: 300 calls; at 100/minute: about 3 min" in answer.out


def test_a_file_named_twice_is_counted_once(cli: Cli, consents: str, tmp_path: Path) -> None:
    """A copy of the same bytes adds nothing."""
    write(tmp_path, "copy.csv", *ROWS)
    assert cli("run", consents, "copy.csv", "--dry-run", "--json").json["rows"] == 6


def test_each_limit_has_its_own_forecast(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Infobip's blocklist is told at its own rate and batch; a look may do, or lead to a write: both are told."""
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__INFOBIP__BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__INFOBIP__API_KEY", "throw-away")
    rules = [f",SMS,RULE-{n},DELIVERY,OPTIN,2026-01-01T00:00:00Z" for n in range(3)]
    people = [f"1555010{n:04},,,,OPTOUT,2026-01-01T00:00:00Z" for n in range(1200)]
    header = "destination,channel,subscription_id,events,action,effective_at"
    name = write(tmp_path, "infobip.csv", *rules, *people, header=header)

    answer = cli("run", name, "--dry-run", "--connection", "infobip")
    predicted = cli("run", name, "--dry-run", "--connection", "infobip", "--json").json

    assert "infobip: at least 3 calls, 6 if all is written; at 10/second: about 1 s" in answer.out
    assert "infobip (blocklist): 2 calls; at 1/second: about 2 s" in answer.out
    assert (predicted["calls"], predicted["calls_at_least"], predicted["seconds"]) == (8, 5, 2.0)
    buckets = predicted["connections"]["infobip"]["buckets"]
    assert {bucket: (one["calls"], one["calls_at_least"]) for bucket, one in buckets.items()} == {
        "": (6, 3),
        "blocklist": (2, 2),
    }


def test_it_tells_what_would_be_ignored(cli: Cli, tmp_path: Path) -> None:
    """A column that no one knows is named by the dry run as it is by the run."""
    write(tmp_path, "more.csv", "1,EMAIL,BULK,OPTOUT,2026-01-01T00:00:00Z,x", header=f"{HEADER},colour")
    assert "column 'colour' is not known and is ignored" in cli("run", "more.csv", "--dry-run").err


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_what_may_be_a_slip_is_counted(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    """Everybody at a company is blocked by `ann.example.com`, a mistyped address, and no one notices."""
    for name, value in (("BASE_URL", "http://127.0.0.1:1"), ("API_KEY", "throw-away"), ("REGION", "us")):
        monkeypatch.setenv(f"OPTRELAY_CONNECTIONS__INFOBIP__{name}", value)
    people = ("ann.example.com", "+447700900123", "(202) 555-0104", "+44 7700 900124", "ann@example.com", "555-0101")
    write(
        tmp_path,
        "people.csv",
        *(f"{one},OPTOUT,2026-01-01" for one in people),
        header="destination,action,effective_at",
    )

    refused = cli("import", "people.csv", "--connection", "infobip", "--dry-run", "--json")
    answer = cli("import", "people.csv", "--connection", "infobip", "--allow-domains", *more)

    assert refused.json["reject_codes"] == {"unusable_value": 1, "whole_domain": 1}
    assert "whole e-mail domains in place of addresses: 1; they are delivered all the same" in answer.err
    assert "possible but not known to be in use: 2;" in answer.err
    assert (answer.code, "unusable_value" in answer.out) == (1, True)


def test_the_forecast_counts_the_latency_that_the_ledger_knows(
    cli: Cli, consents: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls took 12 ms lately and one may be under way: a hundred take 1.2 s, though the limit allows a thousand."""
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__CAPILLARY__RATE", "1000/second")
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__CAPILLARY__CONCURRENCY", "1")
    rows = [f"{1_020_000 + n},EMAIL,BULK,OPTOUT,2026-02-01T00:00:00Z" for n in range(100)]
    more = write(tmp_path, "more.csv", *rows)

    before = cli("import", more, "--dry-run", "--json").json["seconds"]
    cli("import", consents)
    settle_all(url)
    after = cli("import", more, "--dry-run", "--json").json["seconds"]

    assert (before, after) == (0.1, 1.2)
    assert "at 1000/second and the provider's latency" in cli("import", more, "--dry-run").out
