"""What became of a file goes back to where it came from: beside its rows, and as a stream of outcomes."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.support.company import company

HEADER = "crm_id,user_id,channel,priority,action,effective_at\n"
ROWS = """\
A-1,387006417,EMAIL,BULK,OPTOUT,2026-11-20T08:30:00Z
A-2,387006418,FAX,BULK,OPTOUT,2026-11-20T08:30:00Z
A-3,387006419,EMAIL,BULK,OPTOUT,2026-11-20T08:30:00Z
A-4,387006417,EMAIL,BULK,OPTIN,2026-11-19T08:30:00Z
=A-5,387006417,EMAIL,BULK,OPTOUT,2026-11-20T08:30:00Z
"""


def test_a_crm_reads_results_beside_its_rows_and_a_warehouse_follows(tmp_path: Path) -> None:
    """Each row of the export comes back once with its outcome; the warehouse sees a dead letter, and its replay."""
    with company(tmp_path) as shop:
        shop.fault(kind="unknown", users=["387006419"])
        (tmp_path / "export.csv").write_text(HEADER + ROWS)
        _, found, _ = shop.run("run", "export.csv")

        code, answer, stderr = shop.run("results", "latest", "export.csv", "--output", "export.results.csv")

        assert code == 0, stderr
        path = tmp_path / "export.results.csv"
        assert path.stat().st_mode & 0o777 == 0o600
        rows = list(csv.DictReader(path.read_text().splitlines()))
        assert [(row["crm_id"], row["_outcome"]) for row in rows] == [
            ("A-1", "applied"),
            ("A-2", "rejected"),
            ("A-3", "dead"),
            ("A-4", "superseded"),
            ("'=A-5", "duplicate"),
        ]
        assert (rows[1]["_code"], rows[2]["_code"]) == ("unknown_value", "1012")
        assert rows[2]["_reason"] == "Capillary cannot find this customer"
        assert rows[0]["_settled_at"].endswith("Z")
        assert answer["outcomes"] == dict.fromkeys(("applied", "rejected", "dead", "superseded", "duplicate"), 1)
        assert all(answer["outcomes"][name] == found[name] for name in ("applied", "rejected", "dead", "superseded"))

        _, first, _ = shop.run("changes")
        shop.fix()
        shop.run("dead-letters", "replay", "--all", "--yes", "--why", "the customer exists now")
        shop.run("run")
        _, then, _ = shop.run("changes", "--after", first["cursor"])

        assert sorted(one["state"] for one in first["changes"]) == ["applied", "dead", "superseded"]
        assert [one["state"] for one in then["changes"]] == ["pending", "applied"]
        [dead] = [one["id"] for one in first["changes"] if one["state"] == "dead"]
        assert {one["id"] for one in then["changes"]} == {dead}
