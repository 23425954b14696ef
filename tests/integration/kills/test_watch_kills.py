"""Two watchers of one place are killed at random: each file ends where it belongs, and each row is recorded once."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from consent.ledger.ledger import Ledger
from tests.support.company import Company, company
from tests.support.servers.object_stores import store
from tests.support.servers.sftp_server import sftp_server
from tests.support.watched import dozen, put, settled, where

LARGE = 300_000


@dataclass
class Watched:
    """A place with its files; `kept` is where this machine keeps the rejected rows."""

    url: str
    where: Callable[[], dict[str, set[str]]]
    kept: Path

    @property
    def settled(self) -> dict[str, set[str]]:
        """Where each file belongs in the end."""
        return settled(remote="://" in self.url)


@contextmanager
def place(kind: str, folder: Path) -> Iterator[Watched]:
    """A folder of this machine, one behind SFTP, or a prefix of a bucket."""
    files, drop, remote = dozen(LARGE), folder / "drop", folder / ".optrelay" / "rejects"
    if kind == "s3":
        with store("s3") as bucket:
            bucket.put(files)
            yield Watched(f"{bucket.url}?poll=0.1&age=0", bucket.where, remote)
        return
    put(drop, files)
    if kind == "folder":
        yield Watched(f"{drop}?poll=0.1", lambda: where(drop), drop / "done")
        return
    with sftp_server(folder) as server:
        url = f"{server.url()}?poll=0.1&known_hosts={server.known_hosts}"
        yield Watched(url, lambda: where(drop), remote)


@pytest.mark.takes(20)
@pytest.mark.proof
@pytest.mark.parametrize(("kind", "seed"), [("folder", 1), ("sftp", 3), ("s3", 4)])
def test_killed_watchers_lose_nothing_and_read_nothing_twice(tmp_path: Path, kind: str, seed: int) -> None:
    """The watcher that comes next goes on behind the rows that are recorded."""
    with company(tmp_path) as shop, place(kind, tmp_path) as watched:
        _watch_with_kills(shop, watched, random.Random(seed))  # the same kills each time
        rejects = next(watched.kept.rglob("bad-rows.csv.rejects.csv")).read_text().splitlines()
        assert len(rejects) == 16
    _each_row_is_recorded_once(tmp_path)


def _watch_with_kills(shop: Company, watched: Watched, odds: random.Random) -> None:
    watchers = [shop.start("watch", watched.url) for _ in range(2)]
    try:
        until, kills = time.monotonic() + 400, 0
        while watched.where() != watched.settled and time.monotonic() < until:
            time.sleep(odds.uniform(0.8, 4.0))
            if kills < 12:
                kills += 1
                victim = odds.randrange(2)
                watchers[victim].kill()
                watchers[victim].communicate()
                watchers[victim] = shop.start("watch", watched.url)
        assert watched.where() == watched.settled
        for one in watchers:
            one.terminate()
            assert one.wait(30) in (143, -signal.SIGTERM)  # the latter if it has only just been started
    finally:
        for one in watchers:
            one.kill()
            one.communicate()


def _each_row_is_recorded_once(folder: Path) -> None:
    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
    found = [one for id_ in ledger.queries.recent_imports() if (one := ledger.queries.report(id_))]
    ledger.close()
    assert Counter(Path(one.name).name.replace("twice", "good") for one in found) == Counter(
        ["good.csv", "header-only.csv", "lines.ndjson", "windows.csv", "bad-rows.csv", "large.csv", "sheet.xlsx"]
    )
    rows = {Path(one.name).name: one.rows for one in found}
    assert (rows["large.csv"], rows["bad-rows.csv"]) == (LARGE, 50)
    assert all(one.state == "released" and one.balanced for one in found)
