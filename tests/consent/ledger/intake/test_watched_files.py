"""Files of watched places: one watcher takes each, also when one is killed, and nothing is read twice."""

from __future__ import annotations

from consent.ledger.intake.watched_files import WatchedPlace
from consent.ledger.ledger import Ledger
from tests.support.clock import Clock
from tests.support.examples import POSTGRESQL_IN_PROOFS

FILE = ("night.csv", "v1")
MINUTE = 60_000_000


def place(ledger: Ledger, name: str = "/srv/drop") -> WatchedPlace:
    """A place that two watchers look at."""
    return WatchedPlace(ledger.database, name)


def test_one_of_several_watchers_takes_a_file(ledger: Ledger, clock: Clock) -> None:
    """The other one may have it when the first has given it back, or has ended."""
    here = place(ledger)
    file = here.look([FILE], clock())["night.csv"]
    assert here.claim(file.number, "one", now=clock(), until=clock() + MINUTE)
    assert not here.claim(file.number, "two", now=clock(), until=clock() + MINUTE)
    assert here.claim(file.number, "one", now=clock(), until=clock() + MINUTE)
    assert not here.settle(file.number, "two", "recorded", now=clock(), import_id="x")

    assert here.claim(file.number, "two", now=clock(), until=clock() + MINUTE, dead=["one"])
    assert not here.renew(file.number, "one", clock() + MINUTE)
    clock.forward(61)
    assert here.claim(file.number, "three", now=clock(), until=clock() + MINUTE)
    here.release(file.number, "three", clock())
    assert here.look([FILE], clock())["night.csv"].state == "seen"


def test_what_is_settled_is_not_read_again_while_it_stays(ledger: Ledger, clock: Clock) -> None:
    """It could not be moved, or was to stay. Another version of it is another file."""
    here = place(ledger)
    file = here.look([FILE], clock())["night.csv"]
    here.claim(file.number, "one", now=clock(), until=clock() + MINUTE)
    assert here.settle(file.number, "one", "recorded", now=clock(), import_id="20261129-1")

    again = here.look([FILE], clock())["night.csv"]
    assert (again.state, again.import_id) == ("recorded", "20261129-1")
    assert not here.claim(file.number, "two", now=clock(), until=clock() + MINUTE)
    assert here.look([("night.csv", "v2")], clock())["night.csv"].state == "seen"
    assert here.arrivals() == [("night.csv", clock())]


def test_a_file_that_was_moved_away_and_comes_back_is_read(ledger: Ledger, clock: Clock) -> None:
    """Someone has fixed the settings and moved it back out of failed/, with its time."""
    here = place(ledger)
    file = here.look([FILE], clock())["night.csv"]
    here.claim(file.number, "one", now=clock(), until=clock() + MINUTE)
    here.settle(file.number, "one", "failed", now=clock(), reason="it was empty")
    here.finish(file.number)
    assert here.look([], clock()) == {}

    back = here.look([FILE], clock())["night.csv"]
    assert (back.state, back.reason) == ("seen", None)
    assert here.claim(back.number, "two", now=clock(), until=clock() + MINUTE)


def test_what_is_gone_is_forgotten_unless_it_is_being_read(ledger: Ledger, clock: Clock) -> None:
    """A file whose move was not written down would else be moved, unread, when one of its name comes again."""
    here = place(ledger)
    files = here.look([FILE, ("other.csv", "v1")], clock())
    here.claim(files["night.csv"].number, "one", now=clock(), until=clock() + MINUTE)
    assert here.look([], clock()) == {}
    assert here.settle(files["night.csv"].number, "one", "recorded", now=clock(), import_id="20261129-1")
    assert here.look([], clock()) == {}
    assert here.look([FILE], clock())["night.csv"].state == "seen"


@POSTGRESQL_IN_PROOFS
def test_places_know_nothing_of_each_other(ledger: Ledger, clock: Clock) -> None:
    """The same name at two places is two files."""
    one, two = place(ledger), place(ledger, "/srv/other")
    assert one.look([FILE], clock())["night.csv"].number != two.look([FILE], clock())["night.csv"].number
    assert two.look([], clock()) == {}
    assert one.look([FILE], clock())["night.csv"].state == "seen"
