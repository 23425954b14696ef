"""The steps of signing one request, as httpx defines them, without waiting where there is nothing to wait for."""

from __future__ import annotations

from typing import Any

import httpx


class Signing:
    """One request's way through an `httpx.Auth`: what to send first, and what to send after each reply.

    httpx makes an asynchronous generator of every flow, which costs a call as much as writing it does; here only a flow
    that says itself that it waits is one.
    """

    def __init__(self, auth: httpx.Auth, request: httpx.Request) -> None:
        self._waits = type(auth).async_auth_flow is not httpx.Auth.async_auth_flow
        self._flow: Any = auth.async_auth_flow(request) if self._waits else auth.auth_flow(request)

    async def after(self, response: httpx.Response | None) -> httpx.Request | None:
        """Return what is to be sent after a reply, at first after none; None once nothing is."""
        try:
            sent: httpx.Request = await self._flow.asend(response) if self._waits else self._flow.send(response)
        except (StopIteration, StopAsyncIteration):
            return None
        return sent

    async def aclose(self) -> None:
        """End it, wherever it is."""
        if self._waits:
            await self._flow.aclose()
        else:
            self._flow.close()
