"""A watched folder: each file ends where it belongs, whatever is wrong with the others."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from consent.errors import SourceUnavailable
from consent.guards.rules import GuardRules
from consent.ledger.ledger import Ledger
from producers.files.file import PreparedFile
from producers.ingest_file import ImportResult, ingest_file
from producers.watch.watcher import watch
from tests.support.command_line import HEADER
from tests.support.watched import dozen, put, settled, watcher, where, zipped


def test_each_of_a_dozen_files_ends_where_it_belongs(own: Ledger, folder: Path) -> None:
    """Good ones are recorded and moved into done/, others into failed/ with the reason; half of one stays."""
    put(folder, dozen())
    watching = watcher(own, folder)
    assert watching.look() == 0  # a file counts as finished when two looks find it the same
    assert watching.look() == 11

    assert where(folder) == settled()
    assert "none of its columns is known" in (folder / "failed" / "wrong-header.csv.reason.txt").read_text()
    reports = {Path(one.name).name: one for id_ in own.queries.recent_imports() if (one := own.queries.report(id_))}
    assert (reports["bad-rows.csv"].rejected, reports["large.csv"].accepted) == (15, 2000)
    assert len(reports) == 7  # of two with the same bytes one is known
    assert watching.look() == 0


def test_a_file_that_changes_is_not_read(own: Ledger, folder: Path) -> None:
    """Its writer may be slow, and its time may be old: it was copied with it."""
    put(folder, {"slow.csv": dozen()["good.csv"]})
    watching = watcher(own, folder, "age=1m")
    watching.look()
    put(folder, {"slow.csv": dozen()["bad-rows.csv"]})
    assert watching.look() == 0
    assert watching.look() == 1

    (folder / "young.csv").write_bytes(dozen()["good.csv"])
    assert [watching.look(), watching.look()] == [0, 0]


def test_a_marker_says_that_a_file_is_ready(own: Ledger, folder: Path) -> None:
    """Nothing else does, and it goes when the file goes."""
    put(folder, {"a.csv": dozen()["good.csv"], "b.csv": dozen()["good.csv"], "b.csv.done": b""})
    assert watcher(own, folder, "ready=marker").look() == 1
    assert where(folder) == {".": {"a.csv"}, "done": {"b.csv"}, "failed": set()}


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ({"rows": 2000}, None),
        ({"sha256": hashlib.sha256(dozen()["large.csv"]).hexdigest().upper(), "rows": 2000}, None),
        ({"rows": 1999}, "has 2,000 rows, and its manifest says 1,999"),
        ({"sha256": "0" * 64}, "another sha256"),
        ({}, "neither rows nor sha256"),
        ([], "no JSON object"),
    ],
)
def test_a_manifest_is_checked_before_anything_is_recorded(
    own: Ledger, folder: Path, manifest: object, reason: str | None
) -> None:
    """A file that was cut short on its way records nothing."""
    put(folder, {"large.csv": dozen()["large.csv"]})
    watching = watcher(own, folder, "ready=manifest")
    assert watching.look() == 0
    (folder / "large.csv.manifest.json").write_text(json.dumps(manifest))

    assert watching.look() == 1

    assert where(folder)["."] == set()
    assert len(own.queries.recent_imports()) == (1 if reason is None else 0)
    if reason:
        assert reason in (folder / "failed" / "large.csv.reason.txt").read_text()


def test_a_file_that_cannot_be_moved_is_not_read_again(own: Ledger, folder: Path, tmp_path: Path) -> None:
    """It is moved as soon as that works; until then each look tries, and says it once."""
    (folder / "done").symlink_to(tmp_path)
    put(folder, {"a.csv": dozen()["good.csv"]})
    watching = watcher(own, folder)
    assert [watching.look() for _ in range(4)] == [0, 1, 0, 0]
    assert (folder / "a.csv").exists()
    assert len([message for message in watching.observer.messages if "cannot be moved" in message]) == 1

    (folder / "done").unlink()
    assert watching.look() == 0
    assert where(folder) == {".": set(), "done": {"a.csv"}, "failed": set()}


@pytest.mark.parametrize(("after", "left"), [("leave", {"a.csv", "bad.csv"}), ("delete", set())])
def test_files_may_stay_or_go(own: Ledger, folder: Path, after: str, left: set[str]) -> None:
    """What stays is read once; what cannot be used is kept, with the reason, where files are to go."""
    put(folder, {"a.csv": dozen()["good.csv"], "bad.csv": b"a,b\n1,2\n"})
    watching = watcher(own, folder, f"after={after}")
    assert [watching.look() for _ in range(3)] == [0, 2, 0]
    assert where(folder)["."] == left
    assert where(folder)["failed"] == (set() if after == "leave" else {"bad.csv", "bad.csv.reason.txt"})


def test_a_file_put_back_is_read_again(own: Ledger, folder: Path) -> None:
    """Someone has mapped its columns since; its bytes, name and time are the same."""
    put(folder, {"odd.csv": b"kunde,kanal,art,tat\n1001417,EMAIL,BULK,OPTOUT\n"})
    watching = watcher(own, folder)
    assert [watching.look(), watching.look()] == [0, 1]
    assert where(folder)["failed"] == {"odd.csv", "odd.csv.reason.txt"}
    (folder / "failed" / "odd.csv").rename(folder / "odd.csv")
    options = replace(
        watching.reading.options, maps={"kunde": "user_id", "kanal": "channel", "art": "priority", "tat": "action"}
    )
    watching.reading = replace(watching.reading, options=options)
    assert [watching.look(), watching.look()] == [0, 1]
    assert where(folder)["done"] == {"odd.csv"}


def test_links_are_no_files_of_the_folder(own: Ledger, folder: Path, tmp_path: Path) -> None:
    """One that another user puts there may lead to any file of ours."""
    (tmp_path / "secret.csv").write_bytes(dozen()["good.csv"])
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    watching = watcher(own, folder, "age=0")
    assert [watching.look(), watching.look()] == [0, 0]


def test_a_place_that_is_away_stops_no_other(own: Ledger, folder: Path, tmp_path: Path) -> None:
    """It is said once, and once when it is back."""
    away, here = watcher(own, tmp_path / "away", "poll=0.01&age=0"), watcher(own, folder, "poll=0.01")
    put(folder, {"a.csv": dozen()["good.csv"]})
    with pytest.raises(SourceUnavailable):
        away.look()
    turns = count()

    def wait(_seconds: float) -> None:
        time.sleep(0.02)
        if next(turns) == 3:
            (tmp_path / "away").mkdir()

    messages = away.observer.messages
    until = time.monotonic() + 20
    watch(
        [away, here],
        lambda: (len(messages) == 2 and where(folder)["done"] == {"a.csv"}) or time.monotonic() > until,
        wait,
    )

    assert [message.rpartition("away ")[2] for message in messages] == [
        "is not there; trying again until it can be used, nothing is lost",
        "can be used again",
    ]
    assert where(folder)["done"] == {"a.csv"}


def test_a_file_that_did_not_come_is_told(own: Ledger, folder: Path) -> None:
    """Once for each deadline; a file of another pattern does not count, and one that cannot be used neither."""
    put(folder, {"other.csv": dozen()["good.csv"], "night-1.csv": b""})
    everything, night = watcher(own, folder), watcher(own, folder, "pattern=night*&expect=00:00&poll=0.01")
    assert [everything.look(), everything.look()] == [0, 2]
    assert night.is_overdue()
    turns = count()
    watch([night], lambda: next(turns) > 8, lambda _: time.sleep(0.02))
    assert len([message for message in night.observer.messages if "file_missing" in message]) == 1

    put(folder, {"night-2.csv": dozen()["large.csv"]})
    assert [night.look(), night.look(), night.is_overdue()] == [0, 1, False]


def test_a_bug_on_one_file_stops_no_other(own: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file goes into failed/, and what is said of it names neither its cells nor the error's words."""
    put(folder, {"a.csv": dozen()["large.csv"], "b.csv": dozen()["good.csv"]})
    os.utime(folder / "a.csv", (1_600_000_000,) * 2)

    def fail(file: PreparedFile, ledger: Ledger) -> ImportResult:
        if file.name.endswith("a.csv"):
            raise RuntimeError("500000007")
        return ingest_file(file, ledger)

    monkeypatch.setattr("producers.watch.watcher.ingest_file", fail)
    watching = watcher(own, folder)
    assert [watching.look(), watching.look()] == [0, 2]
    reason = (folder / "failed" / "a.csv.reason.txt").read_text()
    assert "please report it" in reason
    assert "500000007" not in reason
    assert where(folder)["done"] == {"b.csv"}


def test_a_file_that_a_guard_holds_is_kept_apart(own: Ledger, folder: Path) -> None:
    """It would opt people in who have opted out: someone looks at it first."""
    out = [f"{700_000_000 + n},EMAIL,BULK,OPTOUT,2026-01-02T00:00:00Z" for n in range(300)]
    put(folder, {"out.csv": "\n".join([HEADER, *out, ""]).encode()})
    watching = watcher(own, folder)
    options = replace(watching.reading.options, guards=GuardRules())
    watching.reading = replace(watching.reading, options=options)
    assert [watching.look(), watching.look()] == [0, 1]
    put(folder, {"in.csv": "\n".join([HEADER, *out, ""]).replace("OPTOUT,2026-01", "OPTIN,2026-02").encode()})
    assert [watching.look(), watching.look()] == [0, 1]

    assert {path.name for path in (folder / "held").iterdir()} == {"in.csv"}
    assert where(folder)["done"] == {"out.csv"}
    assert any("is held as import" in message for message in watching.observer.messages)

    again = "\n".join([HEADER, *out, ""]).replace("OPTOUT,2026-01", "OPTIN,2026-03")
    put(folder, {"in.zip": zipped({"good.csv": dozen()["good.csv"], "in.csv": again.encode()})})
    assert [watching.look(), watching.look()] == [0, 1]
    assert {path.name for path in (folder / "held").iterdir()} == {"in.csv", "in.zip"}  # one member is enough
