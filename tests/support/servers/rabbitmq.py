"""A RabbitMQ of the tests' own, from the system's package: private ports, a private folder, gone afterwards."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amqp.exceptions import NotFound
from kombu import Connection

START_SECONDS = 90.0
ABSENT = "RabbitMQ is not installed (apt-get install rabbitmq-server): the tests with RabbitMQ DID NOT RUN"


def server_program() -> str | None:
    """Return RabbitMQ's own start script, which any user may run, or None if the package is not there."""
    # The script on the PATH is Debian's wrapper: it wants to be root, or the user rabbitmq.
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    return str(found[-1]) if found else None


def free_port() -> int:
    """Return a port that no one listens on, and that the system hands to no connection before the broker is up."""
    while True:
        port = random.randrange(*_NEVER_EPHEMERAL)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


_NEVER_EPHEMERAL = (20_000, 32_000)  # Linux gives outgoing connections 32,768 and above


@dataclass
class Rabbit:
    """One broker; it remembers durable queues and messages over restarts."""

    folder: Path
    port: int = field(default_factory=free_port)
    _dist: int = field(default_factory=free_port)
    _epmd: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def server(self) -> str:
        """The broker's address."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def source(self, queue: str) -> str:
        """The address of a queue, as the optrelay command wants it."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F?queue={queue}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        program = server_program()
        assert program, ABSENT
        with (self.folder / "rabbit.out").open("ab") as out:
            self._process = subprocess.Popen(
                [program],
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            assert self._process.poll() is None, (self.folder / "rabbit.out").read_text()
            with suppress(OSError), closing(self.connect()) as connection:
                connection.connect()
                return
            time.sleep(0.2)
        raise AssertionError("RabbitMQ does not answer:\n" + (self.folder / "rabbit.out").read_text())

    def stop(self) -> None:
        """End it as a restart of its machine would."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End it, and the little name server that Erlang started with it."""
        self.stop()
        if epmd := shutil.which("epmd"):
            streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run([epmd, "-port", str(self._epmd), "-kill"], check=False, **streams)

    def connect(self) -> Connection:
        """Return a connection of a publisher's own."""
        return Connection(self.server, connect_timeout=2)

    def publish(self, queue: str, bodies: list[Any], **properties: Any) -> None:
        """Publish messages to a durable queue as any client would, and wait until the broker has them."""
        with Connection(self.server, transport_options={"confirm_publish": True}) as connection:
            channel = connection.default_channel
            if not self._is_there(queue):
                channel.queue_declare(queue, durable=True, auto_delete=False)
            producer = connection.Producer(channel, serializer=None)
            for body in bodies:
                own = properties | (body if isinstance(body, dict) else {"body": body})
                given = {"content_type": "application/json", "content_encoding": "binary"} | own
                producer.publish(routing_key=queue, delivery_mode=2, **given)

    def left(self, queue: str) -> int:
        """Return how many messages wait in a queue that no one reads."""
        with self.connect() as connection:
            return int(connection.default_channel.queue_declare(queue, passive=True).message_count)

    def _is_there(self, queue: str) -> bool:
        with self.connect() as connection, suppress(NotFound):
            connection.default_channel.queue_declare(queue, passive=True)
            return True
        return False

    def _environment(self) -> dict[str, str]:
        own = {
            "RABBITMQ_NODENAME": f"optrelay-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "rabbit.pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "no-plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "no-config"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "HOME": str(self.folder),
        }
        return {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")} | own


@contextmanager
def rabbitmq(folder: Path) -> Iterator[Rabbit]:
    """A broker for as long as the block lasts."""
    broker = Rabbit(folder)
    try:
        broker.start()
        yield broker
    finally:
        broker.close()
