"""The sandbox as one ASGI application: each provider's own paths, and the control paths beside them."""

from starlette.applications import Starlette
from starlette.routing import Route

from sandbox import capillary, control, gupshup, infobip
from sandbox.settings import SandboxSettings

PREFIX = "/_sandbox"


def create_app(settings: SandboxSettings) -> Starlette:
    """Return the application, holding nothing but what the settings say is there from the start.

    Another provider is a package beside `capillary`, a section in the settings, and here its own routes and its own
    control routes under another prefix; Capillary's have the plain one, because it was there first.
    """
    service = capillary.Capillary(settings.capillary)
    return Starlette(
        routes=[
            *capillary.routes(service),
            *control.routes(service, PREFIX),
            *_infobip(settings, f"{PREFIX}/infobip"),
            *_gupshup(settings, f"{PREFIX}/gupshup"),
        ]
    )


def _infobip(settings: SandboxSettings, prefix: str) -> list[Route]:
    service = infobip.Infobip(settings.infobip)
    return [*infobip.routes(service), *control.routes(service, prefix), control.seeding(service.seed, prefix)]


def _gupshup(settings: SandboxSettings, prefix: str) -> list[Route]:
    service = gupshup.Gupshup(settings.gupshup)
    return [*gupshup.routes(service), *control.routes(service, prefix), control.seeding(service.seed, prefix)]
