"""A folder behind SFTP: each file ends where it belongs, and a server that is not known gets no password."""

from __future__ import annotations

from pathlib import Path

import paramiko
import pytest

from consent.errors import SourceUnavailable
from consent.ledger.ledger import Ledger
from producers.options import IngestOptions
from producers.watch.address import read_watch_address
from producers.watch.preparation import Reading
from producers.watch.remote import RemotePlace, open_sftp
from producers.watch.watcher import Watcher
from tests.support.servers.sftp_server import sftp_server
from tests.support.watched import Notes, dozen, put, settled, where
from worker.providers.capillary.row import CapillaryRow


def watcher(ledger: Ledger, url: str, tmp_path: Path) -> Watcher:
    """A watcher of a folder behind SFTP."""
    address = read_watch_address(url)
    place = RemotePlace(address, tmp_path / "rejects", open_sftp)
    return Watcher(address, place, ledger, Reading({"capillary": CapillaryRow}, {}, IngestOptions()), Notes())


@pytest.mark.parametrize("rejects", ["false", pytest.param("true", marks=pytest.mark.proof)])
def test_each_of_a_dozen_files_ends_where_it_belongs(own: Ledger, tmp_path: Path, rejects: str) -> None:
    """As in a folder of this machine; rejected rows stay here, or go back if the owner of the place wants them."""
    drop = tmp_path / "drop"
    put(drop, dozen())
    with sftp_server(tmp_path) as server:
        url = f"{server.url()}?known_hosts={server.known_hosts}&put_rejects={rejects}"
        watching = watcher(own, url, tmp_path)
        assert [watching.look(), watching.look(), watching.look()] == [0, 11, 0]
        watching.place.close()

    assert where(drop) == settled(remote=True)
    assert "none of its columns is known" in (drop / "failed" / "wrong-header.csv.reason.txt").read_text()
    assert len(own.queries.recent_imports()) == 7
    kept = tmp_path / "rejects" / "bad-rows.csv.rejects.csv"
    assert len(kept.read_text().splitlines()) == 16
    assert (drop / "rejects" / kept.name).exists() is (rejects == "true")


def test_a_server_that_is_not_known_is_refused(own: Ledger, tmp_path: Path) -> None:
    """Neither one of which there is no key, nor one with another key; nothing is added to the list."""
    put(tmp_path / "drop", {"a.csv": dozen()["good.csv"]})
    empty = tmp_path / "empty_hosts"
    empty.touch()
    with sftp_server(tmp_path) as server:
        other = tmp_path / "other_hosts"
        name, kind, _ = server.known_hosts.read_text().split()
        other.write_text(f"{name} {kind} {paramiko.ECDSAKey.generate().get_base64()}\n")
        for known in (empty, other):
            before = known.read_text()
            with pytest.raises(SourceUnavailable, match="its host key is not a known one") as error:
                watcher(own, f"{server.url()}?known_hosts={known}", tmp_path).look()
            assert "hush" not in str(error.value)
            assert known.read_text() == before
        wrong = f"{server.url(password='wrong-one')}?known_hosts={server.known_hosts}"
        with pytest.raises(SourceUnavailable, match="AuthenticationException"):
            watcher(own, wrong, tmp_path).look()


def test_a_server_that_went_away_is_told(own: Ledger, tmp_path: Path) -> None:
    """It raises what the loop waits out."""
    put(tmp_path / "drop", {"a.csv": dozen()["good.csv"]})
    with sftp_server(tmp_path) as server:
        watching = watcher(own, f"{server.url()}?known_hosts={server.known_hosts}", tmp_path)
        assert watching.look() == 0
    with pytest.raises(SourceUnavailable):
        watching.look()


def test_a_file_that_comes_in_part_is_not_read(own: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server ends a file before its end, between two rows: the opt-outs behind it are gone, and it lies in done/."""
    drop = tmp_path / "drop"
    put(drop, {"large.csv": dozen()["large.csv"]})
    with sftp_server(tmp_path) as server:
        watching = watcher(own, f"{server.url()}?known_hosts={server.known_hosts}", tmp_path)
        monkeypatch.setattr(server.handle, "longest", 40_000)
        assert [watching.look() for _ in range(3)] == [0, 0, 0]
        assert "gave 40,000 of the" in watching.observer.messages[0]
        monkeypatch.setattr(server.handle, "longest", None)
        assert watching.look() == 1
        watching.place.close()

    assert own.queries.report(own.queries.recent_imports()[0]).accepted == 2000
