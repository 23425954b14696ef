"""The paths of Infobip's API that the sandbox answers."""

from typing import Final

from starlette.routing import Route
from starlette.types import Scope

from sandbox.endpoint import Endpoint
from sandbox.handling import Target
from sandbox.infobip.service import BLOCKLISTS, SUBSCRIPTIONS, Infobip


def routes(infobip: Infobip) -> list[Route]:
    """Return the routes; a method that is not allowed is refused by the sandbox itself, in Infobip's words."""
    some, blocking = infobip.subscribing, infobip.blocklisting
    manage: Final = "subscriptions:manage"
    on_channel = infobip.by_method({"GET": some.list, "POST": some.create}, manage)
    on_one = infobip.by_method({"GET": some.show, "PUT": some.update, "DELETE": some.remove}, manage)
    on_profiles = infobip.by_method({"GET": some.list_profiles, "POST": some.create_profile}, manage)
    on_profile = infobip.by_method({"GET": some.show_profile}, manage)
    on_blocklist = infobip.by_method(
        {"GET": blocking.show, "POST": blocking.block, "DELETE": blocking.unblock}, "blocklist:manage"
    )
    return [
        Route("/subscriptions/1/subscription/{channel}", Endpoint(_channel, on_channel)),
        Route("/subscriptions/1/subscription/{channel}/{subscription_id}", Endpoint(_subscription, on_one)),
        Route("/subscriptions/1/profiles", Endpoint(_profile, on_profiles)),
        Route("/subscriptions/1/profiles/{profile_id}", Endpoint(_profile, on_profile)),
        Route("/platform/1/blocklists", Endpoint(_blocklist, on_blocklist)),
    ]


def _channel(scope: Scope) -> Target:
    channel = scope["path_params"]["channel"]
    return Target(channel, (channel,), SUBSCRIPTIONS)


def _subscription(scope: Scope) -> Target:
    channel, subscription_id = scope["path_params"]["channel"], scope["path_params"]["subscription_id"]
    key = f"{channel}/{subscription_id}"
    return Target(key, (key, subscription_id, channel), SUBSCRIPTIONS)


def _profile(scope: Scope) -> Target:
    key = "/".join(["profiles", *scope["path_params"].values()])
    return Target(key, (key,), SUBSCRIPTIONS)


def _blocklist(_scope: Scope) -> Target:
    return Target(BLOCKLISTS, (BLOCKLISTS,), BLOCKLISTS)
