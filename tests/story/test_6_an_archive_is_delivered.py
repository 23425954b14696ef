"""A zip archive with a workbook and JSON lines is delivered by one command, as it comes."""

from __future__ import annotations

import json
import os
import time
import zipfile
from datetime import datetime
from pathlib import Path

from tests.support.company import assert_balanced, company
from tests.support.files.workbooks import workbook

HEAD = ["user_id", "channel", "priority", "action", "effective_at"]
WHEN = datetime(2026, 1, 20, 8, 30)  # noqa: DTZ001 - a sheet knows no zones


def test_an_archive_of_a_workbook_and_json_lines_is_delivered(tmp_path: Path) -> None:
    """One opt-out of the workbook is newer than the opt-in of the other file, and the order in the archive is no order.

    A customer's number that the sheet holds as a number keeps its digits; each member has its own counts; a second run
    makes no call.
    """
    sheet = workbook([HEAD, [387006417, "EMAIL", "BULK", "OPTOUT", WHEN], [387006418, "FAX", "BULK", "OPTOUT", WHEN]])
    lines = [
        {"user_id": 387006417, "channel": "EMAIL", "priority": "BULK", "action": "OPTIN", "effective_at": "2026-01-19"},
        {"user_id": 387006419, "channel": "SMS", "priority": "TRANS", "action": "OPTOUT", "effective_at": "2026-01-19"},
    ]
    with company(tmp_path) as shop:
        path = tmp_path / "export.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("contacts.xlsx", sheet)
            packed.writestr("crm/changes.ndjson", "".join(json.dumps(one) + "\n" for one in lines) + "{broken\n")
        os.utime(path, (time.time() - 60,) * 2)

        code, found, stderr = shop.run("run", path, "--workers", "1")
        _, again, _ = shop.run("run", path, "--workers", "1")

        assert code == 1, stderr
        assert_balanced(found)
        assert [(one["file"].rpartition("export.zip")[2], one["state"]) for one in found["files"]] == [
            ("/contacts.xlsx", "recorded"),
            ("/crm/changes.ndjson", "recorded"),
        ]
        assert (found["rows"], found["rejected"], found["superseded"]) == (5, 2, 1)
        assert shop.held() == {("387006417", "EMAIL", "BULK"): "OPTOUT", ("387006419", "MOBILE", "TRANS"): "OPTOUT"}
        assert again["calls"] == found["calls"] == 2
    assert sorted(one.name for one in tmp_path.glob("*.rejects.csv")) == [
        "export.zip.member-1.rejects.csv",
        "export.zip.member-2.rejects.csv",
    ]
