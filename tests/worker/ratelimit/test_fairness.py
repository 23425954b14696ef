"""Places of the worker pool: a connection whose calls hang leaves some to the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from consent.broker.wakeups import redis_client
from console.local.broker import LocalBroker
from worker.ratelimit.fairness import FairSharing


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    """A broker's server."""
    broker = LocalBroker(tmp_path_factory.mktemp("broker"))
    broker.ensure()
    client = redis_client(broker.url)
    yield client
    client.close()
    broker.stop()


class Pool:
    """Worker processes that take their places one by one, and keep them until the test ends."""

    def __init__(self, store: redis.Redis, size: int) -> None:
        store.flushall()
        self.processes = [FairSharing(store, f"process-{n}") for n in range(size)]
        self.waiting = {"a", "b"}
        self.stack = ExitStack()
        for one in self.processes:
            with one.acquire("first", 1, set):  # so that all places are known
                pass

    def take(self, process: int, connection: str) -> bool:
        """Let a process ask for a place for a connection's delivery."""
        others = self.waiting - {connection}
        return self.stack.enter_context(self.processes[process].acquire(connection, 60, lambda: others)).acquired


def test_a_connection_that_hangs_leaves_the_last_place_to_another(store: redis.Redis) -> None:
    """Two processes: A gets one of them and no more as long as B has something to deliver, and B gets the other."""
    pool = Pool(store, 2)

    assert [pool.take(0, "a"), pool.take(1, "a"), pool.take(1, "b")] == [True, False, True]


def test_of_four_places_each_connection_can_have_two(store: redis.Redis) -> None:
    """Two deliveries in turn use a limit without gaps: a third for A is refused while B cannot have a second one."""
    pool = Pool(store, 4)

    assert [pool.take(n, "a") for n in (0, 1, 2)] == [True, True, False]
    assert [pool.take(n, "b") for n in (2, 3)] == [True, True]


def test_alone_a_connection_may_have_every_place(store: redis.Redis) -> None:
    """No one waits: nothing is kept free."""
    pool = Pool(store, 3)
    pool.waiting = {"a"}

    assert [pool.take(n, "a") for n in range(3)] == [True] * 3


def test_a_place_is_given_back(store: redis.Redis) -> None:
    """When a delivery of A has ended, another one of A may begin."""
    pool = Pool(store, 2)
    for _ in range(3):
        with pool.processes[0].acquire("a", 60, lambda: {"b"}) as share:
            assert share.acquired

    assert pool.take(0, "a")


def test_a_place_of_a_killed_process_is_free_in_the_end(store: redis.Redis) -> None:
    """A process that never gave its place back counts no longer than its delivery could have lasted."""
    pool = Pool(store, 2)
    pool.stack.enter_context(pool.processes[0].acquire("a", -1, set))

    assert [pool.take(0, "a"), pool.take(1, "b")] == [True, True]


def test_without_redis_every_delivery_goes_on(tmp_path: Path) -> None:
    """A broker that is gone stops no delivery: the rate limiter has its own way to go on alone."""
    lost = redis_client(f"redis+socket://{tmp_path}/unknown.sock")
    with FairSharing(lost, "process").acquire("a", 60, set) as share:
        assert share.acquired


def test_a_delivery_keeps_its_process_until_another_connection_needs_it(store: redis.Redis) -> None:
    """A delivery that goes on as long as there is work holds the only process, and the neighbour's opt-outs wait."""
    pool, others = Pool(store, 1), set[str]()
    share = pool.stack.enter_context(pool.processes[0].acquire("a", 60, set, lambda: others))

    assert share.acquired
    assert share.keep()
    others.add("b")
    assert not share.keep()


def test_two_connections_with_a_process_each_both_go_on(store: redis.Redis) -> None:
    """Neither gives up what the other has, too."""
    pool = Pool(store, 2)
    a = pool.stack.enter_context(pool.processes[0].acquire("a", 60, lambda: {"b"}))
    b = pool.stack.enter_context(pool.processes[1].acquire("b", 60, lambda: {"a"}))

    assert (a.keep(), b.keep()) == (True, True)


def test_a_second_process_is_given_up_for_a_connection_that_has_none(store: redis.Redis) -> None:
    """A holds both processes when B's first change comes: within a window there is one for it."""
    pool, others = Pool(store, 2), set[str]()
    one, two = (pool.stack.enter_context(pool.processes[n].acquire("a", 60, set, lambda: others)) for n in (0, 1))

    others.add("b")

    assert (one.acquired, two.acquired) == (True, True)
    assert not one.keep()


def test_places_of_a_clock_that_was_set_back_are_free(store: redis.Redis) -> None:
    """Killed deliveries keep their places for the two hours by which the clock was ahead, and others wait for them."""
    pool = Pool(store, 4)
    pool.waiting = {"a"}
    assert all(pool.take(n, "a") for n in range(4))
    pool.waiting = {"a", "b"}
    for key in store.scan_iter("*"):
        for member, score in store.zrange(key, 0, -1, withscores=True):
            store.zadd(key, {member: score + 7_200_000_000})

    assert [pool.take(0, "a"), pool.take(1, "b")] == [True, True]
