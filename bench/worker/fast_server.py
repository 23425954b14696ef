"""A provider that answers like Capillary as fast as Python can: what benchmarks call, so that it is not the bottleneck.

It looks at no credential and refuses no one. `python -m bench.worker.fast_server --latency 0.005` serves until its
standard input ends and prints its port. GET /_stats tells what it has seen, GET /_held what it holds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_TOKEN = b'{"data":{"accessToken":"bench","ttlSeconds":3600},"errors":null}'
_P99 = 2.326  # standard deviations
_ROWS = b'"subscriptions":'


class Seen:
    """Every call that came: its moment on this machine's monotonic clock, its path and its body."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, bytes, bytes]] = []
        self.connections = self.under_way = 0

    def counted(self) -> dict[str, Any]:
        """Return the moments of all calls, the seconds of CPU that this process used so far, connections taken."""
        moments = sorted(moment for moment, _, _ in self.calls)
        return {"moments": moments, "cpu_seconds": time.process_time(), "connections": self.connections}

    def held(self) -> dict[str, str]:
        """Return what each customer's slots hold in the end, like {"/v2/customers/1 EMAIL BULK": "OPTOUT"}."""
        found: dict[str, str] = {}
        for _, path, body in self.calls:
            customer = path.decode().partition("/subscriptions")[0]
            for row in json.loads(body)["subscriptions"]:
                found[f"{customer} {row['channel']} {row['priority']}"] = row["type"]
        return found


class Provider:
    """One connection: requests with a Content-Length, one after the other.

    A call's moment is when its last packet reached this machine, as the kernel noted it, so that a server that has to
    wait for its turn on a busy machine moves none.
    """

    def __init__(self, connection: socket.socket, seen: Seen, latency: float, p99: float, bears: int) -> None:
        self.socket, self.seen, self.latency, self.buffer = connection, seen, latency, b""
        self.bears = bears
        self.spread = math.log(p99 / latency) / _P99 if p99 else 0.0
        self.loop = asyncio.get_running_loop()
        self.writing: set[asyncio.Task[None]] = set()
        seen.connections += 1
        connection.setblocking(False)  # noqa: FBT003
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if _STAMPS:
            connection.setsockopt(socket.SOL_SOCKET, _STAMPS, 1)
        self.loop.add_reader(connection, self.read)

    def read(self) -> None:
        """Take in what came, and answer each request that is whole."""
        try:
            data, notes, _, _ = self.socket.recvmsg(2**18, 64 if _STAMPS else 0)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.loop.remove_reader(self.socket)
            self.socket.close()
            return
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            length = _length(head)
            if len(self.buffer) < end + 4 + length:
                return
            body, self.buffer = self.buffer[end + 4 : end + 4 + length], self.buffer[end + 4 + length :]
            self.answer(head.split(b" ", 2)[1], body, _arrival(notes))

    def answer(self, path: bytes, body: bytes, moment: float) -> None:
        """Answer one request: with the rows that it brought, as Capillary does."""
        if path.startswith(b"/_"):
            content = self.seen.held() if path == b"/_held" else self.seen.counted()
            self.write(_response(json.dumps(content).encode()))
            return
        if b"/oauth/" in path:
            self.write(_response(_TOKEN))
            return
        self.seen.calls.append((moment, path, body))
        response = _response(b'{"warnings":[],' + body[body.find(_ROWS) :])
        if self.latency:
            self.seen.under_way += 1
            self.loop.call_later(self.takes(), self.end, response)
        else:
            self.write(response)

    def takes(self) -> float:
        """Return the seconds of the call that came last: beyond what the server bears, throughput falls."""
        crowd = max(1.0, self.seen.under_way / self.bears) if self.bears else 1.0
        return self.latency * crowd**2 * math.exp(self.spread * random.gauss(0, 1))

    def end(self, response: bytes) -> None:
        """Answer a call that took its time."""
        self.seen.under_way -= 1
        self.write(response)

    def write(self, response: bytes) -> None:
        """Send an answer; what does not go at once goes as soon as it can."""
        try:
            sent = self.socket.send(response)
        except BlockingIOError:
            sent = 0
        except OSError:  # the other side has left
            return
        if sent < len(response):
            rest = self.loop.create_task(self.loop.sock_sendall(self.socket, response[sent:]))
            self.writing.add(rest)
            rest.add_done_callback(self.writing.discard)


_STAMPS = 35 if sys.platform == "linux" else 0
"""SO_TIMESTAMPNS, which Python's socket module does not name: the kernel notes when each packet came."""


def _arrival(notes: list[tuple[int, int, bytes]]) -> float:
    """Return when a packet came; stamps are of the time of day, which is set now and then."""
    for level, kind, stamp in notes:
        if (level, kind) == (socket.SOL_SOCKET, _STAMPS):
            seconds, nanoseconds = struct.unpack("qq", stamp)
            return float(time.monotonic() - (time.time() - seconds - nanoseconds / 1e9))
    return time.monotonic()


def _length(head: bytes) -> int:
    lowered = head.lower()
    at = lowered.find(b"content-length:")
    return 0 if at < 0 else int(lowered[at + 15 :].split(b"\r\n", 1)[0])


def _response(content: bytes) -> bytes:
    return _HEAD % (len(content), content)


async def serve(latency: float, p99: float = 0.0, bears: int = 0) -> None:
    """Serve until standard input ends; print the port."""
    seen, loop = Seen(), asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setblocking(False)  # noqa: FBT003

    def accept() -> None:
        with suppress(BlockingIOError):
            while True:
                Provider(listener.accept()[0], seen, latency, p99, bears)

    loop.add_reader(listener, accept)
    print(listener.getsockname()[1], flush=True)
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
def fast_server(latency: float = 0.0, p99: float = 0.0, bears: int = 0) -> Iterator[FastServer]:
    """Run a server in a process of its own; `latency` is in seconds: of every call, or the median if `p99` is given.

    With more than `bears` calls under way it takes so much longer that throughput falls (0: it bears any number).
    """
    command = [sys.executable, str(Path(__file__).resolve()), "--latency", str(latency), "--p99", str(p99)]
    command += ["--bears", str(bears)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdin
    try:
        yield FastServer(int(process.stdout.readline()), process.pid)
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds from a request to its answer")
    parser.add_argument("--p99", type=float, default=0.0, help="seconds in which 99 of 100 have their answer")
    parser.add_argument("--bears", type=int, default=0, help="calls under way from which on throughput falls")
    asyncio.run(serve(**vars(parser.parse_args())))
