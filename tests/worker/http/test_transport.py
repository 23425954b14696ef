"""The connection to a provider: who it believes, what it takes for a reply, and what it never mixes up."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import threading
import time
import warnings
from dataclasses import replace

import httpx
import pytest

from tests.support.servers.http_calls import CALL, calls, raw, sent
from tests.support.servers.odd_servers import (
    AUTHORITY,
    CHUNKED,
    GOOD,
    one_reply,
    request,
    server,
    tls_for_localhost,
    tls_server,
)
from worker.http import transport
from worker.http.client import Sender
from worker.http.failures import Failure, NoReply, no_reply
from worker.http.transport import PooledTransport, Preconnected
from worker.providers.contract import Reply


@pytest.fixture
def _trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the throw-away certificate, as if an authority had signed it."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    monkeypatch.setattr(transport, "tls_context", lambda: context)


@pytest.mark.usefixtures("_trusted")
def test_a_certificate_that_can_be_verified() -> None:
    """A provider with a good certificate for its own name is called."""
    with tls_server() as port:
        assert [Reply(200, "{}")] == sent(f"https://localhost:{port}")


@pytest.mark.usefixtures("_trusted")
def test_a_certificate_for_another_name() -> None:
    """A good certificate of someone else is none: nothing is sent."""
    with tls_server() as port:
        assert [no_reply(Failure.TLS)] == sent(f"https://127.0.0.1:{port}")


@pytest.mark.usefixtures("_trusted")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_connection_with_tls_is_kept(version: ssl.TLSVersion) -> None:
    """Calls share a connection with TLS, too; one that the server has ended is not used again."""
    numbers, ended = [], threading.Event()

    def talk(connection: socket.socket, number: int) -> None:
        while request(connection):
            numbers.append(number)
            connection.sendall(GOOD)
            if numbers.count(number) == 3:
                connection.close()
                ended.set()
                return

    async def work(sender: Sender) -> list[Reply | NoReply]:
        replies = [await sender.send(CALL) for _ in range(3)]
        await asyncio.to_thread(ended.wait, 10)
        await asyncio.sleep(0.05)  # the loop hears that the connection has ended
        return [*replies, await sender.send(CALL)]

    context = tls_for_localhost()
    context.minimum_version = context.maximum_version = version
    with server(talk, tls=context) as port:
        assert [Reply(200, "{}")] * 4 == calls(port, work, base_url=f"https://localhost:{port}")
    assert numbers == [0, 0, 0, 1]


@pytest.mark.usefixtures("_trusted")
def test_an_early_answer_over_tls() -> None:
    """An answer that comes before the body has been read counts with TLS, too."""

    def talk(connection: socket.socket, _: int) -> None:
        connection.recv(1_000)
        connection.sendall(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        time.sleep(0.3)

    with server(talk, tls=tls_for_localhost()) as port:
        big = replace(CALL, json="x" * 6_000_000)
        assert [Reply(413, "{}")] == sent(f"https://localhost:{port}", big)


def test_a_certificate_that_no_one_vouches_for() -> None:
    """A certificate that no authority signed is none: nothing is sent."""
    with tls_server() as port:
        assert [no_reply(Failure.TLS)] == sent(f"https://localhost:{port}")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + GOOD, "{}"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", "until the end"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nRetry-After: 9\r\n\r\n", "{}"),
        (GOOD + GOOD, "{}"),
    ],
    ids=["told to go on", "no length", "trailer", "two replies"],
)
def test_forms_of_a_reply(content: bytes, expected: str) -> None:
    """Every form of reply is read; what follows it is not taken for ours."""
    with raw(one_reply(content)) as where:
        assert [Reply(200, expected)] == sent(f"http://{where}")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, Failure.UNREADABLE),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, Failure.UNREADABLE),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000, Failure.UNREADABLE),
        (b"HTTP/1.1 200 OK\nX : y\n" + b"X : y\n" * 20_000, Failure.UNREADABLE),
        (CHUNKED + b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 1_500_000, Failure.UNREADABLE),
        (CHUNKED + b"1;" + b"x" * 9_000_000, Failure.UNREADABLE),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", Failure.UNREADABLE),
        (CHUNKED[:-2] + b"Content-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n", Failure.UNREADABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\n{}", Failure.UNREADABLE),
        (CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", Failure.UNREADABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", Failure.CUT),
        (CHUNKED + b"2\r\n{}\r\n", Failure.CUT),
        (b"HTTP/1.1 200 OK\r\nContent-Le", Failure.CUT),
    ],
    ids=[
        *("many headers", "long header", "many announcements", "many odd headers", "many trailers", "long chunk head"),
        *("another protocol", "length and chunks", "two lengths", "no chunk"),
        *("cut short", "cut before the last chunk", "cut in the head"),
    ],
)
def test_what_is_no_reply(content: bytes, kind: Failure) -> None:
    """What cannot be read for certain is no reply, and the provider may have seen the call."""
    with raw(one_reply(content)) as where:
        assert [no_reply(kind)] == sent(f"http://{where}")


def test_a_late_reply_is_no_others() -> None:
    """The reply to a call that was given up is never taken for that of the next."""
    ports = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports.add(writer.get_extra_info("peername"))
        while line := await reader.readline():
            if line.startswith(b"POST"):
                late = b"late" in line
            if line == b"\r\n":
                await asyncio.sleep(0.2 if late else 0)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + (b"late" if late else b"soon"))
        writer.close()

    async def run() -> list[str]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, PooledTransport(httpx.URL(url), 5, 1000) as pool:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pool.handle_async_request(httpx.Request("POST", f"{url}/late")), 0.1)
            replies = [await pool.handle_async_request(httpx.Request("POST", f"{url}/{n}")) for n in range(2)]
            found = [(await reply.aread()).decode() for reply in replies]
            await asyncio.sleep(0.3)
            return found

    assert asyncio.run(run()) == ["soon", "soon"]
    assert len(ports) == 2


def test_giving_up_on_a_connection_leaves_none_behind() -> None:
    """A delivery that ends while its connections are being made closes them, at whatever moment that comes."""

    async def preconnect(pool: PooledTransport) -> None:
        async with Preconnected(pool):
            pass

    async def run(url: httpx.URL) -> None:
        for passes in range(60):
            pool = PooledTransport(url, 5, 1000)
            opening = asyncio.create_task(preconnect(pool))
            for _ in range(passes % 20):
                await asyncio.sleep(0)
            opening.cancel()
            await asyncio.wait([opening])
            await pool.aclose()
        await asyncio.sleep(0.1)

    with warnings.catch_warnings(record=True) as unclosed:
        warnings.simplefilter("always")
        with socket.create_server(("127.0.0.1", 0), backlog=60) as server:
            asyncio.run(run(httpx.URL(f"http://127.0.0.1:{server.getsockname()[1]}")))
        gc.collect()
    assert not [str(one.message) for one in unclosed]


def test_a_header_cannot_smuggle_another() -> None:
    """What would end a header before its end is never sent."""
    request = httpx.Request("GET", "http://127.0.0.1:9/", headers=[(b"X", b"a\r\nY: b")])

    async def run() -> None:
        await PooledTransport(request.url, 1, 1000).handle_async_request(request)

    with pytest.raises(httpx.LocalProtocolError):
        asyncio.run(run())
