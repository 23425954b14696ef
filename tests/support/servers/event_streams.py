"""Publishers and listeners for the tests: events that can be counted afterwards, poison ones among them."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import select

from consent.ledger.ledger import Ledger
from consent.ledger.schema import changes, rejects, targets
from console.cli import main
from console.local.broker import LocalBroker
from tests.support.company import Company

POISON: tuple[bytes, ...] = (
    b"{oops",
    b"7",
    b'{"user_id": "1", "channel": "FAX", "priority": "BULK", "action": "OPTOUT"}',
    b'{"specversion": "1.0", "id": "1"}',
    b"\xff\xfe\x00",
)
"""What no event may look like; each has a code of its own or its own field at fault."""


def opt_out(number: int, **more: Any) -> dict[str, Any]:
    """An opt-out of a customer of its own, said on some morning."""
    fields = {"user_id": str(500_000_000 + number), "channel": "EMAIL", "priority": "BULK", "action": "OPTOUT"}
    return fields | {"effective_at": "2026-11-20T08:00:00Z"} | more


def bodies(good: int, poison: int, seed: int = 1) -> list[bytes]:
    """Good events, and poison ones at random places among them."""
    made = [json.dumps(opt_out(number)).encode() for number in range(good)]
    for number in range(poison):
        made.insert(random.Random(seed + number).randrange(len(made)), POISON[number % len(POISON)])
    return made


@dataclass
class Stream:
    """A Valkey of the test's own with a stream of events."""

    broker: LocalBroker
    client: redis.Redis = field(init=False)

    def __post_init__(self) -> None:
        self.broker.ensure()
        self.client = redis.Redis(unix_socket_path=self.broker.url.removeprefix("redis+socket://"))

    def source(self, **options: object) -> str:
        """The stream's address, as the optrelay command wants it."""
        return f"{self.broker.url}?stream=consent&" + "&".join(f"{name}={value}" for name, value in options.items())

    def publish(self, *events: bytes) -> list[bytes]:
        """Publish events as any client would; return their entries' ids."""
        with self.client.pipeline(transaction=False) as pipe:
            for event in events:
                pipe.xadd("consent", {"event": event})
            return pipe.execute()

    def pending(self) -> int:
        """How many entries were delivered and not acknowledged."""
        return int(self.client.xpending("consent", "optrelay")["pending"])

    def unread(self) -> int:
        """How many entries no consumer has been given; all of them while there is no group."""
        groups = self.client.xinfo_groups("consent")
        return int(groups[0]["lag"] or 0) if groups else int(self.client.xlen("consent"))

    def taken(self) -> bool:
        """Whether everything was read and acknowledged."""
        return not self.unread() and not self.pending()


@contextmanager
def stream(folder: Path) -> Iterator[Stream]:
    """A server with an empty stream for as long as the block lasts."""
    made = Stream(LocalBroker(folder / "broker"))
    try:
        yield made
    finally:
        made.client.close()
        made.broker.stop()


class Listeners:
    """The optrelay listeners of a company, which can be killed and started again.

    Each is a fork of this process that runs the command line, so that starting one costs no time.
    """

    def __init__(self, shop: Company, *command: str) -> None:
        self.shop, self.command = shop, command
        self.processes: dict[str, multiprocessing.Process] = {}
        self._read: Counter[str] = Counter()

    def start(self, *names: str) -> None:
        """Start listeners under these names and wait until they listen."""
        for name in names:
            arguments = ["listen", *self.command, "--consumer", name]
            fork = multiprocessing.get_context("fork")
            self.processes[name] = fork.Process(target=self._become, args=(name, arguments))
            self.processes[name].start()
        for name in names:
            assert "listening to" in self.next_message(name)

    def next_message(self, name: str) -> str:
        """Return the next line on standard error that is not about how fast it goes."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            lines = self.output(name, "err").splitlines()
            for line in lines[self._read[name] :]:
                self._read[name] += 1
                if "events/s" not in line and "no OPTRELAY_BROKER_URL" not in line:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"{name} says nothing:\n{self.output(name, 'err')}")

    def output(self, name: str, which: str) -> str:
        """Return all that was written to standard output or error under a name."""
        path = self.shop.folder / f"{name}.{which}"
        return path.read_text() if path.exists() else ""

    def kill(self, name: str) -> None:
        """Kill one as the machine's memory guard would."""
        self.processes[name].kill()
        self.processes[name].join()

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        """Ask one to end; return its exit code."""
        process = self.processes.pop(name)
        os.kill(process.pid or 0, number)
        process.join(20)
        assert process.exitcode is not None
        return process.exitcode

    def close(self) -> None:
        """End whatever is left."""
        for name in self.processes:
            self.kill(name)

    def _become(self, name: str, arguments: list[str]) -> None:
        for number, which in ((1, "out"), (2, "err")):
            file = os.open(self.shop.folder / f"{name}.{which}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(file, number)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115 - ours by number
        os.chdir(self.shop.folder)
        os.environ.clear()
        os.environ.update(self.shop.environment())
        main(arguments)


@contextmanager
def listeners(shop: Company, *command: str) -> Iterator[Listeners]:
    """Listeners that are gone after the block."""
    made = Listeners(shop, *command)
    try:
        yield made
    finally:
        made.close()


@dataclass(frozen=True)
class Recorded:
    """What the ledger holds of events."""

    customers: Counter[str]
    codes: Counter[str]
    places: list[str | None]


def recorded(shop: Company) -> Recorded:
    """Count the changes of each customer, and the refused events of each kind."""
    ledger = Ledger(shop.environment()["OPTRELAY_LEDGER_URL"])
    try:
        ledger.maintenance.prepare()
        joined = select(targets.c.address).join(changes, changes.c.target_id == targets.c.id)
        addresses = ledger.database.read(lambda tx: tx.execute(joined).scalars().all())
        refused = ledger.database.read(lambda tx: tx.execute(select(rejects.c.code, rejects.c.place)).all())
    finally:
        ledger.close()
    users = Counter(json.loads(one)["user_id"] for one in addresses)
    return Recorded(users, Counter(row.code for row in refused), [row.place for row in refused])


def rename_table(shop: Company, name: str, new: str) -> None:
    """Make the ledger useless, or useful again."""
    with closing(sqlite3.connect(shop.folder / "ledger.db", timeout=30)) as database:
        database.execute(f"ALTER TABLE {name} RENAME TO {new}")


def until(what: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds * float(os.environ.get("PATIENCE", "1"))
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
