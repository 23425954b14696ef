"""A really running sandbox."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest

from sandbox.server import running
from sandbox.settings import SandboxSettings
from tests.sandbox.calling import Caller, Starting
from tests.sandbox.calling_providers import GupshupCaller, InfobipCaller, StartingGupshup, StartingInfobip

AnyCaller = TypeVar("AnyCaller", Caller, InfobipCaller, GupshupCaller)
_UNLIMITED = {
    "capillary": {"rate": "off"},
    "infobip": {"blocklist_rate": "off", "blocklist_lag": 0},
    "gupshup": {"rate": "off"},
}
# Every knob of the other two providers that answers a question the documentation leaves open, the other way round.
_OTHERWISE = {
    "infobip": {
        "scopes": ["subscriptions:manage"],
        "channels": "page",
        "unknown_event": "refuse",
        "omitted": "keep",
        "missing_profile": 400,
        "envelope": "api",
    },
    "gupshup": {
        "rate": "off",
        "versions": [2, 3, 7],
        "only_for_v3": [],
        "not_for_v3": ["COPY"],
        "check_by_default": False,
    },
}


@pytest.fixture(scope="session")
def _unlimited() -> Iterator[str]:
    with running(SandboxSettings.model_validate(_UNLIMITED)) as url:
        yield url


@pytest.fixture
def capillary(_unlimited: str) -> Iterator[Caller]:
    """Give a caller of a fresh sandbox without a rate limit."""
    caller = Caller(_unlimited)
    with caller.http:
        caller.http.post("/_sandbox/reset")
        yield caller


@pytest.fixture
def start() -> Iterator[Starting]:
    """Start a sandbox of one's own, with these settings."""
    with ExitStack() as stack:

        def _start(**capillary: Any) -> Caller:
            settings = SandboxSettings.model_validate({"capillary": {"rate": "off"} | capillary})
            return _opened(stack, Caller(stack.enter_context(running(settings))))

        yield _start


@pytest.fixture
def infobip(_unlimited: str) -> Iterator[InfobipCaller]:
    """Give a caller of a fresh Infobip without rate limits, whose blocklist shows every change at once."""
    caller = InfobipCaller(_unlimited)
    with caller.http:
        caller.http.post("/_sandbox/infobip/reset")
        yield caller


@pytest.fixture
def gupshup(_unlimited: str) -> Iterator[GupshupCaller]:
    """Give a caller of a fresh Gupshup without a rate limit."""
    caller = GupshupCaller(_unlimited)
    with caller.http:
        caller.http.post("/_sandbox/gupshup/reset")
        yield caller


@pytest.fixture(scope="session")
def _otherwise() -> Iterator[str]:
    with running(SandboxSettings.model_validate(_OTHERWISE)) as url:
        yield url


@pytest.fixture
def infobip_otherwise(_otherwise: str) -> Iterator[InfobipCaller]:
    """Give a caller of a fresh Infobip that decides every open question the other way round."""
    caller = InfobipCaller(_otherwise)
    with caller.http:
        caller.http.post("/_sandbox/infobip/reset")
        yield caller


@pytest.fixture
def gupshup_otherwise(_otherwise: str) -> Iterator[GupshupCaller]:
    """Give a caller of a fresh Gupshup that decides every open question the other way round."""
    caller = GupshupCaller(_otherwise)
    with caller.http:
        caller.http.post("/_sandbox/gupshup/reset")
        yield caller


@pytest.fixture
def start_infobip() -> Iterator[StartingInfobip]:
    """Start a sandbox with these settings for Infobip."""
    with ExitStack() as stack:

        def _start(**infobip: Any) -> InfobipCaller:
            settings = SandboxSettings.model_validate({"infobip": _UNLIMITED["infobip"] | infobip})
            return _opened(stack, InfobipCaller(stack.enter_context(running(settings))))

        yield _start


@pytest.fixture
def start_gupshup() -> Iterator[StartingGupshup]:
    """Start a sandbox with these settings for Gupshup."""
    with ExitStack() as stack:

        def _start(**gupshup: Any) -> GupshupCaller:
            settings = SandboxSettings.model_validate({"gupshup": _UNLIMITED["gupshup"] | gupshup})
            return _opened(stack, GupshupCaller(stack.enter_context(running(settings))))

        yield _start


def _opened(stack: ExitStack, caller: AnyCaller) -> AnyCaller:
    stack.enter_context(caller.http)
    return caller
