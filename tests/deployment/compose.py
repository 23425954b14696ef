"""docker-compose.yml as Compose reads it: merged, interpolated, service by service."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
ENV_EXAMPLE = ROOT / ".env.example"

VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<how>:\?|:-)(?P<rest>[^{}]*))?\}|(?P<odd>.?))"
)
"""The forms of interpolation that this project uses: $$, ${NAME}, ${NAME:?message} and ${NAME:-value}."""

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:\d+ms)?(?:\d+us)?")


class Missing(Exception):
    """A variable that must be set is not: Compose would stop with this message."""


def raw() -> dict[str, Any]:
    """Return the file, with its anchors merged and nothing interpolated."""
    found: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
    return found


def interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    """Return a value of the file as Compose would see it; raise Missing for a variable that must be set."""
    match value:
        case str():
            return VARIABLE.sub(lambda found: _value(found, variables), value)
        case dict():
            return {name: interpolate(one, variables) for name, one in value.items()}
        case list():
            return [interpolate(one, variables) for one in value]
    return value


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    if found["dollar"]:
        return "$"
    if found["name"] is None:
        raise ValueError(f"this is no interpolation that Compose knows: {found[0]!r}")
    value = variables.get(found["name"], "")
    if not value and found["how"] == ":?":
        raise Missing(f"{found['name']}: {found['rest']}")
    return value or (found["rest"] if found["how"] == ":-" else "") or ""


def seconds(duration: str) -> float:
    """Read a duration like 1m30s; raise ValueError for anything that Compose would refuse."""
    parts = _DURATION.fullmatch(duration)
    if parts is None or not duration:
        raise ValueError(f"{duration!r} is no duration like 90s or 1m30s")
    hours, minutes, rest = (int(part or 0) for part in parts.groups())
    return hours * 3600 + minutes * 60 + rest


def env_example(*, demo: bool) -> dict[str, str]:
    """Return what a .env made from .env.example holds; with `demo` as it says for the sandbox."""
    found: dict[str, str] = {}
    for line in ENV_EXAMPLE.read_text().splitlines():
        text = line.removeprefix("#:") if demo else line
        if text and not text.startswith("#"):
            name, _, value = text.partition("=")
            found[name] = value
    return found


@dataclass(frozen=True, slots=True)
class Service:
    """One service, interpolated."""

    name: str
    keys: Mapping[str, Any]

    @property
    def command(self) -> list[str]:
        """What is run: our image's entrypoint, or the service's own, and its command."""
        ours = ["optrelay"] if "build" in self.keys else []
        return [*_arguments(self.keys.get("entrypoint", ours)), *_arguments(self.keys.get("command", []))]

    @property
    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL; 10 is what Compose does if nothing is said."""
        return seconds(self.keys.get("stop_grace_period", "10s"))

    def environment(self, dotenv: Mapping[str, str]) -> dict[str, str]:
        """What its process finds in the environment."""
        files = self.keys.get("env_file", [])
        return {**(dotenv if ".env" in files else {}), **self.keys.get("environment", {})}


def services(dotenv: Mapping[str, str]) -> dict[str, Service]:
    """Return every service; raise Missing for a variable that must be set and is not."""
    return {name: Service(name, keys) for name, keys in interpolate(raw()["services"], dotenv).items()}


def _arguments(command: str | list[str]) -> list[str]:
    return shlex.split(command) if isinstance(command, str) else command
