"""The outcome log is told in an order in which nothing that is committed late can be missed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from random import Random

import pytest
from sqlalchemy import select, text

from consent.errors import UnusableCursor
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.ledger import Ledger
from consent.ledger.queries.outcomes import Outcome
from consent.ledger.queue.outcome_log import note_state, outcome_log
from consent.ledger.schema import changes
from consent.outcome import Applied, PermanentFailure, State
from tests.support.ledgers import BUCKET, change_of, deliver, imported, settlement

UNKNOWN = PermanentFailure("1012", "Capillary cannot find this customer")


def followed(ledger: Ledger, cursor: str | None = None, limit: int = 3) -> Iterator[tuple[Outcome, str]]:
    """Everything behind a cursor, page by page, each with the cursor behind its page."""
    more = True
    while more:
        page = ledger.queries.outcomes_after(cursor, limit)
        cursor, more = page.cursor, page.more
        assert len(page.outcomes) <= limit
        yield from ((one, cursor) for one in page.outcomes)


def states(ledger: Ledger, cursor: str | None = None) -> list[str]:
    """The states that are told behind a cursor."""
    return [one.change.state.value for one, _ in followed(ledger, cursor)]


def test_an_outcome_is_told_with_its_replay(ledger: Ledger) -> None:
    """A change dies, is replayed and applied: all three are told, in this order, and each as it was then."""
    imported(ledger, change_of("1"))
    deliver(ledger, UNKNOWN)
    letters = ledger.dead_letters.find(DeadLetterFilter())
    ledger.dead_letters.replay(letters, who="ann", why="registered now")
    deliver(ledger)

    seen = [one for one, _ in followed(ledger)]

    assert [one.change.state for one in seen] == [State.DEAD, State.PENDING, State.APPLIED]
    assert [one.change.code for one in seen] == ["1012", None, None]
    assert {one.change.id for one in seen} == {letters[0].public_id}
    assert seen[1].change.settled_at is None


def test_what_is_overtaken_or_confirmed_already_is_told(ledger: Ledger) -> None:
    """Superseded in a file, superseded by a later file, unchanged, and discarded: each is an outcome."""
    imported(ledger, change_of("1", "OPTIN", 0), change_of("1", "OPTOUT", 1))
    deliver(ledger)
    imported(ledger, change_of("1", "OPTIN", 5))
    imported(ledger, change_of("1", "OPTOUT", 7))
    assert states(ledger) == ["superseded", "applied", "superseded", "unchanged"]

    imported(ledger, change_of("2"))
    deliver(ledger, UNKNOWN)
    cursor = ledger.queries.outcomes_after(None, 1_000).cursor
    letters = ledger.dead_letters.find(DeadLetterFilter())
    ledger.dead_letters.discard(letters, who="ann", why="gone")

    [(one, _)] = followed(ledger, cursor)
    assert (one.change.state, one.change.discarded) == (State.DEAD, True)


def test_a_claimed_change_that_was_superseded_is_told_once(ledger: Ledger) -> None:
    """The answer about it comes after a newer change has superseded it: only what the ledger says is told."""
    imported(ledger, change_of("1", "OPTIN", 0))
    tasks = ledger.queue.claim(BUCKET, 10, "slow", 60)
    imported(ledger, change_of("1", "OPTOUT", 5))
    ledger.queue.settle("slow", [settlement(task, Applied(), ledger.now()) for task in tasks])

    assert states(ledger) == ["superseded"]


def test_a_transaction_that_commits_late_is_not_skipped(postgres_database: str) -> None:
    """One transaction takes its number first and commits last. A reader that was here in between still gets it."""
    ledger = Ledger(postgres_database)
    ledger.maintenance.migrate()
    imported(ledger, change_of("1"), change_of("2"))
    with ledger.database.engine.connect() as slow, slow.begin():
        first, second = slow.execute(select(changes.c.id).order_by(changes.c.id)).scalars()
        note_state(slow, State.APPLIED, [first], 1)
        ledger.database.write(lambda tx: note_state(tx, State.APPLIED, [second], 2))

        between = ledger.queries.outcomes_after(None, 10)
        slow.commit()
    after = ledger.queries.outcomes_after(between.cursor, 10)

    assert [one.at for one in between.outcomes] == [2]
    assert [one.at for one in after.outcomes] == [1]
    by_number = ledger.database.read(lambda tx: tx.execute(select(outcome_log.c.at).order_by(outcome_log.c.id)).all())
    assert [at for (at,) in by_number] == [1, 2]  # a reader that follows numbers would have missed the first
    ledger.close()


def _work(ledger: Ledger, worker: int, random: Random) -> None:
    for turn in range(6):
        token = f"{worker} {turn}"
        tasks = ledger.queue.claim(BUCKET, random.randint(1, 12), token, 60)
        ledger.queue.settle(
            token, [settlement(one, random.choice([Applied(), UNKNOWN]), ledger.now()) for one in tasks]
        )
        letters = ledger.dead_letters.find(DeadLetterFilter(), limit=3)
        ledger.dead_letters.replay(letters, who="ann", why="again")


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.proof)])
def test_no_outcome_is_missed_while_others_settle(ledger: Ledger, seed: int) -> None:
    """Four workers settle, letters are replayed, newer files supersede; a reader follows all the while."""
    people = [str(number) for number in range(60)]
    imported(ledger, *(change_of(who, "OPTIN", 0) for who in people))
    seen: list[Outcome] = []
    with ThreadPoolExecutor(5) as pool:
        workers = [pool.submit(_work, ledger, worker, Random(seed * 100 + worker)) for worker in range(4)]
        newer = pool.submit(imported, ledger, *(change_of(who, "OPTOUT", 5) for who in people[::3]))
        cursor = None
        while wait((*workers, newer), 0.002).not_done:
            page = ledger.queries.outcomes_after(cursor, 7)
            seen, cursor = [*seen, *page.outcomes], page.cursor
    for one in (*workers, newer):
        one.result()
    while deliver(ledger):
        pass
    seen += [one for one, _ in followed(ledger, cursor)]

    assert [(one.at, one.change.id, one.change.state) for one in seen] == [
        (one.at, one.change.id, one.change.state) for one, _ in followed(ledger)
    ], "what was followed is the whole log, each outcome once, in the same order"
    steps: dict[str, list[State]] = defaultdict(list)
    for one in seen:
        steps[one.change.id].append(one.change.state)
    assert len(steps) == len(people) + len(people[::3])
    for known, its in steps.items():
        found = ledger.queries.find_change(known)
        assert found is not None
        assert found.state is its[-1]
        assert all(before is not State.PENDING for before in its[::2]), its  # an outcome, pending again, an outcome…
        assert all(again is State.PENDING or its[-1] is State.SUPERSEDED for again in its[1::2]), its


def test_old_outcomes_are_removed_and_their_cursors_refused(ledger: Ledger) -> None:
    """After the time that is kept, a cursor from before says so; positions are never given twice."""
    for who in "123":
        imported(ledger, change_of(who))
        deliver(ledger)
    start = "1.0"
    second = ledger.queries.outcomes_after(start, 2).cursor

    assert ledger.outcome_log.purge(ledger.now() + 1) == 0, "what is in no tally yet is kept"
    assert ledger.counters.add_up()
    assert ledger.outcome_log.purge(ledger.now() + 1) == 2
    assert ledger.outcome_log.purge(ledger.now() + 1) == 0

    with pytest.raises(UnusableCursor) as raised:
        ledger.queries.outcomes_after(start, 2)
    assert raised.value.gone
    assert states(ledger, second) == ["applied"]
    imported(ledger, change_of("4"))
    deliver(ledger)
    assert states(ledger, second) == ["applied", "applied"]


@pytest.mark.parametrize("cursor", ["", "x", "1", "1.", "-1.0", "1.0 ", "٣.0", "99999999999999999999.0"])
def test_what_is_no_cursor_is_refused(ledger: Ledger, cursor: str) -> None:
    """It never begins somewhere silently."""
    with pytest.raises(UnusableCursor, match="no cursor"):
        ledger.queries.outcomes_after(cursor, 10)


def test_a_cursor_of_another_ledger_is_refused(ledger: Ledger) -> None:
    """A ledger that was restored from a backup would give the same positions again to other outcomes."""
    with pytest.raises(UnusableCursor, match="restored"):
        ledger.queries.outcomes_after("5.0", 10)
    assert ledger.queries.outcomes_after("1.0", 10).cursor == "1.0"


def test_the_log_is_read_by_its_indexes(ledger: Ledger) -> None:
    """Neither giving positions nor reading a page goes through the whole log."""
    if not ledger.database.is_sqlite:
        return
    for query in (
        "SELECT id FROM outcome_log WHERE position IS NULL ORDER BY id LIMIT 9",
        "SELECT id FROM outcome_log WHERE position >= 5 ORDER BY position LIMIT 9",
    ):
        plan = ledger.database.read(lambda tx, query=query: tx.execute(text(f"EXPLAIN QUERY PLAN {query}")).all())
        assert "ix_outcome_log" in str(plan), plan
