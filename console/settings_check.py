"""Read the settings of a command, and warn of misspelt ones: else a limit that was set would be ignored silently."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from consent.reassert import BOOLEANS
from consent.settings import CONFIG_VARIABLE, TOML_FILE, Settings, environment_names, load_settings, toml_file
from console.ui.screen import Screen


def configured(screen: Screen) -> Settings:
    """Read the settings, and say on standard error which variables and keys mean nothing; raise ConfigurationError."""
    settings = load_settings()
    for name, remedy in unknown_settings():
        screen.note(f"{name} is no setting and is ignored: {remedy}")
    for name, way in former_ways():
        screen.note(f"{name} is fresh, always or never now: write {way}, which is what it means")
    return settings


def former_ways() -> Iterator[tuple[str, str]]:
    """Give the settings of `reassert` that are true or false, and how the same is written now."""
    given: dict[str, object] = {name: os.environ[name] for name in environment_names() if name.endswith("REASSERT")}
    tables = _toml()
    given[f"{TOML_FILE}: reassert"] = tables.get("reassert")
    if isinstance(connections := tables.get("connections"), dict):
        for name, own in connections.items():
            given[f"{TOML_FILE}: connections.{name}.reassert"] = own.get("reassert") if isinstance(own, dict) else None
    for name, value in given.items():
        way = BOOLEANS.get(str(value).strip().lower())
        if way is not None:
            yield name, way.value


def unknown_settings() -> Iterator[tuple[str, str]]:
    """Give the variables and the keys of optrelay.toml that mean nothing, and what each may have been meant to be."""
    for name in environment_names():
        own = name.removeprefix("OPTRELAY_").partition("__")[0].lower()
        if own not in Settings.model_fields and name != CONFIG_VARIABLE:
            close = get_close_matches(own, Settings.model_fields, n=1)
            yield name, f"did you mean OPTRELAY_{close[0].upper()}?" if close else _SEE
    for key in _toml():
        if key not in Settings.model_fields:
            close = get_close_matches(key.lower(), Settings.model_fields, n=1)
            shown = key if key.isidentifier() else "something that is no name"
            yield f"{TOML_FILE}: {shown}", f"did you mean {close[0]}?" if close else _SEE


_SEE = "see docs/settings.md"


def _toml() -> dict[str, Any]:
    path = toml_file()
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
