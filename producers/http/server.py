"""The process of `optrelay serve`: its socket, limits for slow and for too many clients, and a graceful end."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, ClassVar

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override

from consent.errors import ConfigurationError

HEAD_SECONDS = 15.0
"""How long a client may take to send a request's line and headers."""

UNREAD_SECONDS = 60.0
"""How long a client may leave an answer unread that fills what the network holds of it."""

_KEEP_ALIVE_SECONDS = 30
_GRACE_SECONDS = 25
_MOST_CONNECTIONS = 1_000
_ACCEPTED_AT_ONCE = 32  # in one turn of the loop, before anything can be refused
_OTHER_FILES = 64 + 4 * _ACCEPTED_AT_ONCE  # ledger, broker, logs, and connections that are about to be refused
_QUEUE = 1_024  # connections that the system holds until they are accepted
_LONGEST_HEAD = 32 * 1024
_CONNECTION = "optrelay.connection"
"""Where a request's state holds the connection that it came on."""


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Give a socket that is bound, 0 being any free port; raise ConfigurationError if that is impossible."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; every connection that it accepts has it, too
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * UNREAD_SECONDS))
        try:
            listener.bind(address)
        except OSError as error:
            message = f"cannot listen on {host}:{port}: {error.strerror}; try another --port"
            raise ConfigurationError(message) from None
        yield listener


def serve(
    app: ASGIApp,
    listener: socket.socket,
    on_ready: Callable[[], None],
    is_over: Callable[[], bool] = lambda: False,
    more: Sequence[socket.socket] = (),
) -> None:
    """Serve until SIGTERM or SIGINT, and end the way that the signal asks for once every request is answered.

    Returns in the same way once `is_over` says so; it is asked several times a second and must not wait. The same
    application answers at the `more` listeners.
    """
    Server(configuration(app, _most_connections()), on_ready, is_over).run(sockets=[listener, *more])


def _most_connections() -> int:
    """Return how many connections this process takes, after asking the system for as many open files as they need.

    A process without a free descriptor can accept nothing, and asyncio writes an error for each attempt.
    """
    needed = _MOST_CONNECTIONS + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    free = needed if soft == resource.RLIM_INFINITY else soft
    return max(1, min(_MOST_CONNECTIONS, free - _OTHER_FILES))


def configuration(app: ASGIApp, most: int = _MOST_CONNECTIONS) -> uvicorn.Config:
    """Return uvicorn's settings for an application that takes at most so many connections."""
    logging.getLogger("uvicorn.access").disabled = True  # its lines hold whole paths, and so the tokens of links
    return uvicorn.Config(
        _with_connection(app),
        http=LimitedConnection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        loop="asyncio",
        backlog=_ACCEPTED_AT_ONCE,
        limit_concurrency=most + 1,  # it refuses what reaches the limit
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        h11_max_incomplete_event_size=_LONGEST_HEAD,
    )


class Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready and asks whether it is time to end."""

    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], None], is_over: Callable[[], bool] = lambda: False
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._is_over = is_over

    @override
    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._is_over()

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for one in sockets or ():
            one.listen(_QUEUE)
        if not self.should_exit:
            self._ready()


_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n"


class LimitedConnection(asyncio.Protocol):
    """One connection: uvicorn's own protocol, behind two limits that uvicorn has no setting for.

    uvicorn makes one for each connection, because its setting `http` takes any protocol class. A client that does not
    send the head of a request in HEAD_SECONDS is let go, and one connection too many is refused at once. Which requests
    are under way, the application tells (`_with_connection`): uvicorn calls it as soon as it has a whole head.
    """

    _open: ClassVar[int] = 0  # in this process

    def __init__(self, config: uvicorn.Config, app_state: dict[str, Any], **more: Any) -> None:
        self._http = _http_protocol()(config=config, app_state=app_state | {_CONNECTION: self}, **more)
        self._most = config.limit_concurrency or sys.maxsize
        self._transport: asyncio.Transport
        self._requests = 0
        self._deadline: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        LimitedConnection._open += 1
        self._transport = transport
        self._http.connection_made(transport)
        if LimitedConnection._open >= self._most:
            transport.write(_TOO_MANY)
            transport.close()
        else:
            self._expect_head()

    @override
    def data_received(self, data: bytes) -> None:
        self._http.data_received(data)
        if not self._requests:
            self._expect_head()

    @override
    def eof_received(self) -> bool | None:
        return self._http.eof_received()

    @override
    def pause_writing(self) -> None:
        self._http.pause_writing()

    @override
    def resume_writing(self) -> None:
        self._http.resume_writing()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        LimitedConnection._open -= 1
        self._forget()
        self._http.connection_lost(exc)

    def begin_request(self) -> None:
        """Note that a whole head has come."""
        self._requests += 1
        self._forget()

    def end_request(self) -> None:
        """Note that a request was answered; uvicorn's own timeout holds until the next one begins to come."""
        self._requests -= 1

    def _expect_head(self) -> None:
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._transport.close)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


@cache
def _http_protocol() -> Callable[..., asyncio.Protocol]:
    """Return uvicorn's own protocol, chosen by name as its settings choose it."""
    config = uvicorn.Config(_with_connection, http="h11", lifespan="off", log_config=None)
    config.load()
    return config.http_protocol_class


def _with_connection(app: ASGIApp) -> ASGIApp:
    """Return the application, which tells each connection when its requests begin and end."""

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        connection: LimitedConnection = scope["state"].pop(_CONNECTION)
        connection.begin_request()
        try:
            await app(scope, receive, send)
        finally:
            connection.end_request()

    return counted
