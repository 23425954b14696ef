"""The way from a path to the provider behind it."""

from collections.abc import Awaitable, Callable
from typing import Generic

from starlette.types import Receive, Scope, Send

from sandbox.handling import Handling, TargetT


class Endpoint(Generic[TargetT]):
    """A bare ASGI application that names the target of a call: the hot path makes no request object."""

    def __init__(
        self, naming: Callable[[Scope], TargetT], answering: Callable[[Handling[TargetT], Send], Awaitable[None]]
    ) -> None:
        self._naming = naming
        self._answering = answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the call over."""
        await self._answering(Handling(scope, receive, self._naming(scope)), send)
