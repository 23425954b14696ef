"""The process of `optrelay serve`: its socket, how many clients it takes at most, and a graceful end."""

from __future__ import annotations

import logging
import resource
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override

from consent.errors import ConfigurationError
from producers.http.middleware import LimitedConnection, with_connection

UNREAD_SECONDS = 60.0
"""How long a client may leave an answer unread that fills what the network holds of it."""

_KEEP_ALIVE_SECONDS = 30
_GRACE_SECONDS = 25
_MOST_CONNECTIONS = 1_000
_ACCEPTED_AT_ONCE = 32  # in one turn of the loop, before anything can be refused
_OTHER_FILES = 64 + 4 * _ACCEPTED_AT_ONCE  # ledger, broker, logs, and connections that are about to be refused
_QUEUE = 1_024  # connections that the system holds until they are accepted
_LONGEST_HEAD = 32 * 1024


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
        with_connection(app),
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
