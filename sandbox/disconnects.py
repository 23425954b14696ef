"""Ending a connection without a reply, which ASGI itself has no word for."""

import socket
import struct

from starlette.types import Receive, Scope
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_CUT = "sandbox.cut"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class CuttableProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which also hands each request the means to cut its own connection."""

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_CUT: {"cut": self.cut}}

    def cut(self, *, reset: bool) -> None:
        """End the connection at once; `reset` sends a TCP RST, otherwise the peer sees an ordinary end of stream."""
        if reset:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()


async def cut(scope: Scope, receive: Receive, *, reset: bool) -> None:
    """Cut the connection this request came on, and return when it is gone.

    Waiting for the disconnect matters: uvicorn answers 500 for an application that returns without a reply
    while it still believes the connection is open.
    """
    scope["extensions"][_CUT]["cut"](reset=reset)
    while (await receive())["type"] != "http.disconnect":
        pass
