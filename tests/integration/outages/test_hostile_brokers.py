"""What a broker, or someone who can write to it, may say to workers and sweeps: they wake up, and nothing else."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from base64 import b64encode
from typing import Any

import pytest
import redis

from consent.broker.wakeups import WakeUps
from consent.change import Bucket
from console.local.broker import LocalBroker
from tests.support.company import CELERY, OPTRELAY, WORKER, Company, fold, process, shuffled_rows, until
from worker import heartbeat

EITHER = [
    pytest.param(WORKER, id="optrelay worker"),
    pytest.param(CELERY, id="celery worker", marks=pytest.mark.proof),
]
QUEUE = "optrelay:optrelay.wake.capillary"


def genuine(broker: LocalBroker, store: redis.Redis) -> dict[str, Any]:
    """A wake-up as ours are, taken from the queue."""
    sender = WakeUps(broker.url)
    sender.send(Bucket("capillary"))
    sender.close()
    found: dict[str, Any] = json.loads(store.lpop(QUEUE))  # type: ignore[arg-type]
    return found


def odd_messages(good: dict[str, Any]) -> list[str]:
    """Entries that someone may put in the list."""
    odd: list[Any] = ["", 7, None, [], {}, {"body": 1}, {"body": "!"}, good["body"], [good]]
    for name in good:
        odd += [{**good, name: value} for value in (None, 7, [], {}, "x")]
    for part in ("headers", "properties"):
        for name in good[part]:
            odd += [{**good, part: {**good[part], name: value}} for value in (None, 7, [1], {"a": 1}, "x")]
    arguments: list[Any] = [[], ["a", "b", "c"], [1, 2], [None], {"a": 1}, 7, ["capillary", ["x"]], ["x" * 9_000]]
    for one in arguments:
        body = b64encode(json.dumps([one, {}, {"chord": {"task": "x"}, "errbacks": [{"task": "y"}]}]).encode())
        odd.append({**good, "body": body.decode()})
    return ["no JSON", "\xff", "{" * 2_000, *map(json.dumps, odd)]


@pytest.mark.parametrize("command", EITHER)
def test_entries_that_are_no_wake_ups_stop_nothing(
    shop: Company, broker: LocalBroker, store: redis.Redis, command: list[str]
) -> None:
    """One entry that is no JSON ends all workers, with exit code 0, and each sweep: no one is delivered any more."""
    messages = odd_messages(genuine(broker, store))
    rows = shuffled_rows(40, 10)
    shop.run("import", shop.write(rows))
    store.rpush(QUEUE, *messages)

    code, _, stderr = shop.run("sweep", "--once")
    assert code == 0, stderr

    with process(shop, *command) as worker, process(shop, OPTRELAY, "sweep") as sweep:
        until(lambda: not store.llen(QUEUE) and shop.held() == fold(rows))
        store.publish("optrelay:/0.celery.pidbox", json.dumps({"method": "shutdown", "destination": None}))
        store.rpush(QUEUE, *messages)
        until(lambda: not store.llen(QUEUE))
        time.sleep(1)
        assert worker.poll() is None
        assert sweep.poll() is None


@pytest.mark.proof
def test_remote_control_is_off(shop: Company, store: redis.Redis) -> None:
    """Who can write to the broker stops a connection's deliveries while every health check stays green."""
    with process(shop, *CELERY) as worker:
        until(lambda: "ready" in worker.log.read_text())  # type: ignore[attr-defined]
        asked = [*CELERY[:5], "control", "--timeout", "2", "shutdown"]
        subprocess.run(asked, env=shop.environment(), cwd=shop.folder, check=False, capture_output=True)
        channels = store.pubsub_numpat(), store.pubsub_channels()
        time.sleep(1)

        assert worker.poll() is None
        assert channels == (0, []), "a user of the broker needs the right to no channel"


@pytest.mark.proof
@pytest.mark.parametrize("command", EITHER)
def test_a_broker_that_becomes_a_replica_is_waited_for(shop: Company, store: redis.Redis, command: list[str]) -> None:
    """After a failover the worker is gone, and every opt-out waits until a person starts it again."""
    rows = shuffled_rows(40, 10)
    with process(shop, *command) as worker, process(shop, OPTRELAY, "sweep"):
        until(lambda: "ready" in worker.log.read_text())  # type: ignore[attr-defined]
        store.replicaof("127.0.0.1", "1")
        shop.run("import", shop.write(rows))
        time.sleep(5)
        assert worker.poll() is None
        store.replicaof("NO", "ONE")

        until(lambda: shop.held() == fold(rows))
        assert worker.poll() is None


def test_a_worker_that_fails_says_so_with_its_exit_code(shop: Company) -> None:
    """What keeps workers up takes 0 for the answer, and starts no other: no one delivers."""
    (shop.folder / "sitecustomize.py").write_text(
        "from kombu.transport.redis import Channel\n"
        "def fail(*_, **__): raise RuntimeError('a fault that no one foresaw')\n"
        "Channel.basic_consume = fail\n"
    )
    environment = shop.environment() | {"PYTHONPATH": str(shop.folder)}
    done = subprocess.run(
        WORKER, check=False, env=environment, cwd=shop.folder, timeout=60, capture_output=True, text=True
    )

    assert "Unrecoverable error" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("command", EITHER)
def test_a_worker_that_is_asked_to_end_ends_well(shop: Company, command: list[str]) -> None:
    """A warm shutdown is no failure."""
    with process(shop, *command) as worker:
        until(lambda: "ready" in worker.log.read_text())  # type: ignore[attr-defined]
        worker.send_signal(signal.SIGTERM)

        assert worker.wait(30) == 0


@pytest.mark.proof
def test_a_worker_is_well_while_it_takes_wake_ups(
    shop: Company, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The health check is green while no one is delivered, because a process is there that answers questions."""
    monkeypatch.setattr(heartbeat, "SILENT_SECONDS", 7.0)
    name = f"celery@{socket.gethostname()}"
    assert shop.run("doctor", "--worker")[0] == 1
    with process(shop, *CELERY) as worker:
        until(lambda: shop.run("doctor", "--worker")[0] == 0)
        time.sleep(8)
        assert heartbeat.why_unhealthy(store, name, ["capillary"]) == ""
        worker.send_signal(signal.SIGSTOP)
        until(lambda: "said nothing" in heartbeat.why_unhealthy(store, name, ["capillary"]))
        worker.send_signal(signal.SIGCONT)

    long_ago = {"at": time.time(), "taken": time.time() - 100, "busy": False}
    store.set(f"optrelay:worker:{name}", json.dumps(long_ago))
    store.delete(QUEUE)
    assert heartbeat.why_unhealthy(store, name, ["capillary"]) == "", "there is nothing to take"
    store.rpush(QUEUE, "a wake-up")
    assert "wake-ups wait" in heartbeat.why_unhealthy(store, name, ["capillary"])
    store.set(f"optrelay:worker:{name}", json.dumps(long_ago | {"busy": True}))
    assert heartbeat.why_unhealthy(store, name, ["capillary"]) == "", "its processes are at work"


def test_imports_do_not_pile_up_wake_ups(shop: Company, store: redis.Redis) -> None:
    """With thousands of apps, each import adds wake-ups for all of them, and the sweep counts them each second."""
    for number in range(4):
        path = shop.write(shuffled_rows(3, 3 + number), f"{number}.csv")
        shop.run("import", path, "--effective-at", f"2026-11-2{number}")

    assert store.llen(QUEUE) == 1
