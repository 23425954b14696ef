"""`backup`: the whole ledger as it stood at one moment, also while others read and write."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from consent.ledger.database import Database
from tests.support.command_line import Cli


def count(url: str) -> int:
    """How many imports a ledger has."""
    database = Database(url)
    found = database.read(lambda tx: tx.execute(text("SELECT count(*) FROM imports")).scalar_one())
    database.close()
    return int(found)


def test_a_backup_holds_the_last_import(cli: Cli, consents: str, url: str, tmp_path: Path) -> None:
    """`cp` leaves out the log beside the file: the newest opt-outs are missing from the copy, which does not say so."""
    cli("import", consents)
    reader = Database(url)

    def while_read(tx: Connection) -> None:
        """Keep the log from being taken into the file."""
        tx.execute(text("SELECT count(*) FROM imports")).scalar_one()
        Path("second.csv").write_text(Path(consents).read_text().replace("1001417", "1009999"))
        cli("import", "second.csv")
        assert cli("backup", "copy.db", "--json").code == 0
        shutil.copy(tmp_path / "optrelay.db", tmp_path / "cp.db")

    reader.read(while_read)
    reader.close()

    assert count(f"sqlite:///{tmp_path}/copy.db") == 2
    assert count(f"sqlite:///{tmp_path}/cp.db") == 1, "or this test shows nothing"
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600


def test_a_backup_is_a_ledger(cli: Cli, consents: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup that cannot be used is found out on the day when it is needed."""
    cli("import", consents)
    before = cli("status", "latest", "--json").json
    cli("backup", "copy.db")

    monkeypatch.setenv("OPTRELAY_LEDGER_URL", "sqlite:///copy.db")

    assert cli("status", "latest", "--json").json == before


@pytest.mark.parametrize("there", ["copy.db", "copy.db.part"])
def test_a_backup_overwrites_nothing(cli: Cli, consents: str, there: str, tmp_path: Path) -> None:
    """Yesterday's backup, the only good one, is gone because today's has the same name."""
    cli("import", consents)
    (tmp_path / there).write_text("precious")

    answer = cli("backup", "copy.db")

    assert answer.code == 2
    assert (tmp_path / there).read_text() == "precious"


def test_without_a_ledger_there_is_nothing_to_copy(cli: Cli, tmp_path: Path) -> None:
    """A backup in the wrong folder looks well and holds nothing."""
    answer = cli("backup", "copy.db")

    assert answer.code == 2
    assert not list(tmp_path.iterdir())


def test_postgresql_is_copied_by_its_own_program(
    cli: Cli, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to do instead is said, and how."""
    monkeypatch.setenv("OPTRELAY_LEDGER_URL", postgres_database)

    answer = cli("backup", "copy.dump")

    assert answer.code == 2
    assert "pg_dump" in answer.err


def test_a_damaged_ledger_is_told(cli: Cli, consents: str, tmp_path: Path) -> None:
    """A backup of a damaged file replaces the last good one, and no one is told."""
    cli("import", consents)
    ledger = tmp_path / "optrelay.db"
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))

    answer = cli("backup", "copy.db")

    assert answer.code == 5
    assert not (tmp_path / "copy.db").exists()
