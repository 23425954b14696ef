"""A proxy that loses patience tells nothing about the provider behind it, who may still do what it was asked."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.company import company
from tests.worker.test_stroke import BUCKET, record, settled, strokes, wired

LANDS_AFTER_SECONDS = 1.5
EARLY, LATE = "2026-11-20T08:00:00+00:00", "2026-11-20T09:00:00+00:00"


@contextmanager
def impatient(behind: int, farewell: bytes) -> Iterator[int]:
    """A proxy that gives its first caller up at once, with these bytes, and passes the call on later."""
    given_up = threading.Event()

    def serve(caller: socket.socket) -> None:
        with closing(caller):
            asked = caller.recv(65536)
            if not asked:
                return
            if not given_up.is_set():
                given_up.set()
                caller.sendall(farewell)
                caller.close()
                time.sleep(LANDS_AFTER_SECONDS)
            with socket.create_connection(("127.0.0.1", behind)) as provider:
                provider.sendall(asked.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
                answer = b"".join(iter(lambda: provider.recv(65536), b""))
            if caller.fileno() >= 0:
                caller.sendall(answer)

    def listen() -> None:
        while True:
            try:
                caller, _ = door.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(caller,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=listen, daemon=True).start()
        yield door.getsockname()[1]


@pytest.mark.parametrize(
    "farewell",
    [b"", b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"],
    ids=["cut", "504"],
)
def test_what_lands_behind_an_impatient_proxy_is_not_the_last_word(tmp_path: Path, farewell: bytes) -> None:
    """An opt-in is given up by a proxy and lands later; the opt-out that came meanwhile is what the provider holds."""
    with company(tmp_path, busy_521=False) as shop, impatient(int(shop.url.rpartition(":")[2]), farewell) as port:
        behind = replace(shop, url=f"http://127.0.0.1:{port}")
        with wired(behind, tmp_path, timeout=1.0) as parts:
            record(parts, {"user_id": "1", "action": "OPTIN", "effective_at": EARLY})
            parts.stroke(BUCKET).run()
            newer = record(parts, {"user_id": "1", "action": "OPTOUT", "effective_at": LATE})

            strokes(parts, settled(parts, newer), seconds=12)
            time.sleep(LANDS_AFTER_SECONDS)

            assert set(shop.held().values()) == {"OPTOUT"}
            assert shop.stats()["calls"] == 2
