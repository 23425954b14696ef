"""Servers that do on each connection what a test tells them, byte by byte."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import trustme

AUTHORITY = trustme.CA()
"""Signs throw-away certificates; no one trusts it but the tests that say so."""

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

Talk = Callable[[socket.socket, int], None]


@contextmanager
def server(talk: Talk, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Run a server; `talk` gets each connection and its number, which begins with 0. Gives the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, backlog=64) as listening:
        threads: list[threading.Thread] = []

        def serve(connection: socket.socket, number: int) -> None:
            with connection, suppress(OSError):
                connection.settimeout(10)
                with tls.wrap_socket(connection, server_side=True) if tls else connection as spoken:
                    talk(spoken, number)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threads.append(threading.Thread(target=serve, args=(connection, len(threads))))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        accepting.join()
        for thread in threads:
            thread.join()


def request(connection: socket.socket) -> bytes:
    """Read one request; b"" if the client has gone."""
    got = b""
    while b"\r\n\r\n" not in got:
        if not (part := connection.recv(65_536)):
            return b""
        got += part
    head, _, body = got.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


def reset(connection: socket.socket) -> None:
    """End a connection with a reset, as a firewall does that has forgotten it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def tls_for_localhost() -> ssl.SSLContext:
    """Return what a server speaks TLS with that has a certificate for this machine's name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost").configure_cert(context)
    return context


@contextmanager
def tls_server() -> Iterator[int]:
    """A server that speaks TLS with our own certificate, and answers one request for each connection."""
    context = tls_for_localhost()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(GOOD)
        await writer.drain()
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(asyncio.sleep(0.05))  # connections that were given up on hear of it
        loop.close()


def one_reply(*parts: bytes) -> Callable[[socket.socket], None]:
    """Return what a server does that says these bytes and hangs up."""

    def talk(connection: socket.socket) -> None:
        connection.recv(65_536)
        with suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)

    return talk
