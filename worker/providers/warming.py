"""Making the HTTP client ready before the first call has its moment.

httpx and what stands below it import half of themselves at the first exchange. Measured on two busy cores that takes a
quarter of a second: four processes that begin together would all send their first call late, into one window.
"""

from __future__ import annotations

import asyncio

import httpx

_NOTHING = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"


async def warm_up() -> None:
    """Make one exchange with ourselves, over a socket of this machine that nobody else knows."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, httpx.AsyncClient(trust_env=False) as client:
        await client.post(f"http://127.0.0.1:{port}/", json={})


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(_NOTHING)
    await writer.drain()
    writer.close()
