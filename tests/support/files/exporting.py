"""A company that gets exports of other systems and keeps a blocklist at Infobip, with its optrelay.toml."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from sandbox.server import running
from sandbox.settings import SandboxSettings
from tests.support.company import Company

KEY = "demo-infobip-key"


@dataclass
class Exporting(Company):
    """An installation whose settings stand in its optrelay.toml."""

    def environment(self) -> dict[str, str]:
        """What the optrelay command is told: nothing but where the ledger is."""
        return {n: v for n, v in super().environment().items() if not n.startswith("OPTRELAY_CONNECTIONS")}

    def blocked(self) -> set[str]:
        """Who stands on the blocklist in the end."""
        lines = httpx.get(f"{self.url}/_sandbox/infobip/state", params={"format": "ndjson"}).raise_for_status().text
        users = (json.loads(line)["user"] for line in lines.splitlines())
        return {user.removeprefix("blocklist/") for user in users if user.startswith("blocklist/")}


@contextmanager
def exporting(folder: Path, *feeds: str) -> Iterator[Exporting]:
    """A company with these feeds whose provider runs until the test ends."""
    sandbox = SandboxSettings.model_validate({"infobip": {"blocklist_rate": "off", "subscription_rate": "off"}})
    with running(sandbox) as url:
        settings = f"""\
# ours
[connections.infobip]
base_url = "{url}"
api_key = "{KEY}"
blocklist_rate = "1000/second"
"""
        (folder / "optrelay.toml").write_text(settings + "".join(feeds))
        (folder / "optrelay.toml").chmod(0o600)
        yield Exporting(folder, url)
