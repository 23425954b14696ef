"""A provider on this machine that answers as a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request as the server saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServerAnswer:
    """One answer of the server."""

    status: int = 200
    body: bytes | str | dict[str, Any] = ""
    headers: dict[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        """Return the body as bytes."""
        text = json.dumps(self.body) if isinstance(self.body, dict) else self.body
        return text.encode() if isinstance(text, str) else text


@dataclass
class Server:
    """A running server."""

    url: str
    asked: list[Asked]
    callers: list[object]


class Cut(Exception):
    """Raised by an answer to close the connection without a word."""


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    callers: list[object]

    def verify_request(self, _: object, client_address: object) -> bool:
        """Remember who has connected."""
        self.callers.append(client_address)
        return True

    def handle_error(self, *_: object) -> None:
        """Say nothing when a client has gone: some tests make it go."""


@contextmanager
def serving(answer: Callable[[Asked], ServerAnswer]) -> Iterator[Server]:
    """Run a server that answers each request with what `answer` returns."""
    asked: list[Asked] = []
    http = _QuietServer(("127.0.0.1", 0), _handler(answer, asked))
    http.callers = []
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{http.server_port}", asked, http.callers)
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def _handler(answer: Callable[[Asked], ServerAnswer], asked: list[Asked]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            hosts = tuple(self.headers.get_all("host", []))
            request = Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body, hosts)
            asked.append(request)
            try:
                self._say(answer(request))
            except Cut:
                self.close_connection = True

        def _say(self, reply: ServerAnswer) -> None:
            content = reply.content()
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(content)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

        do_GET = do_POST = do_PUT = _handle  # noqa: N815 - the names are the library's

    return Handler
