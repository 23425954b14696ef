"""The paths of Capillary's API that the sandbox answers."""

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sandbox.capillary.customer import Customer, customer_by_id, customer_by_lookup
from sandbox.capillary.service import Capillary
from sandbox.endpoint import Endpoint


def routes(capillary: Capillary) -> list[Route]:
    """Return the routes; a method that is not allowed is refused by the sandbox itself, in Capillary's words."""
    customers = "/v2/customers"
    return [
        Route(f"{customers}/lookup/subscriptions", Endpoint(_by_lookup, capillary.subscriptions)),
        Route(f"{customers}/{{user_id}}/subscriptions", Endpoint(_by_id, capillary.subscriptions)),
        Route(f"{customers}/{{user_id}}/subscriptionStatusChangeLog", Endpoint(_by_id, capillary.change_log)),
        Route("/v3/oauth/token/generate", _Minting(capillary)),
    ]


class _Minting:
    def __init__(self, capillary: Capillary) -> None:
        self._capillary = capillary

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._capillary.mint(scope, receive, send)


def _by_id(scope: Scope) -> Customer:
    return customer_by_id(scope["path_params"]["user_id"])


def _by_lookup(scope: Scope) -> Customer:
    return customer_by_lookup(scope["query_string"])
