"""A real server on this machine for one test: uvicorn in a thread, or the optrelay command in a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from consent.change import Bucket
from consent.connection import parse_rate
from consent.ledger.ledger import Ledger
from console.commands.ledger.status import import_as_json
from producers.events.ingest import EventIngest
from producers.events.schema import event_schema
from producers.http.admission import ApiKeys, AppState, KeyRateLimit
from producers.http.app import create_app
from producers.http.batch_writer import BatchWriter, Intake
from producers.http.server import Server as HttpServer
from producers.http.server import configuration, listening
from producers.http.tokens import Tokens
from producers.http.unsubscribe.page import PublicPages
from producers.parsing.row_parser import parse_context
from tests.support.company import OPTRELAY
from tests.support.forked_commands.jobs import MAIN
from worker.providers import PROVIDERS

KEY = "a-key-for-the-tests"
OTHER_KEY = "another-key-for-tests"
SECRET = "a-secret-for-the-links-of-the-tests"
ROWS = {name: provider.row for name, provider in PROVIDERS.items()}
ANN = {
    "connection": "capillary",
    "user_id": "387006417",
    "channel": "EMAIL",
    "priority": "BULK",
    "action": "OPTOUT",
    "effective_at": "2026-11-20T08:30:00Z",
}
"""Ann says on a Friday morning that she wants no more promotional mail."""


def recently(hours: float = 2) -> int:
    """A moment of today, in microseconds: events from after now are refused."""
    return int((time.time() - hours * 3600) * 1_000_000)


@dataclass
class Server:
    """One server and how it is called."""

    url: str
    app: FastAPI
    state: AppState
    client: httpx.Client
    woken: list[Bucket] = field(default_factory=list)

    def post(self, body: Any = None, *, content: bytes | None = None, **headers: str) -> httpx.Response:
        """Post changes with a valid key; names of headers are written with _ for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named = {"authorization": f"Bearer {KEY}", "content-type": "application/json"} | named
        sent = json.dumps(body).encode() if content is None else content
        return self.client.post("/v1/changes", content=sent, headers=named)

    def get(self, path: str) -> httpx.Response:
        """Ask with a valid key."""
        return self.client.get(path, headers={"x-api-key": KEY})

    def click(self, token: str, **headers: str) -> httpx.Response:
        """Do what a mail provider does when someone presses its unsubscribe button."""
        return self.client.post(
            f"/v1/unsubscribe/{token}", data={"List-Unsubscribe": "One-Click"}, headers=headers or None
        )


@cache
def _schema(*, configured: bool) -> dict[str, Any]:
    return event_schema(ROWS, {}, configured=configured)


def app_state_of(ledger: Ledger, intake: Intake, rate: str = "10000/second", **more: Any) -> AppState:
    """The parts of a server for all three providers."""
    context = parse_context(ROWS, {}, None, None, UTC)
    return AppState(
        ledger=ledger,
        batch_writer=BatchWriter(intake, **more.pop("gathering", {})),
        context=context,
        keys=more.pop("keys", None) or ApiKeys(f"shop={KEY},crm={OTHER_KEY}"),
        rate_limit=KeyRateLimit(parse_rate(rate)),
        tokens=Tokens(SECRET),
        schema=_schema(configured=True),
        public_schema=_schema(configured=False),
        body_limit=more.pop("body_limit", 100_000),
        import_report=lambda id_: import_as_json(ledger, id_),
        broker_state=lambda: "not configured",
        four_eyes=more.pop("four_eyes", False),
        metrics=more.pop("metrics", bytes),
        **({"public_pages": PublicPages(more.pop("public_page"))} if "public_page" in more else {}),
    )


@contextmanager
def server(ledger: Ledger, intake: Intake | None = None, **more: Any) -> Iterator[Server]:
    """Serve in a thread until the block ends, then end gracefully."""
    woken: list[Bucket] = []
    context = parse_context(ROWS, {}, None, None, UTC)
    state = app_state_of(ledger, intake or EventIngest(ledger.intake, context, "http", "test", woken.extend), **more)
    ready = threading.Event()
    with listening("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = create_app(state)
        running = HttpServer(configuration(app), ready.set)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        assert ready.wait(10)
        try:
            with httpx.Client(base_url=url, timeout=30) as client:
                yield Server(url, app, state, client, woken)
        finally:
            running.should_exit = True
            thread.join(30)


def settings_of(folder: Path, **more: str) -> dict[str, str]:
    """The environment of an optrelay command with one connection that no one answers at."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPTRELAY_")}
    own = {
        "LEDGER_URL": f"sqlite:///{folder / 'ledger.db'}",
        "CONNECTIONS__CAPILLARY__BASE_URL": "http://127.0.0.1:1",
        "CONNECTIONS__CAPILLARY__USERNAME": "till",
        "CONNECTIONS__CAPILLARY__PASSWORD": "hush-hush-7",
        "API_KEYS": f"shop={KEY}",
        "TOKEN_SECRET": SECRET,
    }
    return clean | {f"OPTRELAY_{name}": value for name, value in (own | more).items()}


@dataclass
class Process:
    """`optrelay serve` in a process of its own."""

    process: subprocess.Popen[str]
    url: str

    def post(self, body: Any, **headers: str) -> httpx.Response:
        """Post changes with a valid key."""
        named = {"x-api-key": KEY} | {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(f"{self.url}/v1/changes", json=body, headers=named, timeout=30)

    def end(self, how: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(how)
        return self.process.wait(30)


@contextmanager
def process(folder: Path, instead: str | None = None, **settings: str) -> Iterator[Process]:
    """Run `optrelay serve`; `instead` is Python that runs before it, for faults at a chosen moment."""
    arguments = ["serve", "--port", "0", "--json"]
    command = [OPTRELAY, *arguments]
    if instead is not None:
        command = [sys.executable, "-c", f"{instead}{MAIN}{arguments!r})"]
    environment: Mapping[str, str] = settings_of(folder, **settings) | {"PYTHONPATH": str(Path(__file__).parents[2])}
    log = (folder / "serve.log").open("a")
    started = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert started.stdout is not None
        line = started.stdout.readline()
        assert line, (folder / "serve.log").read_text()
        yield Process(started, json.loads(line)["url"])
    finally:
        if started.poll() is None:
            started.kill()
        started.wait()
        log.close()
        assert started.stdout is not None
        started.stdout.close()


def statuses(response: httpx.Response) -> list[str]:
    """What became of each change of an answer."""
    return [one["status"] for one in response.json()["results"]]


def cloud_event(change: Mapping[str, str] = ANN, id_: str = "e-1") -> dict[str, Any]:
    """A change as a CloudEvent in structured mode."""
    return {"specversion": "1.0", "id": id_, "source": "//shop.example.com/consent", "type": "consent", "data": change}


def ndjson(changes: Iterable[Any]) -> bytes:
    """Changes, one a line."""
    return b"".join(json.dumps(one).encode() + b"\n" for one in changes)


def today(minutes: float = -60) -> str:
    """A moment near now, as text."""
    return datetime.fromtimestamp(time.time() + minutes * 60, UTC).isoformat()
