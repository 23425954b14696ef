"""Two watchers of one folder are killed at random: each file ends where it belongs, and each row is recorded once."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from consent.ledger.ledger import Ledger
from tests.support.company import company
from tests.support.watched import dozen, put, settled, where


@pytest.mark.proof
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_watchers_lose_nothing_and_read_nothing_twice(tmp_path: Path, seed: int) -> None:
    """The watcher that comes next goes on behind the rows that are recorded."""
    odds = random.Random(seed)  # the same kills each time
    drop, large = tmp_path / "drop", 150_000
    with company(tmp_path) as shop:
        files = dozen(large)
        put(drop, files)
        watchers = [shop.start("watch", f"{drop}?poll=0.1") for _ in range(2)]
        try:
            until, kills = time.monotonic() + 240, 0
            while where(drop) != settled() and time.monotonic() < until:
                time.sleep(odds.uniform(0.8, 4.0))
                if kills < 12:
                    kills += 1
                    victim = odds.randrange(2)
                    watchers[victim].kill()
                    watchers[victim].communicate()
                    watchers[victim] = shop.start("watch", f"{drop}?poll=0.1")
            assert where(drop) == settled()
            for one in watchers:
                one.terminate()
                assert one.wait(30) == 143
        finally:
            for one in watchers:
                one.kill()
                one.communicate()
    _each_row_is_recorded_once(tmp_path, large)


def _each_row_is_recorded_once(folder: Path, large: int) -> None:
    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
    found = [one for id_ in ledger.queries.recent_imports() if (one := ledger.queries.report(id_))]
    ledger.close()
    assert Counter(Path(one.name).name.replace("twice", "good") for one in found) == Counter(
        ["good.csv", "header-only.csv", "lines.ndjson", "windows.csv", "bad-rows.csv", "large.csv"]
    )
    rows = {Path(one.name).name: one.rows for one in found}
    assert (rows["large.csv"], rows["bad-rows.csv"]) == (large, 50)
    assert all(one.state == "released" and one.balanced for one in found)
    rejects = (folder / "drop" / "done" / "bad-rows.csv.rejects.csv").read_text().splitlines()
    assert len(rejects) == 16
