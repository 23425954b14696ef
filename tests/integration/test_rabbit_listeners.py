"""Listeners on a real RabbitMQ: killed, cut off and stopped, they record every event once."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from amqp import Message
from cloudevents.core.bindings.amqp import to_binary_event
from cloudevents.core.v1.event import CloudEvent

from tests.integration.company import Company
from tests.integration.rabbit import ABSENT, Rabbit, rabbitmq, server_program
from tests.integration.streams import bodies, listeners, opt_out, recorded, stream, until
from tests.producers.http.serving import process, statuses

GOOD, BAD, KILLS = 1_000, 20, 4


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


def test_a_listener_outlives_its_broker(rabbit: Rabbit, shop: Company) -> None:
    """The broker is restarted and the queue deleted: the listener says so once each time, and goes on."""
    with listeners(shop, rabbit.source("restarts")) as one:
        one.start("one")
        rabbit.publish("restarts", [json.dumps(opt_out(1)).encode()])
        until(lambda: recorded(shop).customers.total() == 1)
        rabbit.stop()
        assert "cannot be reached" in one.said("one")
        rabbit.start()
        assert "again" in one.said("one")
        with rabbit.connect() as connection:
            connection.default_channel.queue_delete("restarts")
        assert "cannot be reached" in one.said("one")
        assert "again" in one.said("one")
        rabbit.publish("restarts", [json.dumps(opt_out(2)).encode()])
        until(lambda: recorded(shop).customers.total() == 2)
        assert one.stop("one") == 143
        assert "guest:guest" not in one.output("one", "err")


def test_strange_messages_do_not_stop_a_listener(rabbit: Rabbit, shop: Company) -> None:
    """A time millions of years away in a header, an encoding that nobody knows, a timestamp in milliseconds.

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


def test_one_cloud_event_over_three_sources_is_one_change(rabbit: Rabbit, shop: Company) -> None:
    """The same CloudEvent 1,000 times: through a stream, through a queue in either form of its headers, and by HTTP."""
    moment = datetime(2026, 11, 20, 8, tzinfo=UTC)
    said = {name: value for name, value in opt_out(1).items() if name != "effective_at"}
    event = CloudEvent(
        {"id": "7 %", "source": "/shop/ü", "type": "consent", "specversion": "1.0", "time": moment}, said
    )
    made = to_binary_event(event)
    colons = {
        name.replace("cloudEvents_", "cloudEvents:"): value for name, value in made.application_properties.items()
    }
    structured = {**event.get_attributes(), "time": moment.isoformat(), "data": said}
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
