"""Which opt-outs are delivered although the provider is confirmed to hold them, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count

import pytest

from consent import reassert
from consent.change import Bucket, ConsentChange, to_micros
from consent.imports import Checkpoint, ImportSource
from consent.ledger.ledger import Ledger
from consent.outcome import Applied
from consent.reassert import Reassert, ReassertRules
from tests.support.ledgers import BUCKET, MORNING, counts, deliver, imported, settlement, word

CALLED = [("1", "EMAIL|BULK OPTOUT")]
_names = count()


@pytest.fixture(autouse=True)
def _at_half_past_eight(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is delivered is confirmed at half past eight; words of later minutes are newer than that."""
    monkeypatch.setattr(ledger, "now", lambda: to_micros(MORNING + timedelta(minutes=30)))


def event(ledger: Ledger, *words: ConsentChange) -> None:
    """What someone has just said, one event each."""
    run = ledger.intake.open_import(ImportSource("http", "api", f"run {next(_names)}", 0, None, stream=True)).import_id
    ledger.intake.accept_events(run, words, [])


def undated(one: ConsentChange) -> ConsentChange:
    """A row without a time of its own."""
    return replace(one, own_time=False)


def dump(ledger: Ledger, words: Iterable[ConsentChange], *, at_once: int = 700, **more: object) -> str:
    """A file of many rows, read in several chunks and published."""
    lines = [replace(one, line=line) for line, one in enumerate(words, 2)]
    source = ImportSource("csv", "dump.csv", str(more.pop("bytes", f"dump {next(_names)}")), 1, None, **more)  # type: ignore[arg-type]
    import_id = ledger.intake.open_import(source).import_id
    for end in range(at_once, len(lines) + at_once, at_once):
        done = min(end, len(lines))
        ledger.intake.accept(import_id, lines[end - at_once : done], [], Checkpoint(done, done + 1, 0, done))
    ledger.intake.finish_reading(import_id)
    ledger.intake.publish(import_id)
    return import_id


def stamped(ledger: Ledger, import_id: str) -> int:
    """How many opt-outs of an import are unchanged because of the export's time."""
    found = ledger.queries.report(import_id)
    assert found is not None
    assert found.balanced
    return found.stamped


def test_a_fresh_opt_out_is_sent_though_the_provider_is_believed_to_hold_it(ledger: Ledger) -> None:
    """A person who was opted in again at the provider's own page, and unsubscribes at 9:00, stays subscribed."""
    imported(ledger, word("1"))
    deliver(ledger)

    event(ledger, word("1", minute=60))

    assert deliver(ledger) == CALLED


def test_a_row_with_a_time_of_its_own_is_sent_like_an_event(ledger: Ledger) -> None:
    """A person whose unsubscribe comes by a file, with the minute when it was said, is no worse off."""
    imported(ledger, word("1"), word("2"))
    deliver(ledger)

    file = imported(ledger, word("1", minute=60), undated(word("2", minute=60)))

    assert deliver(ledger) == CALLED
    assert counts(ledger, file) == {"applied": 1, "unchanged": 1}


def test_what_was_said_before_the_confirmation_is_not_sent_again(ledger: Ledger) -> None:
    """What the provider was told at 8:30 covers all that was said until then."""
    imported(ledger, word("1"))
    deliver(ledger)

    event(ledger, word("1", minute=29))

    assert deliver(ledger) == []


def test_what_is_confirmed_is_as_old_as_the_call_that_confirmed_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person unsubscribes while a call that was slow is under way: what it confirms cannot cover that."""
    imported(ledger, word("1"))
    [task] = ledger.queue.claim(BUCKET, 1, "delivery", 60)
    called = settlement(task, Applied(), ledger.now())
    monkeypatch.setattr(ledger, "now", lambda: to_micros(MORNING + timedelta(minutes=40)))
    ledger.queue.settle("delivery", [called])

    event(ledger, word("1", minute=35))

    assert deliver(ledger) == CALLED


@pytest.mark.parametrize("first", ["event", "file"])
def test_a_file_without_times_does_not_keep_a_fresh_opt_out_from_being_sent(ledger: Ledger, first: str) -> None:
    """A click at 9:00 and a list of 9:30 that names no times: whichever is read first, the person is opted out."""
    imported(ledger, word("1"))
    deliver(ledger)
    ways = [partial(event, ledger, word("1", minute=60)), partial(imported, ledger, undated(word("1", minute=90)))]

    for way in ways if first == "event" else reversed(ways):
        way()

    assert deliver(ledger) == CALLED


def test_no_one_is_called_twice_for_a_fresh_opt_out(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has been confirmed again, it is covered."""
    imported(ledger, word("1"))
    deliver(ledger)
    event(ledger, word("1", minute=60))
    monkeypatch.setattr(ledger, "now", lambda: to_micros(MORNING + timedelta(minutes=61)))
    assert deliver(ledger) == CALLED

    imported(ledger, word("1", minute=60, note="the same, from a file"))

    assert deliver(ledger) == []


def night(minute: int, customers: int = 1_500) -> Iterator[ConsentChange]:
    """A full dump whose rows all bear the time of its export."""
    return (word(str(n), minute=minute) for n in range(1, customers + 1))


def test_an_export_that_stamps_its_own_time_calls_no_one(ledger: Ledger) -> None:
    """1,500 customers cost no call each night, for their export says a later time each night."""
    dump(ledger, night(0))
    deliver(ledger, limit=2_000)

    second = dump(ledger, night(60))

    assert deliver(ledger) == []
    assert counts(ledger, second) == {"unchanged": 1_500}
    assert stamped(ledger, second) == 1_500


def test_of_a_stamped_export_the_rows_with_another_time_are_sent(ledger: Ledger) -> None:
    """A person whose unsubscribe bears its own time is not held back by the 1,499 beside it."""
    dump(ledger, night(0))
    deliver(ledger, limit=2_000)

    second = dump(ledger, [word("1", minute=45), *list(night(60))[1:]])

    assert deliver(ledger) == CALLED
    assert stamped(ledger, second) == 1_499


@pytest.mark.parametrize(("same", "others", "is_stamp"), [(1_000, 0, False), (1_001, 0, True), (1_001, 1_001, False)])
def test_a_stamp_stands_on_more_than_a_thousand_rows_and_more_than_half(
    ledger: Ledger,
    same: int,
    others: int,
    is_stamp: bool,  # noqa: FBT001 - a parameter
) -> None:
    """A thousand people who unsubscribe in one minute are people; rows that were known already count as rows."""
    old = [word(str(n), minute=20, slot="EMAIL|TRANS") for n in range(1, others + 1)]
    dump(ledger, [*night(0, same), *old])
    deliver(ledger, limit=5_000)

    second = dump(ledger, [*night(60, same), *old])

    assert stamped(ledger, second) == (same if is_stamp else 0)
    assert len(deliver(ledger, limit=5_000)) == (0 if is_stamp else same)


def test_times_within_one_minute_are_one_stamp_and_those_of_two_minutes_are_not(ledger: Ledger) -> None:
    """An export may take a while to write its rows; what is spread further is told apart."""
    dump(ledger, night(0))
    deliver(ledger, limit=2_000)
    close = [replace(one, effective_at=one.effective_at + timedelta(seconds=n % 60)) for n, one in enumerate(night(60))]
    apart = [
        replace(one, effective_at=one.effective_at + timedelta(seconds=n % 150)) for n, one in enumerate(night(90))
    ]

    assert stamped(ledger, dump(ledger, close)) == 1_500
    assert deliver(ledger) == []
    assert stamped(ledger, dump(ledger, apart)) == 0
    assert len(deliver(ledger, limit=2_000)) == 1_500


def test_a_stream_tells_a_stamp_by_what_it_has_read(ledger: Ledger) -> None:
    """No one knows the rest of a stream: its first thousand rows are sent, the rest of a stamped export is not."""
    dump(ledger, night(0))
    deliver(ledger, limit=2_000)

    second = dump(ledger, night(60), stream=True)

    assert stamped(ledger, second) == 800
    assert len(deliver(ledger, limit=2_000)) == 700


def test_times_are_counted_in_bounded_memory_and_a_majority_survives() -> None:
    """A dump of a million moments costs as little as one of a thousand, and a stamp among them is found."""
    told, rows = None, 0
    for chunk in range(30):
        lines = range(chunk * 1_000, chunk * 1_000 + 1_000)
        moments = ((line * 3_600 if line % 5 < 2 else 7_000_000_000) * 1_000_000 for line in lines)
        told, rows = reassert.count_times(told, moments), rows + 1_000
        assert told is not None
        assert told.count(":") <= 1_000

    assert reassert.find_export_time(told, rows) == (7_000_000_000 * 1_000_000, 7_000_000_001 * 1_000_000 - 1)
    assert reassert.find_export_time(told, 2 * rows) is None


def test_a_row_that_names_three_slots_is_one_row(ledger: Ledger) -> None:
    """Of 700 rows with three slots each and 800 others, most rows bear no stamp: no one is held back."""
    slots = ("EMAIL|BULK", "MOBILE|BULK", "EMAIL|TRANS")
    for minute in (0, 60):
        three = [replace(word(str(n), minute=minute, slot=slot), line=n) for n in range(700) for slot in slots]
        others = [replace(word(str(n), minute=20), line=n) for n in range(700, 1_500)]
        source = ImportSource("csv", "dump.csv", f"three {next(_names)}", 1, None)
        import_id = ledger.intake.open_import(source).import_id
        ledger.intake.accept(import_id, [*three, *others], [], Checkpoint(1_500, 1_501, 0, 2_900))
        ledger.intake.finish_reading(import_id)
        ledger.intake.publish(import_id)
        assert (len(deliver(ledger, limit=5_000)), stamped(ledger, import_id)) == (2_900 if minute == 0 else 2_100, 0)


def test_always_sends_a_dump_again_that_repeats_the_same_times(ledger: Ledger) -> None:
    """The provider has lost Monday's opt-outs: Tuesday's dump, which says the same, was a duplicate and told no one."""
    imported(ledger, word("1"), word("2", "OPTIN"))
    deliver(ledger)
    ledger.reassert = ReassertRules(Reassert.ALWAYS)

    for _ in range(2):
        tuesday = imported(ledger, word("1"), word("2", "OPTIN"), word("1"))
        assert deliver(ledger) == CALLED
        assert counts(ledger, tuesday) == {"applied": 1, "duplicates": 2}


def test_always_sends_what_a_stream_repeats(ledger: Ledger) -> None:
    """The same where the file is told as it is read."""
    imported(ledger, word("1"))
    deliver(ledger)

    again = dump(ledger, [word("1"), word("1")], at_once=1, stream=True, reassert=Reassert.ALWAYS)

    assert deliver(ledger) == CALLED
    assert counts(ledger, again) == {"applied": 1, "duplicates": 1}


def test_an_event_that_comes_again_is_a_duplicate_even_so(ledger: Ledger) -> None:
    """A broker that delivers twice does not make us call twice."""
    ledger.reassert = ReassertRules(Reassert.ALWAYS)
    event(ledger, word("1"))
    deliver(ledger)

    event(ledger, word("1"))

    assert deliver(ledger) == []


def test_the_same_bytes_are_sent_again_when_the_command_asks_for_it(ledger: Ledger) -> None:
    """A person who reads that 1,500 opt-outs were not sent can send them with the same file."""
    dump(ledger, night(0))
    deliver(ledger, limit=2_000)
    first = dump(ledger, night(60), bytes="tuesday")

    second = dump(ledger, night(60), bytes="tuesday", reassert=Reassert.ALWAYS)

    assert second != first
    assert len(deliver(ledger, limit=2_000)) == 1_500
    assert counts(ledger, second) == {"applied": 1_500}


def test_a_command_that_was_cut_goes_on_with_what_it_began(ledger: Ledger) -> None:
    """Run again before it is over, it is the same import; run again afterwards, it is another one."""
    source = ImportSource("csv", "dump.csv", "the bytes", 1, None, reassert=Reassert.ALWAYS)
    first = ledger.intake.open_import(source).import_id
    assert ledger.intake.open_import(source).import_id == first
    ledger.intake.accept(first, [word("1")], [], Checkpoint(1, 2, 0, 1))
    ledger.intake.finish_reading(first)
    ledger.intake.publish(first)
    assert ledger.intake.open_import(source).import_id == first
    deliver(ledger)

    assert ledger.intake.open_import(source).import_id != first


def test_never_believes_what_is_confirmed(ledger: Ledger) -> None:
    """A company that alone writes to a provider saves the calls."""
    ledger.reassert = ReassertRules(Reassert.NEVER)
    imported(ledger, word("1"))
    deliver(ledger)

    event(ledger, word("1", minute=60))

    assert deliver(ledger) == []


@pytest.mark.parametrize(("default", "own"), [(Reassert.NEVER, Reassert.FRESH), (Reassert.FRESH, Reassert.FRESH)])
def test_each_connection_has_its_own_way(ledger: Ledger, default: Reassert, own: Reassert) -> None:
    """Others write to one provider and not to another."""
    ledger.reassert = ReassertRules(default, {"capillary": own, "gupshup": Reassert.NEVER})
    imported(ledger, word("1"), replace(word("1"), connection="gupshup"))
    deliver(ledger)
    other = ledger.queue.claim(Bucket("gupshup"), 1, "other", 60)
    ledger.queue.settle("other", [settlement(task, Applied(), ledger.now()) for task in other])

    later = imported(ledger, word("1", minute=60), replace(word("1", minute=60), connection="gupshup"))

    assert deliver(ledger) == CALLED
    assert counts(ledger, later) == {"applied": 1, "unchanged": 1}


def test_history_tells_when_the_provider_confirmed(ledger: Ledger) -> None:
    """`the provider holds OPTOUT` was said of a provider that had been changed since."""
    imported(ledger, word("1"))
    deliver(ledger)

    [found] = ledger.queries.histories([{"user_id": "1"}], None, 1)

    assert [slot.confirmed_at for slot in found.slots] == [ledger.now()]
