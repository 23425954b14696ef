"""The settings of a command, and those that somebody has misspelt: ignored, a limit that was set would go unnoticed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from consent.settings import TOML_FILE, Settings, environment_names, load_settings
from console.screen import Screen


def configured(screen: Screen) -> Settings:
    """Read the settings, and say on standard error which variables and keys mean nothing; raise ConfigurationError."""
    settings = load_settings()
    for name, remedy in unknown_settings():
        screen.note(f"{name} is no setting and is ignored: {remedy}")
    return settings


def unknown_settings() -> Iterator[tuple[str, str]]:
    """Give the variables and the keys of optrelay.toml that mean nothing, and what each may have been meant to be."""
    for name in environment_names():
        own = name.removeprefix("OPTRELAY_").partition("__")[0].lower()
        if own not in Settings.model_fields:
            close = get_close_matches(own, Settings.model_fields, n=1)
            yield name, f"did you mean OPTRELAY_{close[0].upper()}?" if close else _SEE
    for key in _toml_keys():
        if key not in Settings.model_fields:
            close = get_close_matches(key.lower(), Settings.model_fields, n=1)
            shown = key if key.isidentifier() else "something that is no name"
            yield f"{TOML_FILE}: {shown}", f"did you mean {close[0]}?" if close else _SEE


_SEE = "see docs/settings.md"


def _toml_keys() -> list[str]:
    path = Path(TOML_FILE)
    return list(tomllib.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []
