"""Listeners on a real RabbitMQ: killed, cut off and stopped, they record every event once."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from struct import pack
from typing import Any

import psutil
import pytest
from amqp import Message
from cloudevents.core.bindings.amqp import to_binary_event
from cloudevents.core.v1.event import CloudEvent

from producers.events import consumer
from tests.support.company import Company
from tests.support.http_server import process, statuses
from tests.support.servers.event_streams import bodies, listeners, opt_out, recorded, rename_table, stream, until
from tests.support.servers.rabbitmq import ABSENT, Rabbit, rabbitmq, server_program

GOOD, BAD, KILLS = 1_000, 20, 4
MIB = 1024 * 1024
SMALL_ONES, LARGE_ONES, LARGE = 3_000, 300, 900_000


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """A RabbitMQ for this file. Where the package is absent the summary says so; where CI is set they fail."""
    if server_program() is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(ABSENT)
    with rabbitmq(tmp_path_factory.mktemp("rabbit")) as broker:
        yield broker


@pytest.fixture
def shop(tmp_path: Path) -> Company:
    """A company without a provider: nothing is delivered here."""
    return Company(tmp_path, "http://127.0.0.1:1")


@pytest.mark.takes(10)
@pytest.mark.proof
def test_kills_of_two_listeners_lose_no_event(rabbit: Rabbit, shop: Company) -> None:
    """1,000 events, 20 of them poison beside, two listeners of one queue, killed at random moments.

    Every good event is in the ledger exactly once, every poison one is recorded with its reason, the queue is empty.
    """
    odds = random.Random(5)
    with listeners(shop, rabbit.source("kills"), "--batch", "20") as both:
        rabbit.publish("kills", [{"body": body, "message_id": str(n)} for n, body in enumerate(bodies(GOOD, BAD))])
        both.start("one", "two")
        for _ in range(KILLS):
            time.sleep(odds.uniform(0.0, 0.1))
            name = odds.choice(("one", "two"))
            both.kill(name)
            both.start(name)
        until(lambda: sum(recorded(shop).customers.values()) == GOOD and recorded(shop).codes.total() >= BAD)
        assert [both.stop(name) for name in ("one", "two")] == [143, 143]

    found = recorded(shop)
    assert found.customers == {str(500_000_000 + number): 1 for number in range(GOOD)}
    assert found.codes == {"bad_json": 12, "unknown_value": 4, "bad_cloudevent": 4}
    assert all("queue kills, message " in str(place) for place in found.places)
    assert rabbit.left("kills") == 0


def declare_quorum(rabbit: Rabbit, name: str, limit: int) -> None:
    """A quorum queue that drops a message which it had to give away more often than this; RabbitMQ 4's own is 20."""
    features = {"x-queue-type": "quorum", "x-delivery-limit": limit}
    with rabbit.connect() as connection:
        connection.default_channel.queue_declare(name, durable=True, auto_delete=False, arguments=features)


@pytest.mark.proof
def test_a_queue_with_a_delivery_limit_loses_nothing_while_the_ledger_is_away(
    rabbit: Rabbit, shop: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten people's opt-outs were dropped by RabbitMQ: each try while the ledger was away had given them back once more.

    The connection outlives the outage, too, which lasts for several of its heartbeats.
    """
    monkeypatch.setattr(consumer, "_LONGEST_PAUSE", 0.5)
    declare_quorum(rabbit, "limited", 3)
    with listeners(shop, rabbit.source("limited&heartbeat=1")) as one:
        one.start("one")
        rabbit.publish("limited", [json.dumps(opt_out(0)).encode()])
        until(lambda: recorded(shop).customers.total() == 1)
        rename_table(shop, "alembic_version", "away")
        rabbit.publish("limited", [json.dumps(opt_out(number)).encode() for number in range(1, 11)])
        assert "nothing is lost" in one.next_message("one")
        time.sleep(5)
        rabbit.publish("limited", [json.dumps(opt_out(11)).encode()])
        rename_table(shop, "away", "alembic_version")
        assert "can be used again" in one.next_message("one")
        until(lambda: recorded(shop).customers.total() == 12)
        assert one.stop("one") == 143

    assert "0 duplicates" in one.output("one", "out")
    assert rabbit.left("limited") == 0


@pytest.mark.proof
def test_a_slow_commit_costs_no_connection(rabbit: Rabbit, shop: Company) -> None:
    """Another program holds the ledger's lock for longer than three heartbeats: nothing is given away twice."""
    declare_quorum(rabbit, "slow", 1)
    with listeners(shop, rabbit.source("slow&heartbeat=1")) as one:
        one.start("one")
        rabbit.publish("slow", [json.dumps(opt_out(0)).encode()])
        until(lambda: recorded(shop).customers.total() == 1)
        with closing(sqlite3.connect(shop.folder / "ledger.db")) as holder:
            holder.execute("BEGIN IMMEDIATE")
            rabbit.publish("slow", [json.dumps(opt_out(1)).encode()])
            time.sleep(4)
        until(lambda: recorded(shop).customers.total() == 2)
        rabbit.publish("slow", [json.dumps(opt_out(2)).encode()])
        until(lambda: recorded(shop).customers.total() == 3)
        one.stop("one")

    assert "3 events: 3 accepted, 0 duplicates" in one.output("one", "out")


@pytest.mark.takes(10)
@pytest.mark.proof
def test_large_messages_fit_into_little_memory(rabbit: Rabbit, shop: Company) -> None:
    """A listener read 2,000 messages of a megabyte at once, ended for want of memory, and recorded no one's opt-out.

    Small ones come first, so that the broker is allowed to send many ahead.
    """
    reason = "x" * LARGE
    rabbit.publish("large", [json.dumps(opt_out(number)).encode() for number in range(SMALL_ONES)])
    rabbit.publish("large", [json.dumps(opt_out(SMALL_ONES + n, padding=reason)).encode() for n in range(LARGE_ONES)])
    with listeners(shop, rabbit.source("large")) as one:
        one.start("one")
        process = psutil.Process(one.processes["one"].pid)
        before, most = process.memory_info().rss, 0

        def is_done() -> bool:
            nonlocal most
            most = max(most, process.memory_info().rss)
            return recorded(shop).customers.total() == SMALL_ONES + LARGE_ONES

        until(is_done, 120)
        one.stop("one")

    assert most - before < 150 * MIB
    assert rabbit.left("large") == 0


@pytest.mark.takes(10)
@pytest.mark.proof
def test_a_listener_outlives_its_broker(rabbit: Rabbit, shop: Company) -> None:
    """The broker is restarted and the queue deleted: the listener says so once each time, and goes on."""
    with listeners(shop, rabbit.source("restarts")) as one:
        one.start("one")
        rabbit.publish("restarts", [json.dumps(opt_out(1)).encode()])
        until(lambda: recorded(shop).customers.total() == 1)
        rabbit.stop()
        assert "cannot be reached" in one.next_message("one")
        rabbit.start()
        assert "again" in one.next_message("one")
        with rabbit.connect() as connection:
            connection.default_channel.queue_delete("restarts")
        assert "cannot be reached" in one.next_message("one")
        assert "again" in one.next_message("one")
        rabbit.publish("restarts", [json.dumps(opt_out(2)).encode()])
        until(lambda: recorded(shop).customers.total() == 2)
        assert one.stop("one") == 143
        assert "guest:guest" not in one.output("one", "err")


@pytest.mark.proof
def test_strange_messages_do_not_stop_a_listener(rabbit: Rabbit, shop: Company) -> None:
    """A time millions of years away in a header, an encoding that no one knows, a timestamp in milliseconds.

    Each is recorded as rejected, or read all the same if what it says is whole; what comes behind them is recorded.
    A message that names no time holds since its timestamp, and is refused without one: never since now.
    """
    timeless = {name: value for name, value in opt_out(3).items() if name != "effective_at"}
    messages: list[dict[str, Any]] = [
        {"body": json.dumps(opt_out(2)).encode(), "content_encoding": "gzip"},
        {"body": json.dumps(timeless).encode(), "timestamp": 1_795_000_000_000},
        {"body": json.dumps(timeless).encode()},
        {"body": json.dumps({**timeless, "user_id": "500000004"}).encode(), "timestamp": 1_790_000_000},
        {"body": json.dumps(opt_out(5)).encode()},
    ]
    with listeners(shop, rabbit.source("strange")) as one:
        rabbit.publish("strange", messages[:1])
        _publish_odd(rabbit, "strange", json.dumps(opt_out(1)).encode())
        rabbit.publish("strange", messages[1:])
        one.start("one")
        until(lambda: recorded(shop).customers.total() == 3)
        one.stop("one")

    assert sorted(recorded(shop).customers) == ["500000002", "500000004", "500000005"]
    assert recorded(shop).codes == {"unreadable_properties": 1, "missing_field": 2}
    assert rabbit.left("strange") == 0


class _OddMessage(Message):
    """A message with a header whose time is millions of years away, as a publisher's mistake would be."""

    def _serialize_properties(self) -> bytes:
        written: bytes = super()._serialize_properties()
        return written.replace(pack(">Q", 1_790_000_000), pack(">Q", 1_790_000_000_000_000))


def _publish_odd(rabbit: Rabbit, queue: str, body: bytes) -> None:
    moment = datetime.fromtimestamp(1_790_000_000, UTC)
    with rabbit.connect() as connection:
        connection.default_channel.basic_publish(_OddMessage(body, application_headers={"at": moment}), "", queue)


@pytest.mark.proof
def test_one_cloud_event_over_three_sources_is_one_change(rabbit: Rabbit, shop: Company) -> None:
    """The same CloudEvent 1,000 times: through a stream, through a queue in either form of its headers, and by HTTP."""
    moment = datetime(2026, 11, 20, 8, tzinfo=UTC)
    fields = {name: value for name, value in opt_out(1).items() if name != "effective_at"}
    event = CloudEvent(
        {"id": "7 %", "source": "/shop/ü", "type": "consent", "specversion": "1.0", "time": moment}, fields
    )
    made = to_binary_event(event)
    colons = {
        name.replace("cloudEvents_", "cloudEvents:"): value for name, value in made.application_properties.items()
    }
    structured = {**event.get_attributes(), "time": moment.isoformat(), "data": fields}
    with stream(shop.folder) as events, listeners(shop, events.source()) as ours:
        events.publish(*[json.dumps(structured).encode()] * 300)
        for headers in (made.application_properties, colons):
            rabbit.publish("once", [{"body": made.application_data, "headers": headers}] * 150)
        ours.start("stream")
        ours.command = (rabbit.source("once"),)
        ours.start("queue")
        with process(shop.folder) as served:
            answered = statuses(served.post([structured] * 400))
        until(lambda: events.taken() and recorded(shop).customers)
        until(lambda: "300 events" in _run(shop))
        ours.stop("stream")
        ours.stop("queue")

    assert len(answered) == 400
    assert set(answered) <= {"accepted", "duplicate"}
    assert recorded(shop).customers == {"500000001": 1}
    assert recorded(shop).codes == {}


def _run(shop: Company) -> str:
    """The row count of the run of the queue."""
    _, status, _ = shop.run("status")
    rows = {one["name"].partition(" queue ")[1]: one["rows"] for one in status["imports"]}
    return f"{rows.get(' queue ', 0)} events"
