"""What a broker, or someone who can write to it, may say to workers and sweeps: they wake up, and nothing else."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
import redis
import trustme

from consent.broker.address import read_broker_address
from consent.broker.wakeups import WakeUps
from consent.change import Bucket
from console.doctor.broker import RIGHTS
from console.local.broker import LocalBroker
from tests.support.company import OPTRELAY, Company, company, fold, shuffled_rows
from worker import heartbeat

WORKER = [OPTRELAY, "worker", "--pool", "solo"]
CELERY = [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "--pool", "prefork", "--concurrency", "1"]
EITHER = [
    pytest.param(WORKER, id="optrelay worker"),
    pytest.param(CELERY, id="celery worker", marks=pytest.mark.proof),
]
QUEUE = "optrelay:optrelay.wake.capillary"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    """A broker that does not belong to a run."""
    broker = LocalBroker(tmp_path / "broker")
    broker.ensure()
    yield broker
    broker.stop()


@pytest.fixture
def shop(tmp_path: Path, broker: LocalBroker) -> Iterator[Company]:
    """A company whose workers are started by the test."""
    with company(tmp_path) as one:
        one.settings["BROKER_URL"] = broker.url
        yield one


@pytest.fixture
def store(broker: LocalBroker) -> Iterator[redis.Redis]:
    """Someone who can write to the broker."""
    with read_broker_address(broker.url).client() as client:
        yield client


@contextmanager
def process(shop: Company, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A command with the company's settings; its output goes to a file."""
    path = shop.folder / f"{len(list(shop.folder.glob('*.out')))}.out"
    with path.open("w") as log:
        started = subprocess.Popen(
            command, env=shop.environment(), cwd=shop.folder, stdout=log, stderr=subprocess.STDOUT, text=True
        )
    started.log = path  # type: ignore[attr-defined]
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def until(happens: Callable[[], Any], seconds: float = 40) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


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

    code, _, said = shop.run("sweep", "--once")
    assert code == 0, said

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


class Stranger:
    """A server with a certificate that no authority of ours has signed; it keeps what it is told."""

    def __init__(self, authority: trustme.CA, name: str) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.told, self.asked = self._listener.getsockname()[1], b"", 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            self.asked += 1
            try:
                raw.settimeout(5)
                with self._context.wrap_socket(raw, server_side=True) as spoken:
                    self.told += spoken.recv(4096)
            except OSError:
                raw.close()

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """An authority of our own, whose certificate lies in the folder."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made


@pytest.mark.parametrize("name", ["127.0.0.1", pytest.param("other.example.com", marks=pytest.mark.proof)])
def test_no_password_reaches_a_server_that_no_one_has_vouched_for(
    tmp_path: Path, authority: trustme.CA, name: str
) -> None:
    """A program between us and the broker gets its password: from worker, sweep, import, doctor and listener."""
    known = name != "127.0.0.1"  # signed by an authority we trust, for someone else; or for us, by no one we know
    stranger = Stranger(authority, name)
    trusted = f"?ssl_ca_certs={tmp_path / 'ca.pem'}" if known else ""
    address = f"rediss://:hush@127.0.0.1:{stranger.port}/0{trusted}"
    with company(tmp_path) as shop:
        shop.settings["BROKER_URL"] = address
        file = shop.write(shuffled_rows(4, 2))
        with process(shop, *WORKER) as worker, process(shop, OPTRELAY, "sweep"):
            assert shop.run("import", file)[0] == 0
            code, found, _ = shop.run("doctor")
            with process(shop, OPTRELAY, "listen", f"{address}{'&' if known else '?'}stream=consent"):
                until(lambda: stranger.asked > 8)
            log = worker.log.read_text()  # type: ignore[attr-defined]
    stranger.close()

    assert stranger.told == b""
    assert "hush" not in log
    (broker,) = [one for one in found["checks"] if one["what"] == "broker"]
    assert code == 1
    assert re.search("certificate is not trusted", broker["words"])
    assert "ssl_ca_certs" in broker["remedy"]


@pytest.mark.proof
def test_a_broker_with_a_certificate_of_our_own_authority_is_used(tmp_path: Path, authority: trustme.CA) -> None:
    """TLS is refused though everything is in order, and so it is switched off."""
    from console.local.broker import broker_binary

    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [broker_binary(), "--port", "0", "--tls-port", str(port), "--requirepass", "p@ss/#?[", "--save", ""]
    for option, name in (("cert", "cert"), ("key", "key"), ("ca-cert", "ca")):
        command += [f"--tls-{option}-file", str(tmp_path / f"{name}.pem")]
    command += ["--tls-auth-clients", "no"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    with suppress(subprocess.TimeoutExpired):
        server.wait(1)
        pytest.skip(
            "the Valkey of the wheel is built without TLS: this needs a redis-server or valkey-server that has it"
        )
    try:
        with company(tmp_path) as shop:
            shop.settings["BROKER_URL"] = (
                f"rediss://:p%40ss%2F%23%3F%5B@127.0.0.1:{port}/2?ssl_ca_certs={tmp_path / 'ca.pem'}"
            )
            until(lambda: [one["ok"] for one in shop.run("doctor")[1]["checks"] if one["what"] == "broker"] == [True])
            rows = shuffled_rows(40, 10)
            shop.run("import", shop.write(rows))
            with process(shop, *WORKER), process(shop, OPTRELAY, "sweep"):
                until(lambda: shop.held() == fold(rows))
    finally:
        server.kill()
        server.wait()


def test_imports_do_not_pile_up_wake_ups(shop: Company, store: redis.Redis) -> None:
    """With thousands of apps, each import adds wake-ups for all of them, and the sweep counts them each second."""
    for number in range(4):
        path = shop.write(shuffled_rows(3, 3 + number), f"{number}.csv")
        shop.run("import", path, "--effective-at", f"2026-11-2{number}")

    assert store.llen(QUEUE) == 1


@pytest.mark.proof
def test_the_doctor_names_rights_that_are_missing(shop: Company, broker: LocalBroker, store: redis.Redis) -> None:
    """The worker dies for want of a right, or waits, and the doctor says that a broker which answers is not there."""
    shop.settings["BROKER_URL"] = broker.url.replace("redis+socket://", "redis+socket://little:p%40ss@")

    def granted(rights: str) -> tuple[int, dict[str, str]]:
        store.execute_command("ACL", "SETUSER", "little", "reset", "on", ">p@ss", *rights.split())
        code, found, _ = shop.run("doctor")
        return code, {one["what"]: one["words"] for one in found["checks"] if one["what"].startswith("broker")}

    rows = shuffled_rows(40, 10)
    assert shop.run("import", shop.write(rows))[0] == 0
    assert granted(f"{RIGHTS} -brpop -eval -smembers") == (1, ANY)
    assert granted(f"{RIGHTS} -brpop -eval -smembers")[1]["broker's rights"].endswith("BRPOP, SMEMBERS, EVAL")
    assert "keys optrelay:*" in granted(RIGHTS.replace("~optrelay:*", "~another:*"))[1]["broker's rights"]
    code, words = granted(RIGHTS)
    assert code == 0, words
    assert words["broker"].startswith("it answers")
    with process(shop, *CELERY), process(shop, OPTRELAY, "sweep"):
        until(lambda: shop.held() == fold(rows))
    store.replicaof("127.0.0.1", "1")
    assert "takes no writes" in granted(RIGHTS)[1]["broker's rights"]
