"""The doctor's look at this machine: Python, the packages, and which settings were read."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version

from consent.files import path_text
from consent.settings import TOML_FILE, Settings, environment_names, toml_file
from console.configured import unknown_settings
from console.finding import Finding

_OLDEST = (3, 11)
_PACKAGES = ("optrelay", "celery", "kombu", "redis", "sqlalchemy", "httpx", "pydantic")


def look(settings: Settings) -> Iterator[Finding]:  # noqa: ARG001 - every check is asked in the same way
    """Look at Python and the packages."""
    python = platform.python_version()
    remedy = "" if sys.version_info >= _OLDEST else "optrelay needs Python 3.11 or newer"
    yield Finding("python", ok=not remedy, words=f"{python} on {platform.system()}", remedy=remedy)
    yield Finding("packages", ok=True, words=", ".join(f"{name} {version(name)}" for name in _PACKAGES))


def settings_unknown() -> Iterator[Finding]:
    """Name what was set and means nothing, and what each may have been meant to be."""
    for name, remedy in unknown_settings():
        yield Finding("settings", ok=None, words=f"{name} is no setting and is ignored", remedy=remedy)


def settings_found() -> Finding:
    """Say where settings were found: names only, never a value."""
    names = environment_names()
    places = [f"{len(names)} OPTRELAY_ variables"] if names else []
    places += [path_text(toml_file().resolve())] if toml_file().exists() else []
    if not places:
        return Finding("settings", ok=None, words=f"no OPTRELAY_ variable and no {TOML_FILE} here: all are defaults")
    return Finding("settings", ok=True, words=f"read from {' and '.join(places)}")
