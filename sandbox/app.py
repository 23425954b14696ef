"""The sandbox as one ASGI application: each provider's own paths, and the control paths beside them."""

from starlette.applications import Starlette

from sandbox import capillary, control
from sandbox.settings import SandboxSettings


def create_app(settings: SandboxSettings) -> Starlette:
    """Return the application, holding nothing yet.

    Another provider is a package beside `capillary`, a section in the settings, and here its own routes and its own
    control routes under another prefix.
    """
    desk = capillary.Capillary(settings.capillary)
    return Starlette(routes=[*capillary.routes(desk), *control.routes(desk, "/_sandbox")])
