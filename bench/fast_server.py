"""A provider that answers like Capillary as fast as Python can: what benchmarks call, so that it is not the bottleneck.

It looks at no credential and refuses no one. `python -m bench.fast_server --latency 0.005` serves until its
standard input ends and prints its port. GET /_stats tells what it has seen, GET /_held what it holds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_TOKEN = b'{"data":{"accessToken":"bench","ttlSeconds":3600},"errors":null}'
_P99 = 2.326  # standard deviations
_ROWS = b'"subscriptions":'


class Seen:
    """Every call that came, in order: its moment on this machine's monotonic clock, its path and its body."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, bytes, bytes]] = []
        self.connections = 0

    def told(self) -> dict[str, Any]:
        """Return the moments of all calls, the seconds of CPU that this process used so far, connections taken."""
        moments = [moment for moment, _, _ in self.calls]
        return {"moments": moments, "cpu_seconds": time.process_time(), "connections": self.connections}

    def held(self) -> dict[str, str]:
        """Return what each customer's slots hold in the end, like {"/v2/customers/1 EMAIL BULK": "OPTOUT"}."""
        found: dict[str, str] = {}
        for _, path, body in self.calls:
            customer = path.decode().partition("/subscriptions")[0]
            for row in json.loads(body)["subscriptions"]:
                found[f"{customer} {row['channel']} {row['priority']}"] = row["type"]
        return found


class Provider(asyncio.Protocol):
    """One connection: requests with a Content-Length, one after the other."""

    def __init__(self, seen: Seen, latency: float, p99: float = 0.0) -> None:
        self.seen, self.latency, self.buffer = seen, latency, b""
        self.spread = math.log(p99 / latency) / _P99 if p99 else 0.0
        seen.connections += 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self.transport: Any = transport
        self.later = asyncio.get_running_loop().call_later

    def data_received(self, data: bytes) -> None:
        """Take in what came, and answer each request that is whole."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            length = _length(head)
            if len(self.buffer) < end + 4 + length:
                return
            body, self.buffer = self.buffer[end + 4 : end + 4 + length], self.buffer[end + 4 + length :]
            self.answer(head.split(b" ", 2)[1], body)

    def answer(self, path: bytes, body: bytes) -> None:
        """Answer one request: with the rows that it brought, as Capillary does."""
        if path.startswith(b"/_"):
            told = self.seen.held() if path == b"/_held" else self.seen.told()
            self.transport.write(_said(json.dumps(told).encode()))
            return
        if b"/oauth/" in path:
            self.transport.write(_said(_TOKEN))
            return
        self.seen.calls.append((time.monotonic(), path, body))
        said = _said(b'{"warnings":[],' + body[body.find(_ROWS) :])
        if self.latency:
            self.later(self.latency * math.exp(self.spread * random.gauss(0, 1)), self.transport.write, said)
        else:
            self.transport.write(said)


def _length(head: bytes) -> int:
    lowered = head.lower()
    at = lowered.find(b"content-length:")
    return 0 if at < 0 else int(lowered[at + 15 :].split(b"\r\n", 1)[0])


def _said(content: bytes) -> bytes:
    return _HEAD % (len(content), content)


async def serve(latency: float, p99: float = 0.0) -> None:
    """Serve until standard input ends; print the port."""
    loop, seen = asyncio.get_running_loop(), Seen()
    server = await loop.create_server(lambda: Provider(seen, latency, p99), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


class FastServer:
    """A running server, seen from outside."""

    def __init__(self, port: int, pid: int) -> None:
        self.url, self.pid = f"http://127.0.0.1:{port}", pid

    def stats(self) -> dict[str, Any]:
        """Return what `Seen.told` tells."""
        return self._ask("/_stats")

    def held(self) -> dict[str, str]:
        """Return what `Seen.held` tells."""
        return self._ask("/_held")

    def _ask(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as reply:
            return json.load(reply)


@contextmanager
def fast_server(latency: float = 0.0, p99: float = 0.0) -> Iterator[FastServer]:
    """Run a server in a process of its own; `latency` is in seconds: of every call, or the median if `p99` is given."""
    command = [sys.executable, str(Path(__file__).resolve()), "--latency", str(latency), "--p99", str(p99)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdin
    try:
        yield FastServer(int(process.stdout.readline()), process.pid)
    finally:
        process.stdin.close()
        process.wait(timeout=10)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds from a request to its answer")
    parser.add_argument("--p99", type=float, default=0.0, help="seconds in which 99 of 100 have their answer")
    asyncio.run(serve(**vars(parser.parse_args())))
