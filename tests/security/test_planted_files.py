"""A folder that others may write to: what they put there under a name of ours is neither written nor believed."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.errors import ConfigurationError
from consent.files import path_text, private, private_folder, user_name
from tests.support.company import Company, company, shuffled_rows

OTHER_USER = 65_534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file that belongs to someone else")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Company]:
    """A company whose folder is shared."""
    with company(tmp_path) as one:
        yield one


def refused(shop: Company, command: str) -> None:
    """The run ends with exit code 2 and says what is wrong with which file."""
    code, _, stderr = shop.run("run", shop.write(shuffled_rows(3, 3)))
    assert (code, command in stderr) == (2, True), stderr


def test_a_link_in_place_of_the_folder_of_a_run_is_refused(shop: Company, tmp_path: Path) -> None:
    """The log of a worker is written into a folder of someone else."""
    (tmp_path / "theirs").mkdir()
    (shop.folder / ".optrelay").symlink_to(tmp_path / "theirs")

    refused(shop, "is a link")
    assert list((tmp_path / "theirs").iterdir()) == []


@pytest.mark.parametrize("name", ["lock", "worker.log"])
def test_a_link_in_place_of_a_file_of_a_run_truncates_nothing(shop: Company, tmp_path: Path, name: str) -> None:
    """A person's keys are gone, because someone has put a link to them into a shared folder."""
    keys = tmp_path / "authorized_keys"
    keys.write_text("a key")
    (shop.folder / ".optrelay").mkdir(mode=0o700)
    (shop.folder / ".optrelay" / name).symlink_to(keys)
    shop.run("run", shop.write(shuffled_rows(3, 3)))

    assert keys.read_text() == "a key"


@as_root
def test_a_folder_of_someone_else_is_refused(shop: Company) -> None:
    """Another user would own the broker's socket and the worker's log."""
    (shop.folder / ".optrelay").mkdir()
    os.chown(shop.folder / ".optrelay", OTHER_USER, OTHER_USER)

    refused(shop, f"belongs to another user (uid {OTHER_USER})")


@as_root
def test_a_ledger_of_someone_else_is_refused(shop: Company) -> None:
    """Addresses of persons go into a file that another user owns and reads."""
    sqlite3.connect(shop.folder / "ledger.db").execute("VACUUM").close()
    os.chown(shop.folder / "ledger.db", OTHER_USER, OTHER_USER)

    refused(shop, "ledger.db belongs to another user")


def test_a_ledger_that_everybody_may_write_is_refused(shop: Company) -> None:
    """Anybody on the machine could opt people in again."""
    sqlite3.connect(shop.folder / "ledger.db").execute("VACUUM").close()
    (shop.folder / "ledger.db").chmod(0o666)

    refused(shop, "ledger.db may be written by other users")


@as_root
def test_settings_of_someone_else_are_refused(shop: Company) -> None:
    """A file that was dropped beside the exports sends all changes to another account of the provider."""
    planted = shop.folder / "optrelay.toml"
    planted.write_text('[connections.capillary]\noauth_key = "theirs"\noauth_secret = "theirs"\n')
    os.chown(planted, OTHER_USER, OTHER_USER)

    refused(shop, "optrelay.toml belongs to another user")
    shop.settings["CONFIG"] = os.devnull
    assert shop.run("import", shop.write(shuffled_rows(3, 3)))[0] == 0


def test_settings_can_stand_elsewhere(shop: Company, tmp_path: Path) -> None:
    """OPTRELAY_CONFIG names the file, and one that is not there is no silent default."""
    (tmp_path / "etc.toml").write_text('log_level = "loud"\n')
    shop.settings["CONFIG"] = str(tmp_path / "etc.toml")
    refused(shop, "etc.toml")
    shop.settings["CONFIG"] = str(tmp_path / "nowhere.toml")
    refused(shop, "names a file that is not there")


def test_a_file_is_opened_only_if_it_is_one(tmp_path: Path) -> None:
    """A FIFO keeps a command waiting for ever, and a link leads it elsewhere; what is ours keeps what it holds."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "ours")
    (tmp_path / "ours").write_text("kept")
    for name in ("fifo", "link"):
        with pytest.raises(ConfigurationError, match=name):
            private(tmp_path / name, os.O_RDWR | os.O_CREAT)
    os.close(private(tmp_path / "ours", os.O_WRONLY | os.O_CREAT | os.O_TRUNC))

    assert (tmp_path / "ours").read_text() == "kept"


def test_a_wide_folder_of_our_own_is_closed(tmp_path: Path) -> None:
    """A folder that was made with a wide umask becomes ours alone."""
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide").chmod(0o777)
    private_folder(tmp_path / "wide")

    assert (tmp_path / "wide").stat().st_mode & 0o777 == 0o700


@as_root
def test_a_user_without_a_name_has_a_number() -> None:
    """In a container that runs as any uid, no dead letter can be replayed: no one has a name to be noted."""
    ask = "import os, pwd; from consent.files import user_name; os.setuid(54321); print(user_name())"
    clean = {name: value for name, value in os.environ.items() if name not in {"LOGNAME", "USER", "LNAME", "USERNAME"}}
    done = subprocess.run(
        [sys.executable, "-c", ask],
        env=clean,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )

    assert done.stdout.strip() == "uid 54321"
    assert user_name()


def test_any_name_of_a_file_is_text() -> None:
    """A name that is not UTF-8 is text with the byte written out."""
    assert path_text(os.fsdecode(b"k\xfcndigung.csv")) == "k\\xfcndigung.csv"
