"""Connections that end: before, during and after a call, by the server, by a timeout and by us."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

import pytest

from tests.support.servers.http_calls import CALL, calls, twice
from tests.support.servers.odd_servers import request, reset, server
from worker.http.client import Sender
from worker.http.failures import Failure, NoReply, no_reply
from worker.providers.contract import Reply

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=["closed", "reset"])
def test_a_connection_that_the_server_has_ended_while_it_was_idle(end: Callable[[socket.socket], None]) -> None:
    """What was ended before the next call is not used for it: the call goes out at once on a new one, once."""
    asked = []

    def talk(connection: socket.socket, number: int) -> None:
        if request(connection):
            asked.append(number)
            connection.sendall(EMPTY)
            end(connection)

    with server(talk) as port:
        assert calls(port, twice) == [Reply(200, "")] * 2
    assert asked == [0, 1]


@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=["closed", "reset"])
def test_a_connection_that_ended_unnoticed_before_its_use(end: Callable[[socket.socket], None]) -> None:
    """The server ends it while the event loop is busy elsewhere: the socket is asked before anything is sent."""

    def talk(connection: socket.socket, _: int) -> None:
        if request(connection):
            connection.sendall(EMPTY)
            end(connection)

    async def busy(sender: Sender) -> list[Reply | NoReply]:
        first = await sender.send(CALL)
        time.sleep(0.2)  # noqa: ASYNC251 - the loop must not look meanwhile
        return [first, await sender.send(CALL)]

    with server(talk) as port:
        assert calls(port, busy) == [Reply(200, "")] * 2


@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=["closed", "reset"])
def test_a_connection_that_ends_after_the_request_was_sent(end: Callable[[socket.socket], None]) -> None:
    """What the server may have read is in doubt, and not sent again."""
    asked = []

    def talk(connection: socket.socket, number: int) -> None:
        while request(connection):
            asked.append(number)
            if len(asked) > 1:
                end(connection)
                return
            connection.sendall(EMPTY)

    with server(talk) as port:
        assert calls(port, twice) == [Reply(200, ""), no_reply(Failure.CUT)]
    assert asked == [0, 0]


def test_a_server_that_forgets_idle_connections() -> None:
    """Each call was in doubt for three timeouts, where a reset is all that tells of it: the first one teaches us."""

    def talk(connection: socket.socket, _: int) -> None:
        while asked := request(connection):
            if time.monotonic() - last.get(connection, time.monotonic()) > 1.1:
                reset(connection)
                return
            assert asked
            connection.sendall(EMPTY)
            last[connection] = time.monotonic()

    last: dict[socket.socket, float] = {}

    async def slow(sender: Sender) -> list[Reply | NoReply]:
        found = []
        for _ in range(4):
            found.append(await sender.send(CALL))
            await asyncio.sleep(1.3)
        return found

    with server(talk) as port:
        assert calls(port, slow) == [Reply(200, ""), no_reply(Failure.CUT), Reply(200, ""), Reply(200, "")]


def test_a_server_that_says_for_how_long_it_waits() -> None:
    """`Keep-Alive: timeout=1` is heeded: half a second later the connection is not used any more."""
    numbers = []

    def talk(connection: socket.socket, number: int) -> None:
        while request(connection):
            numbers.append(number)
            connection.sendall(b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1, max=100\r\nContent-Length: 0\r\n\r\n")

    async def thrice(sender: Sender) -> list[Reply | NoReply]:
        return [await sender.send(CALL), *await twice(sender, 0.7)]

    with server(talk) as port:
        calls(port, thrice)
    assert numbers == [0, 0, 1]


def test_a_call_that_is_given_up_ends_its_connection() -> None:
    """A server learns at once that no one waits for its reply any more."""
    gone = []

    def talk(connection: socket.socket, _: int) -> None:
        request(connection)
        began = time.monotonic()
        try:
            gone.append((connection.recv(1), time.monotonic() - began))
        except ConnectionError:
            gone.append((b"", time.monotonic() - began))

    async def give_up(sender: Sender) -> list[Reply | NoReply]:
        call = asyncio.create_task(sender.send(CALL))
        await asyncio.sleep(0.2)
        call.cancel()
        await asyncio.wait([call])
        await asyncio.sleep(0.2)
        return []

    with server(talk) as port:
        calls(port, give_up)
    assert [sent for sent, _ in gone] == [b""]
    assert gone[0][1] < 1


def test_each_call_that_waits_has_a_connection_of_its_own() -> None:
    """Calls that wait for their permits side by side share no connection that was opened beforehand."""
    opened = []

    def talk(connection: socket.socket, number: int) -> None:
        opened.append(number)
        while request(connection):
            time.sleep(0.05)
            connection.sendall(EMPTY)

    async def side_by_side(sender: Sender) -> list[Reply | NoReply]:
        go = asyncio.Event()

        async def wait_and_call() -> Reply | NoReply:
            async with sender.preconnected:
                await go.wait()
                return await sender.send(CALL)

        waiting = [asyncio.create_task(wait_and_call()) for _ in range(4)]
        await asyncio.sleep(0.3)
        before = len(opened)
        go.set()
        found = [await call for call in waiting]
        assert before == len(opened) == 4
        return found

    with server(talk) as port:
        assert calls(port, side_by_side, concurrency=4) == [Reply(200, "")] * 4
