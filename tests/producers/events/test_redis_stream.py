"""What a listener reads from a real stream, and in which order: nothing is skipped and nothing comes for ever."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pytest

from consent.errors import ConfigurationError, SourceUnavailable
from producers.events import event_parser
from producers.events.event import Event
from producers.events.sources.redis_stream import RedisStream
from producers.parsing.error_messages import RowError
from tests.support.servers.event_streams import Stream, stream

SOON = 0.01


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stream]:
    """A server for this file."""
    with stream(tmp_path_factory.mktemp("valkey")) as made:
        yield made


@pytest.fixture
def events(server: Stream) -> Stream:
    """An empty server."""
    server.client.flushall()
    return server


def listener(events: Stream, name: str = "one", claim_after: float = 60) -> RedisStream:
    """A listener under a name."""
    return RedisStream(events.source(claim_after=claim_after), name)


def ids(found: Sequence[Event]) -> list[object]:
    """The entries that were read."""
    return [one.receipt for one in found]


def test_a_new_group_reads_from_the_stream_s_beginning(events: Stream) -> None:
    """What was published before anybody listened is not lost."""
    published = events.publish(b"1", b"2", b"3")

    assert ids(listener(events).read(10, SOON)) == published


def test_what_was_read_and_not_acknowledged_comes_first_after_a_restart(events: Stream) -> None:
    """Before anything new, in batches, and once."""
    published = events.publish(b"1", b"2", b"3")
    listener(events).read(10, SOON)
    newest = events.publish(b"4")
    again = listener(events)

    batches = [ids(again.read(2, SOON)) for _ in range(4)]

    assert batches == [published[:2], published[2:], newest, []]


def test_what_a_dead_listener_held_is_taken_over_after_a_while(events: Stream) -> None:
    """Not before: its owner may only be slow. Its owner's name is another, so it would never ask again."""
    published = events.publish(b"1", b"2", b"3")
    listener(events, "dead").read(10, SOON)
    patient, quick = listener(events, "patient"), listener(events, "quick", claim_after=0.2)

    assert ids(patient.read(10, SOON)) == []
    assert ids(quick.read(10, SOON)) == []
    time.sleep(0.3)
    taken = [*quick.read(2, SOON), *quick.read(2, SOON)]
    assert ids(taken) == published
    quick.acknowledge(taken)
    assert events.pending() == 0


@pytest.mark.parametrize("claimed", [True, False])
def test_entries_that_were_deleted_while_they_were_pending_are_told(events: Stream, claimed: bool) -> None:  # noqa: FBT001 - a parameter
    """Someone trims the stream: an opt-out that is gone so is no secret, and what is left is read once.

    What is gone does not come for ever.
    """
    published = events.publish(*b"123456789")
    listener(events, "one").read(10, SOON)
    events.client.xdel("consent", *published[:4], *published[5:])
    time.sleep(0.06)
    other = listener(events, "other" if claimed else "one", claim_after=0.05)

    found: list[Event] = []
    while some := other.read(3, SOON):
        found += some
        other.acknowledge(some)
    assert sorted(str(one.receipt) for one in found) == sorted(map(str, published))
    gone = {one.receipt for one in found if one.error is not None and one.error.code == "deleted_entry"}
    assert gone == {*published} - {published[4]}
    assert events.pending() == 0


@pytest.mark.parametrize("kept", [0, 4])
def test_entries_that_were_trimmed_before_they_were_read_are_told(events: Stream, kept: int) -> None:
    """A stream with a MAXLEN outgrows it while no listener runs: people's opt-outs are gone, and no one knew."""
    events.publish(*b"12")
    first = listener(events)
    first.acknowledge(first.read(10, SOON))
    published = events.publish(*b"3456789")
    events.client.xtrim("consent", maxlen=kept, approximate=False)

    seen = [one for _ in range(3) for one in listener(events).read(10, SOON)]
    again = listener(events)
    lost, *rest = again.read(10, SOON)

    assert lost.error is not None
    assert (lost.error.code, lost.receipt) == ("deleted_unread", None)
    assert str(len(published) - kept) in lost.error.message
    assert {one.place for one in seen if one.error} == {lost.place}  # the ledger records it once
    again.acknowledge([lost, *rest])
    assert ids(again.read(10, SOON)) == published[len(published) - kept :]
    assert not again.read(10, SOON)


def test_a_stream_that_was_trimmed_of_what_was_read_tells_nothing(events: Stream) -> None:
    """Neither does one that was trimmed before the group was made: what others have read is no loss of ours."""
    events.publish(*b"123")
    events.client.xtrim("consent", maxlen=1, approximate=False)
    one = listener(events)
    for _ in range(2):
        found = one.read(10, SOON)
        assert [event.error for event in found] == [None] * len(found)
        one.acknowledge(found)
        events.client.xtrim("consent", maxlen=0, approximate=False)
        events.publish(*b"456")
        one.close()

    assert [event.error for event in one.read(10, SOON)] == [None] * 3


def test_an_entry_says_where_and_when_it_was_published(events: Stream) -> None:
    """Its place never changes; its id is its time, unless the publisher has chosen an id that is none."""
    events.client.xadd("consent", {"event": b"{}"}, id="7-1")
    events.client.xadd("consent", {"event": b"{}"}, id="1795336200000-0")
    events.client.xadd("consent", {"event": b"{}"}, id=f"{2**63}-0")
    chosen, timely, late = listener(events).read(10, SOON)

    assert str(chosen.place).endswith(" stream consent, entry 7-1")
    assert (chosen.since, timely.since, late.since) == (None, datetime(2026, 11, 22, 8, 30, tzinfo=UTC), None)


def test_an_entry_is_one_event_field_or_flat_fields(events: Stream) -> None:
    """Bytes are left as they are for JSON; fields must be UTF-8."""
    events.client.xadd("consent", {"event": b"\xff", "note": "x"})
    events.client.xadd("consent", {"user_id": "1", "reason": "größer"})
    events.client.xadd("consent", {"user_id": b"\xff"})
    whole, flat, damaged = listener(events).read(10, SOON)

    assert whole.body == b"\xff"
    assert flat.body == {"user_id": "1", "reason": "größer"}
    assert damaged.error is not None
    assert damaged.error.code == "bad_encoding"


def test_what_waiting_does_not_fix_is_a_matter_of_settings(events: Stream) -> None:
    """A key that is no stream, and a password that is refused."""
    events.client.set("consent", "text")
    with pytest.raises(ConfigurationError, match="no stream"):
        listener(events).read(1, SOON)
    wrong = events.source().replace("socket://", "socket://someone:hush-hush-7@")
    with pytest.raises(ConfigurationError, match="refuses our user") as refused:
        RedisStream(wrong, "one").read(1, SOON)
    assert "hush" not in str(refused.value)


def may(events: Stream, *rights: str) -> RedisStream:
    """A listener whose user may do this and nothing else."""
    events.client.acl_setuser("reader", enabled=True, reset=True, passwords=["+hush-hush-7"], keys=["*"])
    events.client.execute_command("ACL", "SETUSER", "reader", *rights)
    return RedisStream(events.source().replace("socket://", "socket://reader:hush-hush-7@"), "one")


READING = ("+xreadgroup", "+xautoclaim", "+xack")


def test_a_user_who_may_not_make_groups_reads_from_one_that_is_there(events: Stream) -> None:
    """Security gave the listener a user who may read and acknowledge: it ended at once, and no one was opted out."""
    events.client.xgroup_create("consent", "optrelay", id="0", mkstream=True)
    published = events.publish(b"1", b"2")
    one = may(events, *READING)

    found = one.read(10, SOON)
    one.acknowledge(found)

    assert ids(found) == published
    assert events.pending() == 0


def test_a_user_who_may_not_make_the_group_is_told_how(events: Stream) -> None:
    """What is missing is said as the command that someone else has to run."""
    events.publish(b"1")

    with pytest.raises(ConfigurationError, match="XGROUP CREATE consent optrelay 0 MKSTREAM"):
        may(events, *READING).read(1, SOON)
    with pytest.raises(ConfigurationError, match="refuses our user the command XREADGROUP"):
        may(events, "+xgroup").read(1, SOON)


def test_a_batch_holds_so_many_bytes_and_no_more(events: Stream) -> None:
    """However large the entries are, new, pending or taken over: one by one if one alone is too much."""
    published = events.publish(*[b"x" * 1000] * 300, *[b"x" * 100_000] * 40)
    for name, after in (("one", 60.0), ("one", 60.0), ("other", 0.01)):
        again = listener(events, name, claim_after=after)
        time.sleep(0.02)
        batches = list(iter(lambda again=again: again.read(250, SOON, 1_000_000), []))  # type: ignore[misc]
        assert [one for batch in batches for one in ids(batch)] == published
        assert max(len(batch) for batch in batches) == 250
        # The first of the large ones come before anybody can know how large they are: no more than a hundred.
        assert sorted(sum(one.size for one in batch) for batch in batches)[-2] < 1_200_000
    one = listener(events, "third", claim_after=0.01)
    time.sleep(0.02)
    assert len([one.read(250, SOON, 1), one.read(250, SOON, 1)][1]) == 1


def test_a_group_that_is_gone_is_said_and_made_anew(events: Stream) -> None:
    """Someone has flushed the server: what was published since is read."""
    one = listener(events)
    one.read(1, SOON)
    events.client.flushall()
    with pytest.raises(SourceUnavailable, match="made anew"):
        one.read(1, SOON)
    one.close()
    published = events.publish(b"1")

    assert ids(one.read(1, SOON)) == published


def test_a_stream_that_is_deleted_while_much_is_unread_is_told_in_the_same_words(events: Stream) -> None:
    """A listener that is behind asks what was deleted, of a stream that is gone: "the server says Command"."""
    one = listener(events)
    events.publish(*b"123456")
    one.acknowledge(one.read(3, SOON))
    events.client.delete("consent")
    with pytest.raises(SourceUnavailable, match="made anew"):
        one.read(3, SOON)


def test_an_entry_with_one_field_twice_is_refused(events: Stream) -> None:
    """An opt-out is read as an opt-in, because a dictionary keeps the last of two fields."""
    fields = ("user_id", "7", "action", "OPTOUT", "action", "OPTIN")
    events.client.execute_command("XADD", "consent", "*", *fields)
    events.client.execute_command("XADD", "consent", "*", *fields[:4])
    one = listener(events, claim_after=0.01)

    found = one.read(10, SOON)

    assert [_codes(event) for event in found] == [["named_twice"], []]
    assert found[1].body == {"user_id": "7", "action": "OPTOUT"}
    assert b'"OPTOUT", "action": "OPTIN"' in bytes(found[0].body)
    time.sleep(0.05)
    again = listener(events, "two", claim_after=0.01).read(10, SOON)
    assert [_codes(event) for event in again] == [["named_twice"], []]


def _codes(event: Event) -> list[str]:
    return [one.code for one in event_parser.read(event) if isinstance(one, RowError)]
