"""A large file becomes due in blocks, in the order of its customers, and its importer may be killed anywhere."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from itertools import count, pairwise

import pytest
from sqlalchemy import Select, Update

from consent.change import ConsentChange
from consent.imports import Checkpoint, ImportSource
from consent.ledger.intake import publish
from consent.ledger.ledger import Ledger
from consent.outcome import Retry
from tests.support.clock import Clock
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import BUCKET, Cut, change_of, counts, deliver, imported, recorded, settlement


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "BLOCK", 5)
    monkeypatch.setattr(publish, "CHUNK", 3)


def read_in(ledger: Ledger, *chunks: Sequence[ConsentChange]) -> str:
    """A file read whole, in several chunks: so what a customer says need not lie together."""
    source = ImportSource("csv", "nightly.csv", f"in chunks {next(_files)}", 1, None)
    import_id, rows = ledger.intake.open_import(source).import_id, 0
    for chunk in chunks:
        rows += len(chunk)
        ledger.intake.accept(import_id, chunk, [], Checkpoint(rows, rows + 1, 0, rows))
    ledger.intake.finish_reading(import_id)
    return import_id


_files = count()


def read_mixed(ledger: Ledger, who: str) -> str:
    """A file of which most customers' words lie in two chunks, blocks and chunks of a block."""
    changes = mixed(who)
    return read_in(ledger, changes[0::3], changes[1::3], changes[2::3])


def mixed(who: str) -> list[ConsentChange]:
    """Twelve words of six customers, back and forth: three change their mind, three have two channels."""
    minds = [
        change_of(f"{who}{n}", action, minute) for n in range(3) for minute, action in enumerate(("OPTIN", "OPTOUT"))
    ]
    channels = [change_of(f"{who}{n}", slot=slot) for n in range(3, 6) for slot in ("EMAIL", "MOBILE")]
    changes = [*minds, *channels]
    random.Random(who).shuffle(changes)
    return changes


SENT = {"EMAIL|BULK OPTOUT": 3, "EMAIL OPTOUT": 3, "MOBILE OPTOUT": 3}


def test_a_release_that_breaks_off_anywhere_is_gone_on_with(ledger: Ledger) -> None:
    """The importer is killed after each step in turn, and another goes on: each newest change is delivered, once."""
    for cut in count():
        file = read_mixed(ledger, f"{cut}-")
        steps = count()

        def killed(_: int, steps: count = steps, cut: int = cut) -> None:
            if next(steps) == cut:
                raise Cut

        try:
            ledger.intake.publish(file, killed)
        except Cut:
            ledger.intake.publish(file)
        else:
            break
        finally:
            delivered = deliver(ledger)

        sent = [sent for _, sent in delivered]
        assert {one: sent.count(one) for one in sent} == SENT
        assert counts(ledger, file) == {"applied": 9, "superseded": 3}
    assert cut > 9


@POSTGRESQL_IN_PROOFS
def test_two_at_once_harm_nothing(ledger: Ledger) -> None:
    """A sweep takes a slow importer for dead, after any step: what one has done the other leaves alone."""
    for begin in range(10):
        file = read_mixed(ledger, f"{begin}-")
        steps = count()
        delivered = []

        def overtaken(
            _: int, file: str = file, begin: int = begin, steps: count = steps, delivered: list = delivered
        ) -> None:
            if next(steps) == begin:
                ledger.intake.publish(file)
                delivered += deliver(ledger)

        ledger.intake.publish(file, overtaken)

        delivered += deliver(ledger)
        sent = [sent for _, sent in delivered]
        assert {one: sent.count(one) for one in sent} == SENT
        assert counts(ledger, file) == {"applied": 9, "superseded": 3}


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize("steps", [1, pytest.param(2, marks=pytest.mark.proof)])
def test_one_overtakes_the_other_for_a_while(ledger: Ledger, steps: int) -> None:
    """A sweep does a few steps of a file that an importer is at, and is killed: the importer goes on as if alone."""
    for begin in range(10):
        file = read_mixed(ledger, f"{begin}-")
        mine = count()

        def overtaken(_: int, file: str = file, begin: int = begin, mine: count = mine) -> None:
            if next(mine) == begin:
                theirs = count(1)

                def killed(_: int) -> None:
                    if next(theirs) == steps:
                        raise Cut

                with suppress(Cut):
                    ledger.intake.publish(file, killed)

        ledger.intake.publish(file, overtaken)

        sent = [sent for _, sent in deliver(ledger)]
        assert {one: sent.count(one) for one in sent} == SENT
        assert counts(ledger, file) == {"applied": 9, "superseded": 3}


def test_who_was_put_off_stays_so(ledger: Ledger, clock: Clock) -> None:
    """An importer is killed, and a customer of its file has been put off: going on does not hurry him."""
    file = recorded(ledger, change_of("1"), change_of("2"), change_of("3"))
    ledger.intake.finish_reading(file)

    def killed(_: int) -> None:
        if tasks := ledger.queue.claim(BUCKET, 1, "delivery", 60):
            later = ledger.now() + 3_600_000_000
            ledger.queue.settle(
                "delivery", [settlement(tasks[0], Retry("503", "busy", counts=True), ledger.now(), later)]
            )
            raise Cut

    with pytest.raises(Cut):
        ledger.intake.publish(file, killed)
    ledger.intake.publish(file)

    assert len(deliver(ledger)) == 2
    clock.forward(3_601)
    assert len(deliver(ledger)) == 1


def test_customers_become_due_in_the_order_of_the_ledger(ledger: Ledger, clock: Clock) -> None:
    """A file tells known customers in any order; in each block they become due as they lie in the ledger."""
    imported(ledger, *(change_of(str(n), "OPTIN") for n in range(5)))
    deliver(ledger)

    file = read_in(ledger, *([change_of(str(n), "OPTOUT", 1) for n in some] for some in ((4, 1), (3, 0, 2))))
    ledger.intake.publish(file, lambda _: clock.forward(1))

    assert [customer for customer, _ in deliver(ledger)] == ["0", "1", "2", "3", "4"]


def test_others_see_each_step(ledger: Ledger) -> None:
    """A sweep looks whether someone is at work on a file: every step shows, within a block too."""
    file = read_mixed(ledger, "a")
    seen = [ledger.intake.unpublished()[file]]

    ledger.intake.publish(file, lambda _: seen.append(ledger.intake.unpublished().get(file, ("released", 0, 0, 0))))

    assert len(seen) > 9
    assert all(before != after for before, after in pairwise(seen))


def test_the_first_customers_become_due_before_most_are(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers begin with a small chunk: they need not wait until the task of every customer of a large one is made."""
    monkeypatch.setattr(publish, "BLOCK", 100)
    monkeypatch.setattr(publish, "CHUNK", 8)
    monkeypatch.setattr(publish, "FIRST_DUE", 2)
    steps: list[int] = []
    file = read_in(ledger, [change_of(f"{number}") for number in range(20)])

    ledger.intake.publish(file, steps.append)

    assert steps == [8, 8, 4, 2, 8, 8, 2]


def test_a_small_file_becomes_due_in_few_transactions(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the disk or the server; two more only noted that a pass over its changes was over."""
    file, begun = recorded(ledger, change_of("1"), change_of("2")), []
    ledger.intake.finish_reading(file)
    begin = ledger.database._transaction
    monkeypatch.setattr(ledger.database, "_transaction", lambda *, writes: begun.append(writes) or begin(writes=writes))

    ledger.intake.publish(file)

    assert begun == [False, True, False, True, False, True]  # it is checked, merged and released
    assert len(deliver(ledger)) == 2


def test_what_every_import_asks_is_built_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Building the same statements again took more than half of the time of a small file."""
    counts(ledger, imported(ledger, change_of("1")))
    built: list[type] = []
    for kind in (Select, Update):
        make = kind.__init__
        monkeypatch.setattr(kind, "__init__", lambda one, *of, make=make: built.append(type(one)) or make(one, *of))

    assert counts(ledger, imported(ledger, change_of("2"))) == {"pending": 1}
    assert built == []
