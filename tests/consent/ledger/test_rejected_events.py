"""What every ledger promises about the events that it refuses, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import inspect

from consent.imports import MOST_KEPT, EventContent, ImportSource, RejectedRow
from consent.ledger.ledger import Ledger
from consent.ledger.personal_data import PERSONAL_COLUMNS, rejected_events
from consent.ledger.rejected_events import (
    Closing,
    RejectedFilter,
)
from consent.ledger.schema import metadata
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import run_of

DAY = 86_400_000_000
CONTENT = EventContent(
    b'{"user_id": "387006417", \xff\x00',
    27,
    {"ce-subject": "a\x00b \ud800 \u00fc"},
    datetime(2026, 11, 20, 8, 30, tzinfo=UTC),
    "m-\ud800\x00",
    3,
)
REFUSED = RejectedRow(1, "action", "missing_field", "fill the action", "stream consent, entry 5-0", CONTENT)
EVERYTHING = RejectedFilter(closed=True)


def test_what_a_refused_event_said_is_kept(ledger: Ledger) -> None:
    """A person opted out in an event that we could not read: it was acknowledged, and nothing else holds it."""
    ledger.intake.accept_events(run_of(ledger), [], [REFUSED])

    (found,) = ledger.rejected_events.find(RejectedFilter())
    assert (found.kind, found.source) == ("redis stream", "consent")
    assert (found.place, found.code, found.column) == (REFUSED.place, "missing_field", "action")
    assert (found.size, found.is_cut, found.closed_at) == (27, False, None)
    assert ledger.rejected_events.content_of(found.id) == CONTENT
    assert "387006417" not in repr(found) + repr(CONTENT) + repr(REFUSED)


def test_what_is_refused_twice_is_kept_once(ledger: Ledger) -> None:
    """A source delivers at least once: no one has to fix the same event twice."""
    ledger.intake.accept_events(run_of(ledger), [], [REFUSED])
    ledger.intake.accept_events(run_of(ledger, "another"), [], [replace(REFUSED, line=9)])
    ledger.intake.accept_events(run_of(ledger), [], [replace(REFUSED, line=3, place="stream consent, entry 6-0")])
    ledger.intake.accept_events(run_of(ledger), [], [replace(REFUSED, line=4, place=None)])

    assert [one.line for one in ledger.rejected_events.find(EVERYTHING)] == [1, 3, 4]


@POSTGRESQL_IN_PROOFS
def test_two_events_of_one_message_id_are_both_kept(ledger: Ledger) -> None:
    """A publisher's counter began anew: the second person's opt-out was taken for the first one, and thrown away."""
    for content in (CONTENT, replace(CONTENT, body=b"{another"), replace(CONTENT, published_at=None), CONTENT):
        ledger.intake.accept_events(run_of(ledger), [], [replace(REFUSED, line=len(content.body), content=content)])
        ledger.intake.accept_events(
            run_of(ledger, "again"), [], [replace(REFUSED, line=len(content.body), content=content)]
        )

    assert len(ledger.rejected_events.find(EVERYTHING)) == 3


@POSTGRESQL_IN_PROOFS
def test_an_event_beyond_the_bound_keeps_its_beginning(ledger: Ledger) -> None:
    """An event may be larger than what is kept: how long it was is known, and where it stands."""
    body = b"x" * MOST_KEPT
    whole = replace(REFUSED, content=EventContent(body, len(body)))
    longer = replace(REFUSED, line=2, place="elsewhere", content=EventContent(body + b"y", len(body) + 1))
    ledger.intake.accept_events(run_of(ledger), [], [whole, longer])

    first, second = ledger.rejected_events.find(EVERYTHING)
    assert (first.is_cut, second.is_cut, second.size) == (False, True, MOST_KEPT + 1)
    assert ledger.rejected_events.content_of(second.id).body == body


def test_filters_mean_all_of_what_they_say(ledger: Ledger) -> None:
    """By id, source, code, import and time; what is closed is left out unless it is asked for."""
    run = run_of(ledger)
    for number in (1, 2, 3):
        ledger.intake.accept_events(run, [], [replace(REFUSED, line=number, code=f"code{number}", place=str(number))])
    one, two, three = (found.id for found in ledger.rejected_events.find(EVERYTHING))
    now = ledger.now()
    assert ledger.rejected_events.close([two], Closing("discarded", "ann", "a test")) == 1
    assert ledger.rejected_events.close([two], Closing("resent", "bob")) == 0

    def ids(**filters: object) -> list[int]:
        return [found.id for found in ledger.rejected_events.find(RejectedFilter(**filters))]  # type: ignore[arg-type]

    assert ids() == [one, three]
    assert ids(closed=True) == [one, two, three]
    assert (ids(ids=(three, two)), ids(code="code3")) == ([three], [three])
    assert (ids(source="stream cons"), ids(source="%"), ids(import_id=run)) == ([one, three], [], [one, three])
    assert (ids(before=now - DAY), ids(after=now - DAY), ids(before=now + DAY)) == ([], [one, three], [one, three])
    (closed,) = ledger.rejected_events.find(RejectedFilter(ids=(two,), closed=True))
    assert (closed.closed_as, closed.closed_by, closed.closed_why, closed.closed_at) == (
        *("discarded", "ann", "a test"),
        now,
    )


def test_any_number_of_events_can_be_meant_by_their_ids(ledger: Ledger) -> None:
    """Everybody's opt-outs of a night were rejected, and the fixed file of them ends with an unexpected error."""
    ledger.intake.accept_events(run_of(ledger), [], [REFUSED])
    (one,) = ledger.rejected_events.find(RejectedFilter())

    found = ledger.rejected_events.find(RejectedFilter(ids=tuple(range(one.id, one.id + 300_000))))

    assert [each.id for each in found] == [one.id]


def test_found_events_are_gone_through_without_those_that_were_closed_meanwhile(ledger: Ledger) -> None:
    """Two people fix what a night has left: neither sends again what the other one has put away."""
    another = ImportSource("redis stream", "a stream before it", "another", 0, None, stream=True)
    first, second = run_of(ledger), ledger.intake.open_import(another).import_id
    for number, run in enumerate((first, second, first), 1):
        ledger.intake.accept_events(run, [], [replace(REFUSED, line=number, place=str(number))])
    found, grouped = (ledger.rejected_events.search(RejectedFilter(), by_source=sorted_) for sorted_ in (False, True))

    assert [one.line for one in found] == [1, 2, 3]
    assert [one.line for one in grouped] == [2, 1, 3]
    assert [one.line for one in grouped.first(2)] == [2, 1]
    assert sorted(found.groups().values()) == [1, 2]
    ledger.rejected_events.close(found.ids[:1], Closing("discarded", "ann"))
    assert (len(found), [one.line for one in found]) == (3, [2, 3])
    assert len(ledger.rejected_events.search(RejectedFilter(ids=()))) == 0


def test_what_was_said_is_forgotten_after_its_time(ledger: Ledger) -> None:
    """It names persons, so it is kept as long as someone may fix it and no longer; that it was refused stays."""
    ledger.intake.accept_events(run_of(ledger), [], [REFUSED])
    assert ledger.rejected_events.purge(ledger.now() - DAY) == 0
    assert ledger.rejected_events.purge(ledger.now() + DAY) == 1

    assert ledger.rejected_events.find(EVERYTHING) == []
    ledger.intake.accept_events(run_of(ledger), [], [REFUSED])
    assert len(ledger.rejected_events.find(EVERYTHING)) == 1  # it came again, and is kept again


def test_the_migrations_make_the_tables_that_are_described(ledger: Ledger) -> None:
    """A column that only one of the two knows would be found by the first customer."""
    assert rejected_events.metadata is metadata
    looked = inspect(ledger.database.engine)
    for table in metadata.tables.values():
        columns = {one["name"]: one["nullable"] for one in looked.get_columns(table.name)}
        assert columns == {column.name: column.nullable for column in table.columns}, table.name


@pytest.mark.parametrize("column", ["body", "envelope", "place", "closed_why"])
def test_what_names_persons_is_marked(column: str) -> None:
    """To erase a person one goes through one list."""
    assert rejected_events.c[column] in set(PERSONAL_COLUMNS)
