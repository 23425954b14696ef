"""Listeners on a real stream: killed, cut off and stopped, they record every event once."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest

from consent.ledger.ledger import Ledger
from tests.support.company import Company
from tests.support.servers.event_streams import bodies, listeners, opt_out, recorded, rename_table, stream, until

GOOD, BAD, KILLS = 5_000, 50, 10


def shop_in(folder: Path) -> Company:
    """A company without a provider: nothing is delivered here."""
    return Company(folder, "http://127.0.0.1:1")


@pytest.mark.takes(20)
@pytest.mark.proof
def test_ten_kills_of_two_listeners_lose_no_event(tmp_path: Path, postgres_database: str) -> None:
    """5,000 events, 50 of them poison beside, two listeners, one of them killed ten times at random moments.

    Every good event is in the ledger exactly once, every poison one is recorded with its place and reason, and the
    stream's list of pending entries is empty.
    """
    odds, shop = random.Random(11), shop_in(tmp_path)
    shop.settings["LEDGER_URL"] = postgres_database
    assert shop.run("migrate")[0] == 0
    with stream(tmp_path) as events, listeners(shop, events.source(claim_after=2), "--batch", "50") as both:
        all_of_them = bodies(GOOD, BAD)
        events.publish(*all_of_them[:2000])
        both.start("one", "two")
        for turn in range(KILLS):
            events.publish(*all_of_them[2000 + turn * 305 : 2305 + turn * 305])
            name = odds.choice(("one", "two"))
            time.sleep(odds.uniform(0.0, 0.4))
            both.kill(name)
            both.start(name)
        until(events.taken)

        assert [both.stop(name) for name in ("one", "two")] == [143, 143]

    found = recorded(shop)
    assert found.customers == {str(500_000_000 + number): 1 for number in range(GOOD)}
    assert found.codes == {"bad_json": 30, "unknown_value": 10, "bad_cloudevent": 10}
    assert len(set(found.places)) == BAD
    assert all("stream consent, entry " in str(place) for place in found.places)


def test_a_listener_outlives_its_server(tmp_path: Path) -> None:
    """The server is killed and comes back empty, then someone flushes it: it is told once each time, and goes on."""
    shop = shop_in(tmp_path)
    with stream(tmp_path) as events, listeners(shop, events.source()) as one:
        one.start("one")
        events.publish(json.dumps(opt_out(1)).encode())
        until(events.taken)
        events.broker.stop()
        assert "cannot be reached" in one.next_message("one")
        events.broker.ensure()
        assert "again" in one.next_message("one")
        events.publish(json.dumps(opt_out(2)).encode())
        until(events.taken)
        events.client.flushall()
        assert "made anew" in one.next_message("one")
        assert "again" in one.next_message("one")
        events.publish(json.dumps(opt_out(3)).encode())
        until(events.taken)

        assert one.stop("one", signal.SIGINT) == 130
        assert "Traceback" not in one.output("one", "err")
    assert sorted(recorded(shop).customers) == ["500000001", "500000002", "500000003"]


@pytest.mark.proof
def test_nothing_is_given_out_again_while_the_ledger_is_away(tmp_path: Path) -> None:
    """A stream counts how often it has given an entry out, and some take one that comes too often for poison.

    The listener is content with what it holds, and reads nothing behind it.
    """
    shop = shop_in(tmp_path)
    with stream(tmp_path) as events, listeners(shop, events.source()) as one:
        one.start("one")
        events.publish(json.dumps(opt_out(1)).encode())
        until(events.taken)
        rename_table(shop, "alembic_version", "away")
        first = events.publish(json.dumps(opt_out(2)).encode())
        assert "nothing is lost" in one.next_message("one")
        events.publish(json.dumps(opt_out(3)).encode())
        time.sleep(3)
        (held,) = events.client.xpending_range("consent", "optrelay", "-", "+", 10)
        rename_table(shop, "away", "alembic_version")
        until(events.taken)
        one.stop("one")

    assert (held["message_id"], held["times_delivered"]) == (first[0], 1)
    assert "3 events: 3 accepted, 0 duplicates" in one.output("one", "out")


def test_a_listener_says_what_it_did(tmp_path: Path) -> None:
    """Its counts are one JSON object; its run is sealed once delivered; and the password of its source is nowhere."""
    shop = shop_in(tmp_path)
    with stream(tmp_path) as events, listeners(shop, events.source(), "--json") as one:
        events.client.config_set("requirepass", "hush-hush-7")
        events.client.execute_command("AUTH", "hush-hush-7")
        one.command = (events.source().replace("socket://", "socket://:hush-hush-7@"), "--json")
        one.start("one")
        good = json.dumps(opt_out(1)).encode()
        events.publish(good, good, b"{oops")
        until(events.taken)
        one.stop("one")
        out, errors = one.output("one", "out"), one.output("one", "err")
        counts = json.loads(out)
        _, status, _ = shop.run("status", "latest")
        _, rejected, _ = shop.run("rejected-events", "show", "1", "--reveal")

        assert (counts["events"], counts["accepted"], counts["duplicates"], counts["rejected"]) == (3, 1, 1, 1)
        assert (status["rows"], status["pending"], status["reject_codes"]) == (3, 1, {"bad_json": 1})
        assert status["state"] == "released"
        assert "rejected-events list" in errors
        assert rejected["text"] == "{oops"
        assert "hush-hush-7" not in out + errors + json.dumps(status)
    ledger = Ledger(shop.environment()["OPTRELAY_LEDGER_URL"])
    ((source, lag),) = ledger.event_sources.lag_seconds().items()
    ledger.close()
    assert source.endswith("stream consent")
    assert "hush-hush-7" not in source
    assert lag < 60
