"""A bucket of an object store: each file ends where it belongs, and what is not there or not ours is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.errors import SourceUnavailable
from consent.ledger.ledger import Ledger
from producers.ingest_file import ImportResult
from producers.options import IngestOptions
from producers.watch.address import read_watch_address
from producers.watch.preparation import Reading
from producers.watch.remote import RemotePlace, open_store
from producers.watch.watcher import Watcher
from tests.support.servers.object_stores import Store, store
from tests.support.watched import dozen, settled
from worker.providers.capillary.row import CapillaryRow


class Quiet:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def recorded(self, _file: str, _result: ImportResult) -> None:
        """Take no note."""

    def failed(self, file: str, reason: str) -> None:
        """Keep it."""
        self.messages.append(f"{file}: {reason}")

    def note(self, message: str) -> None:
        """Keep it."""
        self.messages.append(message)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger on this machine."""
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    made.maintenance.prepare()
    yield made
    made.close()


@pytest.fixture(params=["s3", "gs", "az"])
def bucket(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A bucket of each kind of object store that there is on this machine."""
    with store(request.param) as made:
        yield made


def watcher(ledger: Ledger, url: str, tmp_path: Path) -> Watcher:
    """A watcher of a prefix in a bucket."""
    address = read_watch_address(url)
    place = RemotePlace(address, tmp_path / "rejects", open_store)
    return Watcher(address, place, ledger, Reading({"capillary": CapillaryRow}, {}, IngestOptions()), Quiet())


@pytest.mark.proof
def test_each_of_a_dozen_files_ends_where_it_belongs(own: Ledger, bucket: Store, tmp_path: Path) -> None:
    """As in a folder of this machine, but for the rejected rows: they stay here, for a bucket may be someone else's."""
    watching = watcher(own, f"{bucket.url}?age=0", tmp_path)
    assert watching.look() == 0  # a prefix of which there is no file yet is no error
    bucket.put(dozen())
    assert [watching.look(), watching.look(), watching.look()] == [0, 11, 0]

    assert bucket.where() == settled(remote=True)
    assert "none of its columns is known" in bucket.read("failed/wrong-header.csv.reason.txt")
    assert len(own.queries.recent_imports()) == 7
    assert len((tmp_path / "rejects" / "bad-rows.csv.rejects.csv").read_text().splitlines()) == 16

    bucket.put({"good.csv": dozen()["bad-rows.csv"]})  # another file of a name that is taken
    assert [watching.look(), watching.look()] == [0, 1]
    assert bucket.read("done/good.csv") == dozen()["good.csv"].decode()
    assert len([name for name in bucket.names() if name.endswith("-good.csv")]) == 1


def test_a_file_that_is_replaced_is_another_file(own: Ledger, bucket: Store, tmp_path: Path) -> None:
    """What two looks found is not what is there now: it waits for two looks of its own, and is never moved unread."""
    watching = watcher(own, f"{bucket.url}?age=0", tmp_path)
    bucket.put({"a.csv": dozen()["good.csv"]})
    assert watching.look() == 0
    bucket.put({"a.csv": dozen()["bad-rows.csv"]})
    assert [watching.look(), watching.look()] == [0, 1]
    assert bucket.where()["done"] == {"a.csv"}
    (report,) = [own.queries.report(one) for one in own.queries.recent_imports()]
    assert report is not None
    assert (report.rows, report.rejected) == (50, 15)


def test_markers_and_rejected_rows_go_with_their_file(own: Ledger, bucket: Store, tmp_path: Path) -> None:
    """A marker says that a file is whole and goes when it goes; its owner may want the rejected rows back."""
    watching = watcher(own, f"{bucket.url}?ready=marker&put_rejects=true", tmp_path)
    bucket.put({"a.csv": dozen()["bad-rows.csv"], "b.csv": dozen()["good.csv"], "a.csv.done": b""})
    assert watching.look() == 1
    assert bucket.names() == {"b.csv", "done/a.csv", "rejects/a.csv.rejects.csv"}
    assert len(bucket.read("rejects/a.csv.rejects.csv").splitlines()) == 16


def test_a_bucket_that_is_not_there_is_told(own: Ledger, bucket: Store, tmp_path: Path) -> None:
    """Nothing would ever come to it: someone looks at the address."""
    with pytest.raises(SourceUnavailable, match="it is not there: look at its address"):
        watcher(own, f"{bucket.scheme}://no-such-bucket/in", tmp_path).look()


@pytest.mark.waits
def test_a_store_that_went_away_is_told_in_words_without_its_secret(own: Ledger, tmp_path: Path) -> None:
    """It raises what the loop waits out."""
    with store("s3") as bucket:
        watching = watcher(own, f"{bucket.url}?age=0", tmp_path)
        bucket.put({"a.csv": dozen()["good.csv"]})
        assert watching.look() == 0
        bucket.stop()
        with pytest.raises(SourceUnavailable, match="s3://drop/night/in cannot be used") as error:
            watching.look()
    assert "hush" not in str(error.value)
