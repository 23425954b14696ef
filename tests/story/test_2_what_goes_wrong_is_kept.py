"""Rows that cannot be read and changes that cannot be delivered: kept, explained, fixed, sent."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.support.company import assert_balanced, company

HEADER = "user_id,channel,priority,action,effective_at\n"
GOOD = "387006417,EMAIL,BULK,OPTOUT,2026-11-20T08:30:00Z\n"


def test_a_bad_row_harms_only_itself_and_can_be_fixed(tmp_path: Path) -> None:
    """FAX is no channel: that row is rejected with line, column and remedy; fixed, the rejects file is imported."""
    with company(tmp_path) as shop:
        (tmp_path / "nightly.csv").write_text(HEADER + GOOD + "387006418,FAX,BULK,OPTOUT,2026-11-20T08:30:00Z\n")

        code, found, _ = shop.run("run", "nightly.csv")

        assert code == 1
        assert (found["applied"], found["rejected"]) == (1, 1)
        rejects = tmp_path / "nightly.csv.rejects.csv"
        [row] = csv.DictReader(rejects.read_text().splitlines())
        assert (row["_line"], row["_column"], row["_code"]) == ("3", "channel", "unknown_value")

        rejects.write_text(rejects.read_text().replace("FAX", "MOBILE"))
        code, found, stderr = shop.run("run", rejects)

        assert code == 0, stderr
        assert shop.held()["387006418", "MOBILE", "BULK"] == "OPTOUT"
        assert_balanced(found)


def test_a_dead_letter_says_why_and_can_be_replayed(tmp_path: Path) -> None:
    """Capillary does not know the customer yet. Once it does, replaying the letter delivers it, once."""
    with company(tmp_path, unknown=("404*",)) as shop:
        shop.fault(kind="unknown", users=["387006419"])
        (tmp_path / "nightly.csv").write_text(HEADER + GOOD + GOOD.replace("387006417", "387006419"))

        code, found, _ = shop.run("run", "nightly.csv")

        assert (code, found["dead"]) == (1, 1)
        _, [letter], _ = shop.run("dead-letters", "list")
        assert (letter["code"], letter["line"], letter["action"]) == ("1012", 3, "OPTOUT")
        assert "387006419" not in letter["target"]

        shop.fix()
        shop.run("dead-letters", "replay", str(letter["id"]), "--yes", "--why", "the customer exists now")
        code, _, stderr = shop.run("run")

        assert code == 0, stderr
        assert shop.held()["387006419", "EMAIL", "BULK"] == "OPTOUT"
        assert shop.run("dead-letters", "list")[1] == []


def test_a_letter_overtaken_by_a_newer_change_is_not_sent(tmp_path: Path) -> None:
    """An opt-in died, then the customer opted out. Replaying the old letter must not bring the opt-in back."""
    with company(tmp_path) as shop:
        shop.fault(kind="unknown", users=["387006419"])
        row = "387006419,EMAIL,BULK,{},2026-11-{}T08:30:00Z\n"
        (tmp_path / "monday.csv").write_text(HEADER + row.format("OPTIN", 16))
        shop.run("run", "monday.csv")
        shop.fix()
        (tmp_path / "tuesday.csv").write_text(HEADER + row.format("OPTOUT", 17))
        shop.run("run", "tuesday.csv")

        shop.run("dead-letters", "replay", "--all", "--yes", "--why", "try again")
        shop.run("run")

        assert shop.held() == {("387006419", "EMAIL", "BULK"): "OPTOUT"}


def test_looking_first_changes_nothing(tmp_path: Path) -> None:
    """A dry run says what would happen and how long it takes; nothing is recorded and no API call is made."""
    with company(tmp_path) as shop:
        (tmp_path / "nightly.csv").write_text(HEADER + GOOD + GOOD.replace("EMAIL", "FAX"))

        code, found, stderr = shop.run("run", "nightly.csv", "--dry-run")

        assert code in (0, 1), stderr
        assert (found["rows"], found["rejected"], found["calls"]) == (2, 1, 1)
        assert shop.stats()["calls"] == 0
        assert not (tmp_path / "nightly.csv.rejects.csv").exists()
