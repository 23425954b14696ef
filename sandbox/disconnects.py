"""Ending a connection without a reply, for which ASGI itself has no message."""

import asyncio
import socket
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import uvicorn
from starlette.types import Receive, Scope
from typing_extensions import override

_CUT = "sandbox.cut"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class CuttableConnection(asyncio.Protocol):
    """One connection: uvicorn's own protocol, and each request's state holds the means to cut it.

    uvicorn makes one for each connection, because its setting `http` takes any protocol class.
    """

    def __init__(self, app_state: dict[str, Any], **more: Any) -> None:
        self._http = _http_protocol()(app_state=app_state | {_CUT: self.cut}, **more)
        self._transport: asyncio.Transport

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._http.connection_made(transport)

    @override
    def data_received(self, data: bytes) -> None:
        self._http.data_received(data)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._http.connection_lost(exc)

    @override
    def eof_received(self) -> bool | None:
        return self._http.eof_received()

    @override
    def pause_writing(self) -> None:
        self._http.pause_writing()

    @override
    def resume_writing(self) -> None:
        self._http.resume_writing()

    def cut(self, *, reset: bool) -> None:
        """End the connection at once; `reset` sends a TCP RST, otherwise the peer sees an ordinary end of stream."""
        if reset:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()


@cache
def _http_protocol() -> Callable[..., asyncio.Protocol]:
    """Return uvicorn's own protocol, chosen by name as its settings choose it."""
    config = uvicorn.Config(cut, http="httptools", ws="none", lifespan="off", log_config=None)
    config.load()
    return config.http_protocol_class


async def cut(scope: Scope, receive: Receive, *, reset: bool) -> None:
    """Cut the connection this request came on, and return when it is gone.

    Waiting for the disconnect matters: uvicorn answers 500 for an application that returns without a reply
    while it still believes the connection is open.
    """
    scope["state"][_CUT](reset=reset)
    while (await receive())["type"] != "http.disconnect":
        pass
