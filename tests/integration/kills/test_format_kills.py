"""An import of any format is killed while it records, and run again: nothing is lost, nothing is doubled."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import signal
import sqlite3
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest
from backports import zstd

from tests.support.company import Company, company
from tests.support.files.workbooks import workbook

ROWS = 32_000
HEAD = ("user_id", "channel", "priority", "action", "effective_at")
Row = Sequence[str | int]


def rows(first: int, count: int) -> list[Row]:
    """Rows of a customer each, of which one in a thousand cannot be understood."""
    return [
        (number, "FAX" if number % 1_000 == 0 else "EMAIL", "BULK", "OPTOUT", "2026-01-20")
        for number in range(500_000_001 + first, 500_000_001 + first + count)
    ]


def as_csv(some: list[Row]) -> bytes:
    """Rows as a CSV file."""
    text = io.StringIO()
    csv.writer(text).writerows([HEAD, *some])
    return text.getvalue().encode()


def as_lines(some: list[Row]) -> bytes:
    """Rows as JSON lines."""
    return "".join(json.dumps(dict(zip(HEAD, row, strict=True))) + "\n" for row in some).encode()


def as_archive(some: list[Row]) -> bytes:
    """Rows as an archive of a workbook and JSON lines."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.xlsx", workbook([HEAD, *some[: ROWS // 2]]))
        packed.writestr("b", as_lines(some[ROWS // 2 :]))
    return found.getvalue()


FORMATS: dict[str, Callable[[list[Row]], bytes]] = {
    "ndjson": as_lines,
    "csv.gz": lambda some: gzip.compress(as_csv(some)),
    "ndjson.zst": lambda some: zstd.compress(as_lines(some)),
    "xlsx": lambda some: workbook([HEAD, *some]),
    "zip": as_archive,
}


def recorded(folder: Path) -> int:
    """How many changes the ledger holds now."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{folder / 'ledger.db'}?mode=ro", uri=True)) as ledger:
        return int(ledger.execute("SELECT count(*) FROM changes").fetchone()[0])
    return 0


def kill_once_it_has_recorded(shop: Company, path: Path, changes: int) -> None:
    """Start an import and end it with SIGKILL once the ledger holds more changes than so many."""
    process, until = shop.start("import", path), time.monotonic() + 60
    while recorded(shop.folder) <= changes:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.takes(15)
@pytest.mark.proof
@pytest.mark.parametrize("name", FORMATS)
def test_a_killed_import_goes_on_at_its_row(tmp_path: Path, name: str) -> None:
    """It is killed twice; then each row is there once, as a change or in a rejects file, and no copy is left behind."""
    path, spools = tmp_path / f"x.{name}", tmp_path / "tmp"
    path.write_bytes(FORMATS[name](rows(0, ROWS)))
    os.utime(path, (time.time() - 60,) * 2)
    spools.mkdir()
    with company(tmp_path) as shop, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(spools))
        kill_once_it_has_recorded(shop, path, 0)
        kill_once_it_has_recorded(shop, path, recorded(tmp_path))
        assert list(spools.iterdir()) == []

        code, found, stderr = shop.run("import", path)

    assert code == 1, stderr
    assert "went on behind the" in stderr or "these bytes were recorded before" in stderr
    assert (found["rows"], found["rejected"], found["duplicates"]) == (ROWS, ROWS // 1_000, 0)
    assert recorded(tmp_path) == ROWS - ROWS // 1_000
    rejects = [csv.DictReader(io.StringIO(one.read_text())) for one in tmp_path.glob("*.rejects.csv")]
    fixed = sorted(int(row["user_id"]) for one in rejects for row in one)
    assert fixed == [500_000_000 + number for number in range(1_000, ROWS + 1, 1_000)]
