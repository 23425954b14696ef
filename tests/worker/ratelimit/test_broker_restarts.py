"""One limit over brokers that come and go: what one gave out, the ledger knows, and the next one begins behind it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from consent.broker.wakeups import redis_client
from consent.change import Bucket
from consent.connection import parse_rate
from consent.ledger.ledger import Ledger
from console.local.broker import LocalBroker
from sandbox.rate import worst_window
from tests.support.examples import POSTGRESQL_IN_PROOFS
from worker.ratelimit.limiter import RateLimiter
from worker.ratelimit.write_ahead import end_reservations_of

pytestmark = pytest.mark.waits

WINDOW = 0.2
JITTER = 0.1
"""Seconds by which a busy machine may tell a process its slots too late."""


@pytest.fixture
def ready(ledger_url: str) -> Iterator[Ledger]:
    """A ledger that goes by the real time."""
    ledger = Ledger(ledger_url)
    ledger.maintenance.migrate()
    yield ledger
    ledger.close()


def started(folder: Path, open_: ExitStack) -> LocalBroker:
    """A broker with nothing in it."""
    broker = LocalBroker(folder)
    broker.ensure()
    open_.callback(broker.stop)
    return broker


def rate_limiter(broker: LocalBroker, ledger: Ledger, rate: str) -> RateLimiter:
    """The rate limiter of one process that has just started."""
    made = RateLimiter(redis_client(broker.url), Bucket("capillary"), parse_rate(rate), "here", WINDOW, 4)
    made.write_into(ledger)
    made.prime()
    return made


def call(limiter: RateLimiter, moments: list[float], until: float) -> None:
    """Use each permit at its moment or not at all, as a delivery does, until a moment of the monotonic clock."""
    while time.monotonic() < until:
        reservation = limiter.reserve(3)
        for moment in reservation.moments:
            time.sleep(max(0.0, moment - time.monotonic()))
            if (now := time.monotonic()) <= moment + reservation.late:
                moments.append(now)
        time.sleep(0.01)


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.proof)])
def test_no_window_is_overfull_whatever_becomes_of_the_broker(ready: Ledger, tmp_path: Path, seed: int) -> None:
    """A broker that is killed, wiped or ended, at any moment, begins the limit anew, and the provider shuts us out."""
    odds, moments = random.Random(seed), list[float]()
    with ExitStack() as open_:
        broker = started(tmp_path / "0", open_)
        for number, event in enumerate(odds.sample(["killed", "wiped", "ended", "restarted"], 4), 1):
            limiter = rate_limiter(broker, ready, "10/2s")
            before = len(moments)
            call(limiter, moments, time.monotonic() + 3.6 + odds.uniform(0.2, 1.0))
            assert len(moments) > before
            limiter.reserve(odds.randrange(3))  # and is gone before it can use these
            match event:
                case "wiped":
                    limiter.store.flushall()
                case "restarted":
                    broker.stop()
                    broker.ensure()
                case "ended":
                    end_reservations_of(limiter.store, ready)
                    broker.stop()
                    broker = started(tmp_path / str(number), open_)
                case _:
                    broker.stop()
                    broker = started(tmp_path / str(number), open_)
        call(rate_limiter(broker, ready, "10/2s"), moments, time.monotonic() + 4.5)

    assert worst_window(moments, 2.0 - JITTER) <= 10
    assert len(moments) > 25, "the limit is 5 a second for about 20 seconds; a busy machine uses half of it"


def test_two_brokers_of_one_ledger_never_give_out_slots_at_once(ready: Ledger, tmp_path: Path) -> None:
    """A run beside workers that have a broker of their own calls at twice the limit, and no one is told."""
    moments: list[float] = []
    with ExitStack() as open_:
        one = rate_limiter(started(tmp_path / "one", open_), ready, "10/second")
        two = rate_limiter(started(tmp_path / "two", open_), ready, "10/second")
        end = time.monotonic() + 4
        while time.monotonic() < end:
            for limiter in (one, two):
                moments.extend(limiter.reserve(3).moments)
            time.sleep(0.02)

    assert worst_window(sorted(moments), 1.0 - JITTER) <= 10
    assert len(moments) >= 30, "the first one goes on as before"


def test_a_clock_that_was_set_back_stops_no_bucket(ready: Ledger, tmp_path: Path) -> None:
    """A machine whose clock was a year ahead for a moment would call no one for a year."""
    with ExitStack() as open_:
        first = rate_limiter(started(tmp_path / "one", open_), ready, "10/second")
        true, ready.now = ready.now, lambda: time.time_ns() // 1_000 + 365 * 86_400 * 1_000_000
        assert first.reserve(1).moments
        ready.now = true
        second = rate_limiter(started(tmp_path / "two", open_), ready, "10/second")

        assert not second.reserve(1).moments
        assert 0 < second.soonest() < 60


def test_slots_are_written_down_a_few_seconds_at_a_time(ready: Ledger, tmp_path: Path) -> None:
    """A write for each call would make the ledger the limit."""
    writes: list[int] = []
    write = ready.database.write
    ready.database.write = lambda work, **options: writes.append(1) or write(work, **options)  # type: ignore[method-assign]
    with ExitStack() as open_:
        moments: list[float] = []
        call(rate_limiter(started(tmp_path / "one", open_), ready, "200/second"), moments, time.monotonic() + 3)

    assert len(writes) <= 6
    assert len(moments) > 15 * len(writes)  # three seconds hold 600 of them, on a busy machine fewer


def test_without_its_broker_a_process_writes_down_what_it_gives_itself(ready: Ledger, tmp_path: Path) -> None:
    """A worker that outlives its broker goes on calling, and the run that is started meanwhile calls beside it."""
    with ExitStack() as open_:
        broker = started(tmp_path / "one", open_)
        orphan = rate_limiter(broker, ready, "10/second")
        orphan.reserve(1)
        broker.stop()
        moments: list[float] = []
        end = time.monotonic() + 30
        while len(moments) < 2:
            assert time.monotonic() < end
            moments.extend(orphan.reserve(3).moments)
            time.sleep(0.02)
        second = rate_limiter(started(tmp_path / "two", open_), ready, "10/second")
        while not (found := second.reserve(1).moments):
            time.sleep(0.02)

    assert found[0] >= moments[-1] + 0.1


class WipedAtOnce(redis.Redis):
    """A client of a broker that loses its data whenever this asks for something."""

    def get(self, name: str) -> object:
        """Ask too late."""
        self.flushall()
        return super().get(name)


def test_a_broker_that_is_wiped_between_two_questions_is_away_for_a_moment(ready: Ledger, tmp_path: Path) -> None:
    """It has a name, and then none: the limiter takes it for a broker that cannot be reached, as others do."""
    with ExitStack() as open_:
        broker = started(tmp_path / "0", open_)
        limiter = rate_limiter(broker, ready, "10/s")
        assert limiter.written is not None
        limiter.written.store = WipedAtOnce(unix_socket_path=broker.url.removeprefix("redis+socket://"))
        with pytest.raises(redis.ConnectionError, match="lost its data"):
            limiter.written.extend(int(time.time() * 1e6), 0.1)
