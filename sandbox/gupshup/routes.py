"""The paths of Gupshup's partner API that the sandbox answers."""

from starlette.routing import Route
from starlette.types import Scope

from sandbox.endpoint import Endpoint
from sandbox.gupshup.service import Gupshup, Place
from sandbox.gupshup.subscribing import Subscribing


def routes(gupshup: Gupshup) -> list[Route]:
    """Return the routes; a method that is not allowed is refused by the sandbox itself, in Gupshup's words."""
    some, all_of_app = Subscribing(gupshup), "/partner/app/{app_id}/subscription"
    on_all = gupshup.by_method({"GET": some.list, "POST": some.create, "DELETE": some.remove_all})
    on_one = gupshup.by_method({"GET": some.show, "PUT": some.update, "DELETE": some.remove})
    return [
        Route(all_of_app, Endpoint(_app, on_all)),
        Route(f"{all_of_app}/{{subscription_id}}", Endpoint(_subscription, on_one)),
    ]


def _app(scope: Scope) -> Place:
    app_id = scope["path_params"]["app_id"]
    return Place(app_id, (app_id,), app_id, app_id=app_id)


def _subscription(scope: Scope) -> Place:
    app_id, subscription_id = scope["path_params"]["app_id"], scope["path_params"]["subscription_id"]
    key = f"{app_id}/{subscription_id}"
    return Place(key, (key, subscription_id, app_id), app_id, app_id, subscription_id)
