"""The address of a watched place: read, or refused with the remedy and without the password."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from consent.errors import ConfigurationError
from producers.watch.address import Expectation, read_watch_address

BERLIN = ZoneInfo("Europe/Berlin")


def test_a_folder_is_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative or whole, with options behind a question mark."""
    monkeypatch.chdir(tmp_path)
    address = read_watch_address("drop?pattern=*.csv&poll=2m&ready=marker&after=leave&connection=crm")
    assert (address.scheme, address.path) == ("file", str(tmp_path / "drop"))
    assert (address.pattern, address.poll, address.ready, address.after) == ("*.csv", 120.0, "marker", "leave")
    assert address.connection == "crm"
    assert read_watch_address("file:///srv/my%20drop").path == "/srv/my drop"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("drop?every=5", "'every' is no option"),
        ("drop?poll=soon", "poll is a time like 90s"),
        ("drop?ready=now", "ready is stable, marker or manifest"),
        ("drop?expect=25:00", "a time of the day like 02:30"),
        ("drop?grace=5m", "belong to expect"),
        ("drop?timezone=Mars", "no time zone"),
        ("drop?pattern", "NAME=VALUE"),
        ("", "no folder of this machine"),
        ("ftp://host/drop", "cannot be watched"),
        ("sftp:///drop", "HOST-OR-BUCKET"),
        ("sftp://host/a/../b", "without .."),
        ("sftp://till:hush-hush-7@host:x/drop", "port"),
    ],
)
def test_what_cannot_be_read_is_refused(url: str, message: str) -> None:
    """The remedy is said, the password is not."""
    with pytest.raises(ConfigurationError, match=message) as error:
        read_watch_address(url)
    assert "hush" not in str(error.value)


def test_a_password_is_never_shown() -> None:
    """Neither by the name under which people and the ledger know the place, nor by its representation."""
    address = read_watch_address("sftp://till:hush-hush-7@files.example.com:2222/drop/")
    assert address.shown == "sftp://till@files.example.com:2222/drop"
    assert "hush" not in repr(address)


@pytest.mark.parametrize(
    "name",
    [
        *(
            ".hidden.csv",
            "a.csv.part",
            "a.tmp",
            "a.csv.filepart",
            "a.csv.rejects.csv",
            "a.csv.reason.txt",
            "a.csv.done",
        ),
        *("a.csv.manifest.json", "../a.csv", "sub/a.csv", "..\\a.csv", "a\n.csv", "a.PART"),
    ],
)
def test_some_files_are_never_read(name: str) -> None:
    """Hidden and unfinished ones, our own, and names that lead elsewhere."""
    address = read_watch_address("drop")
    assert not address.means(name)
    assert address.means("a.csv")
    assert not read_watch_address("drop?pattern=b*").means("a.csv")


def test_a_file_is_expected_each_day() -> None:
    """It may come early: what counts is the day up to the deadline. Summer time moves the deadline with the clock."""
    expect = Expectation(time(2, 30), 5400.0, BERLIN)
    now = datetime(2026, 11, 29, 3, 30, tzinfo=UTC)
    assert expect.deadline(now) == datetime(2026, 11, 29, 4, 0, tzinfo=BERLIN)
    assert expect.is_overdue(None, now)
    assert not expect.is_overdue(datetime(2026, 11, 28, 3, 1, tzinfo=UTC), now)
    assert expect.is_overdue(datetime(2026, 11, 28, 3, 0, tzinfo=UTC), now)
    assert expect.deadline(now - timedelta(hours=1)) == datetime(2026, 11, 28, 4, 0, tzinfo=BERLIN)
    assert expect.deadline(datetime(2026, 7, 1, 2, 1, tzinfo=UTC)) == datetime(2026, 7, 1, 4, 0, tzinfo=BERLIN)
