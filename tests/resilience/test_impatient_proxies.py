"""A proxy that loses patience tells nothing about the provider behind it, who may still do what it was asked."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.company import company
from tests.support.worker import BUCKET, deliveries, record, settled, wired

LANDS_AFTER_SECONDS = 1.5
EARLY, LATE = "2026-11-20T08:00:00+00:00", "2026-11-20T09:00:00+00:00"


class Impatient(socketserver.ThreadingTCPServer):
    """A proxy that gives its first caller up at once, with some last bytes, and passes the call on later."""

    allow_reuse_address = True

    def __init__(self, behind: int, farewell: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.behind, self.farewell, self.given_up = behind, farewell, threading.Event()


class Passing(socketserver.BaseRequestHandler):
    """One call through the proxy."""

    server: Impatient

    def handle(self) -> None:
        """Pass it on, at once or when its caller is long gone."""
        self.request.settimeout(3)
        with suppress(TimeoutError):
            if asked := self.request.recv(65536):
                self._pass_on(asked)

    def _pass_on(self, asked: bytes) -> None:
        impatient = not self.server.given_up.is_set()
        if impatient:
            self.server.given_up.set()
            self.request.sendall(self.server.farewell)
            self.request.close()
            time.sleep(LANDS_AFTER_SECONDS)
        with socket.create_connection(("127.0.0.1", self.server.behind)) as provider:
            provider.sendall(asked.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
            answer = b"".join(iter(lambda: provider.recv(65536), b""))
        if not impatient:
            self.request.sendall(answer)


@contextmanager
def impatient(behind: int, farewell: bytes) -> Iterator[int]:
    """Run such a proxy before a provider."""
    with Impatient(behind, farewell) as proxy:
        serving = threading.Thread(target=proxy.serve_forever)
        serving.start()
        yield proxy.server_address[1]
        proxy.shutdown()
        serving.join()


@pytest.mark.proof
@pytest.mark.parametrize(
    "farewell",
    [b"", b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"],
    ids=["cut", "504"],
)
def test_what_lands_behind_an_impatient_proxy_does_not_stay(tmp_path: Path, farewell: bytes) -> None:
    """An opt-in is given up by a proxy and lands later; the opt-out that came meanwhile is what the provider holds."""
    with company(tmp_path, busy_521=False) as shop, impatient(int(shop.url.rpartition(":")[2]), farewell) as port:
        behind = replace(shop, url=f"http://127.0.0.1:{port}")
        with wired(behind, tmp_path, timeout=1.0) as parts:
            record(parts, {"user_id": "1", "action": "OPTIN", "effective_at": EARLY})
            parts.delivery(BUCKET).run()
            newer = record(parts, {"user_id": "1", "action": "OPTOUT", "effective_at": LATE})

            deliveries(parts, settled(parts, newer), seconds=12)
            time.sleep(LANDS_AFTER_SECONDS)

            assert set(shop.held().values()) == {"OPTOUT"}
            assert shop.stats()["calls"] == 2


def test_an_opt_out_that_a_proxy_has_cut_is_sent_again_soon(tmp_path: Path) -> None:
    """The call may land for a minute yet; the same opt-out needs not wait for that, and arrives within seconds."""
    with company(tmp_path, busy_521=False) as shop, impatient(int(shop.url.rpartition(":")[2]), b"") as port:
        behind = replace(shop, url=f"http://127.0.0.1:{port}")
        with wired(behind, tmp_path, timeout=20.0) as parts:
            only = record(parts, {"user_id": "1", "action": "OPTOUT", "effective_at": EARLY})
            parts.delivery(BUCKET).run()

            deliveries(parts, settled(parts, only), seconds=20)
            time.sleep(LANDS_AFTER_SECONDS)

            assert set(shop.held().values()) == {"OPTOUT"}
            assert shop.stats()["calls"] == 2
