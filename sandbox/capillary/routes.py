"""The paths of Capillary's API that the sandbox answers."""

from collections.abc import Awaitable, Callable

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sandbox.capillary.customer import Customer, customer_by_id, customer_by_lookup
from sandbox.capillary.desk import Capillary
from sandbox.capillary.handling import Handling

Answering = Callable[[Handling, Send], Awaitable[None]]
Naming = Callable[[Scope], Customer]


def routes(capillary: Capillary) -> list[Route]:
    """Return the routes; a method that is not allowed is refused by the sandbox itself, in Capillary's words."""
    customers = "/v2/customers"
    return [
        Route(f"{customers}/lookup/subscriptions", _Endpoint(_by_lookup, capillary.subscriptions)),
        Route(f"{customers}/{{user_id}}/subscriptions", _Endpoint(_by_id, capillary.subscriptions)),
        Route(f"{customers}/{{user_id}}/subscriptionStatusChangeLog", _Endpoint(_by_id, capillary.change_log)),
        Route("/v3/oauth/token/generate", _Minting(capillary)),
    ]


class _Endpoint:
    """A bare ASGI application: the hot path makes no request object."""

    def __init__(self, naming: Naming, answering: Answering) -> None:
        self._naming = naming
        self._answering = answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answering(Handling(scope, receive, self._naming(scope)), send)


class _Minting:
    def __init__(self, capillary: Capillary) -> None:
        self._capillary = capillary

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._capillary.mint(scope, receive, send)


def _by_id(scope: Scope) -> Customer:
    return customer_by_id(scope["path_params"]["user_id"])


def _by_lookup(scope: Scope) -> Customer:
    return customer_by_lookup(scope["query_string"])
