"""Why a call may have no reply, and what becomes of its changes then."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Generator

import httpx
import pytest

from consent.connection import ConnectionSettings
from consent.outcome import Retry, Unavailable
from tests.support.servers.http_calls import CALL, answered, raw, sent
from tests.support.servers.local_server import Asked, Cut, ServerAnswer, serving
from worker.http.client import Sender
from worker.http.failures import Failure, NoReply, no_reply, unanswered, why
from worker.providers.contract import Reply


def test_no_one_listens() -> None:
    """Where no one listens, nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    (fact,) = sent(f"http://127.0.0.1:{port}")

    assert no_reply(Failure.UNREACHABLE) == fact
    assert not fact.sent


def test_connection_cut() -> None:
    """A connection that breaks before the answer leaves open whether the call was seen; the next call works."""
    broken = iter([True])

    def answer(_: Asked) -> ServerAnswer:
        if next(broken, False):
            raise Cut
        return ServerAnswer()

    with serving(answer) as server:
        first, second = sent(server.url, times=2)

    assert no_reply(Failure.CUT) == first
    assert Reply(200, "") == second


def test_answer_cut_in_the_middle() -> None:
    """Half an answer is none."""
    assert no_reply(Failure.CUT) == answered(
        ServerAnswer(200, "{}", {"Content-Length": "500", "Connection": "close"}), timeout=2
    )


def test_slow_answer() -> None:
    """A call takes no longer than the connection's timeout, all in all, and the next call works."""
    slow = iter([True])

    def answer(_: Asked) -> ServerAnswer:
        if next(slow, False):
            time.sleep(0.6)
        return ServerAnswer()

    began = time.monotonic()
    with serving(answer) as server:
        first, second = sent(server.url, times=2, timeout=0.3)
        took = time.monotonic() - began

    assert no_reply(Failure.TIMED_OUT) == first
    assert Reply(200, "") == second
    assert took < 0.6


def test_answer_in_drops() -> None:
    """An answer that never stops dripping is late as well: each drop does not start the time anew."""

    def talk(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            for _ in range(40):
                connection.sendall(b"x")
                time.sleep(0.05)
        except OSError:
            pass

    with raw(talk) as where:
        assert [no_reply(Failure.TIMED_OUT)] == sent(f"http://{where}", timeout=0.4)


def test_answer_that_is_not_http() -> None:
    """What is not HTTP is told as that: a fault that goes by itself it is not."""

    def talk(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"220 mail.example.com ESMTP\r\n")

    with raw(talk) as where:
        assert [no_reply(Failure.UNREADABLE)] == sent(f"http://{where}")


def test_no_tls() -> None:
    """Where TLS fails, nothing was sent."""

    def talk(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with raw(talk) as where:
        (fact,) = sent(f"https://{where}")

    assert no_reply(Failure.TLS) == fact
    assert not fact.sent


def test_untrusted_certificate() -> None:
    """A certificate that cannot be verified is told as what it is."""
    error = httpx.ConnectError("no")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed")

    assert no_reply(Failure.TLS) == why(error)


def test_undecodable_answer() -> None:
    """An answer in an encoding that no one asked for is left as it came, and so is no JSON."""
    assert Reply(200, "no gzip") == answered(ServerAnswer(200, b"no gzip", {"Content-Encoding": "gzip"}))


@pytest.mark.parametrize("kind", list(Failure))
def test_call_without_reply(kind: Failure) -> None:
    """Without a reply every change waits, it does not count against any, and the connection is unavailable."""
    fact = no_reply(kind)
    answer = unanswered(fact, CALL)

    assert Unavailable(fact.reason) == answer.health
    assert dict.fromkeys((1, 2), Retry(kind.value, fact.reason, counts=False)) == answer.outcomes
    assert ((), kind.value) == (answer.further, answer.code)


class OddAuth(httpx.Auth):
    """Asks for a token with a header that HTTP cannot carry."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Ask."""
        yield httpx.Request("POST", request.url, headers=[(b"X", b"a\r\nb")])
        yield request


def test_a_token_that_cannot_be_asked_for() -> None:
    """Where even the request for a token cannot be sent, nothing was: the write is not in doubt."""

    async def run(url: str) -> Reply | NoReply:
        async with Sender(ConnectionSettings(base_url=url), OddAuth()) as sender:
            return await sender.send(CALL)

    with serving(lambda _: ServerAnswer()) as server:
        assert asyncio.run(run(server.url)) == no_reply(Failure.NO_TOKEN)
