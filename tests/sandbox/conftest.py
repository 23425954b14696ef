"""A really running sandbox."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from sandbox.serve import running
from sandbox.settings import SandboxSettings
from tests.sandbox.calling import Caller, Starting


@pytest.fixture(scope="session")
def _unlimited() -> Iterator[str]:
    with running(SandboxSettings.model_validate({"capillary": {"rate": "off"}})) as url:
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
            caller = Caller(stack.enter_context(running(settings)))
            stack.enter_context(caller.http)
            return caller

        yield _start
