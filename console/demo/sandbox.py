"""The demo's providers: how they are set up, how they are reached, and what each of them holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from console.demo.file import BLOCKED, Place
from sandbox.settings import SandboxSettings

_RATE = 300
_TOLERATED = 30
_FEW = "5/second"

Held = dict[Place, str]
"""What is in (`OPTIN`) or out (`OPTOUT`), slot by slot."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The most calls in any second, calls that were told to wait, and calls for one target at the same time."""

    busiest_second: int
    throttled: int
    overlaps: int


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The running sandbox, and what it held at first."""

    url: str
    at_first: Held = field(repr=False)

    def changed(self) -> Held:
        """Return every slot that is not as it was at first; what has gone from a webhook or a blocklist is undone."""
        now = held(self.url)
        gone = {place: _OPPOSITE[word] for place, word in self.at_first.items() if place not in now}
        return {place: word for place, word in now.items() if self.at_first.get(place) != word} | gone

    def stats(self) -> Stats:
        """Return what was noted about the calls to all three."""
        found = [_ask(self.url, sister, "stats", window="1").json() for sister in _SISTERS]
        busiest = sum(one["worst_window"]["calls"] for one in found)
        return Stats(busiest, sum(one["throttled"] for one in found), sum(one["overlaps"] for one in found))


def demo_sandbox() -> SandboxSettings:
    """Return a sandbox that allows the demo's pace, and a little jitter."""
    return SandboxSettings.model_validate(
        {
            "capillary": {"rate": f"{_RATE}/second", "burst": _TOLERATED, "retry_after": True},
            "infobip": {
                "blocklist_rate": "10/second",
                "blocklist": [{"destinations": [{"to": one} for one in BLOCKED]}],
            },
            "gupshup": {"rate": "10/second"},
        }
    )


def settings_text(url: str, sandbox: SandboxSettings) -> str:
    """Return the demo's settings; the credentials are the sandbox's own published ones."""
    tokens = ", ".join(f'"{app}" = "{token}"' for app, token in sandbox.gupshup.apps.items())
    lines = (
        "# the demo's settings: a sandbox on this machine",
        'ledger_url = "sqlite:///optrelay.db"',
        "[connections.capillary]",
        f'base_url = "{url}"',
        f'username = "{sandbox.capillary.username}"',
        f'password = "{sandbox.capillary.password}"',
        f'rate = "{_RATE}/second"',
        "[connections.infobip]",
        f'base_url = "{url}"',
        f'api_key = "{sandbox.infobip.api_key}"',
        f'blocklist_rate = "{_FEW}"',
        "[connections.gupshup]",
        f'base_url = "{url}"',
        f"tokens = {{ {tokens} }}",
        f'rate = "{_FEW}"',
        "",
    )
    return "\n".join(lines)


def held(url: str) -> Held:
    """Return what the sandbox holds: every slot that was written at Capillary, every member that is there elsewhere."""
    found: Held = {}
    for sister in _SISTERS:
        for line in _ask(url, sister, "state", format="ndjson").text.splitlines():
            one = json.loads(line)
            found |= {(sister, one["user"], *place): word for row in one["rows"] for place, word in _READ[sister](row)}
    return found


def _customer(row: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    yield (row["channel"], row["priority"]), row["type"]


def _rule_or_person(row: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    if "destination" in row:
        yield (), "OPTOUT"
    for one in row.get("criteria", []):
        yield (one.get("applicationId", ""), one.get("entityId", "")), "OPTIN"


def _hook(row: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    yield from (((mode,), "OPTIN") for mode in row["modes"])


_READ = {"capillary": _customer, "infobip": _rule_or_person, "gupshup": _hook}
_SISTERS = tuple(_READ)
_OPPOSITE = {"OPTIN": "OPTOUT", "OPTOUT": "OPTIN"}


def _ask(url: str, sister: str, what: str, **params: str) -> httpx.Response:
    place = "" if sister == "capillary" else f"/{sister}"
    return httpx.get(f"{url}/_sandbox{place}/{what}", params=params, trust_env=False, timeout=30.0).raise_for_status()
