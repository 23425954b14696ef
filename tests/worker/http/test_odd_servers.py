"""Servers as they are found: odd heads, early answers, closed connections, addresses of another kind."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.servers.http_calls import CALL, calls, raw, sent, twice
from tests.support.servers.odd_servers import (
    AUTHORITY,
    CHUNKED,
    GOOD,
    one_reply,
    request,
    reset,
    server,
    tls_server,
)
from worker.http.client import Sender
from worker.http.failures import Failure, NoReply, no_reply
from worker.http.protocol import corrected
from worker.http.transport import tls_context
from worker.providers.contract import Reply, Request

ODD_HEADS = {
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\nRetry-After: 7\n\n{}",
    "both line ends": b"HTTP/1.1 200 OK\nContent-Length: 2\r\nRetry-After: 7\n\r\n{}",
    "space before a colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\nRetry-After\t: 7\r\n\r\n{}",
    "a folded line": b"HTTP/1.1 200 OK\r\nX: a\r\n\tb\r\n c\r\nContent-Length: 2\r\nRetry-After:\r\n 7\r\n\r\n{}",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\n{}",
    "two spaces": b"HTTP/1.1  200  OK\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\n{}",
    "no text": b"HTTP/1.1 200 OK\r\nX: \xff\xfe\xe9\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\n{}",
    "a control character": b"HTTP/1.1 200 OK\r\nX: a\x01\x00b\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\n{}",
    "no colon": b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\n{}",
    "a space in a name": b"HTTP/1.1 200 OK\r\nX Y: z\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\n{}",
    "the same length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\n{}",
    "an empty line first": b"\r\n\nHTTP/1.1 200 OK\nContent-Length: 2\nRetry-After: 7\n\n{}",
    "small letters": b"http/1.1 200 ok\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\n{}",
    "another version": b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\n{}",
    "announced, oddly": b"HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nContent-Length: 2\nRetry-After: 7\n\n{}",
    "announced, then oddly": b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\nContent-Length: 2\nRetry-After: 7\n\n{}",
    "chunks": b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nRetry-After: 7\n\n2\r\n{}\r\n0\r\nX: y\r\n\r\n",
    "no length": b"HTTP/1.1 200 OK\nRetry-After: 7\n\n{}",
}


@pytest.mark.parametrize("head", ODD_HEADS.values(), ids=ODD_HEADS)
@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_small_faults_in_a_head(head: bytes, size: int) -> None:
    """A write was done and said again for ever, because its reply had a small fault: such a reply is read."""
    parts = [head[at : at + size] for at in range(0, len(head), size)]

    def talk(connection: socket.socket, _: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request(connection)
        for part in parts:
            connection.sendall(part)
            time.sleep(0.0005)

    with server(talk) as port:
        assert calls(port, one) == [Reply(200, "{}", 7.0)]


async def one(sender: Sender) -> list[Reply | NoReply]:
    """Call once."""
    return [await sender.send(CALL)]


def test_a_good_head_stays_as_it_is() -> None:
    """What needs no correction comes out of it unchanged."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=b; c\r\nEmpty: "

    assert corrected(head) == head + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "sent", "expected"),
    [
        ("POST", b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}", Reply(204, "")),
        ("POST", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n{}", Reply(304, "")),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", Reply(200, "")),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Reply(200, "")),
        ("HEAD", CHUNKED, Reply(200, "")),
    ],
)
def test_replies_without_a_body_that_have_one(method: str, sent: bytes, expected: Reply) -> None:
    """A body where there can be none is dropped, and never read as the next call's reply."""

    def talk(connection: socket.socket, _: int) -> None:
        while request(connection):
            connection.sendall(sent)

    async def two(sender: Sender) -> list[Reply | NoReply]:
        call = replace(CALL, method=method, json=None)
        return [await sender.send(call), await sender.send(call)]

    with server(talk) as port:
        assert calls(port, two) == [expected, expected]


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\n\r\n{}",
    ],
)
def test_servers_that_close_each_connection(sent: bytes) -> None:
    """A server that speaks HTTP/1.0 or closes after each reply is called as often as need be."""

    def talk(connection: socket.socket, _: int) -> None:
        request(connection)
        connection.sendall(sent)

    with server(talk) as port:
        assert calls(port, lambda sender: twice(sender, 0)) == [Reply(200, "{}")] * 2


def test_trailers_end_a_reply() -> None:
    """What comes behind the last chunk belongs to no call: the connection goes on being used."""
    connections = set()

    def talk(connection: socket.socket, number: int) -> None:
        while request(connection):
            connections.add(number)
            connection.sendall(CHUNKED + b"2\r\n{}\r\n0\r\nRetry-After: 9\r\nX: y\r\n\r\n")

    with server(talk) as port:
        assert calls(port, twice) == [Reply(200, "{}")] * 2
    assert connections == {0}


@pytest.mark.parametrize("status", [413, 401])
@pytest.mark.parametrize("ending", ["reset", "close", "drain"])
def test_an_answer_before_the_body_is_read(status: int, ending: str) -> None:
    """A server that has seen enough answers early and hangs up: the answer counts, not the broken connection."""

    def talk(connection: socket.socket, _: int) -> None:
        connection.recv(1_000)
        connection.sendall(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}" % status)
        if ending == "drain":
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass
        elif ending == "reset":
            time.sleep(0.1)
            reset(connection)

    big = replace(CALL, json={"destinations": "x" * 6_000_000})
    with server(talk) as port:
        assert calls(port, lambda sender: asyncio.gather(sender.send(big))) == [Reply(status, "{}")]


def test_an_address_of_the_sixth_version() -> None:
    """A provider that has no other address than one of IPv6 is called."""
    with server(lambda connection, _: one_reply(GOOD)(connection), "::1") as port:
        assert sent(f"http://[::1]:{port}") == [Reply(200, "{}")]


def test_a_name_that_leads_nowhere() -> None:
    """Where a name has no address, or none that can be looked up, nothing was sent."""
    for host in ("nowhere.invalid", f"{'x' * 64}.invalid"):
        assert sent(f"https://{host}") == [no_reply(Failure.UNREACHABLE)]


def test_a_handshake_that_never_ends() -> None:
    """A server that accepts and says nothing in TLS was sent nothing, also if a call may take no longer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        assert sent(url, timeout=0.4) == [no_reply(Failure.UNREACHABLE)]


def test_a_private_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that a company's own authority signed is good where SSL_CERT_FILE names that authority."""
    certificates = tmp_path / "authority.pem"
    AUTHORITY.cert_pem.write_to_path(str(certificates))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
    tls_context.cache_clear()
    try:
        assert tls_context().verify_mode is ssl.CERT_REQUIRED
        with tls_server() as port:
            assert sent(f"https://localhost:{port}") == [Reply(200, "{}")]
            assert sent(f"https://127.0.0.1:{port}") == [no_reply(Failure.TLS)]
    finally:
        tls_context.cache_clear()


def test_a_path_is_sent_as_it_was_quoted() -> None:
    """No part of a path is taken for a way upwards: an id of dots stays that id."""
    lines = []

    def talk(connection: socket.socket) -> None:
        lines.append(request(connection).split(b"\r\n")[0])
        connection.sendall(GOOD)

    path = "/v2/customers/../%2e%2e/%2F/subscriptions"
    with raw(talk) as where:
        sent(f"http://{where}", Request("GET", path, CALL.tasks, CALL.changes))
    assert lines == [f"GET {path} HTTP/1.1".encode()]
