"""docs/settings.md, made from the settings themselves: `python -m tests.deployment.settings_tables` writes it again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, SecretStr

from consent.settings import ConnectionSettings, Settings
from tests.deployment.compose import ROOT
from worker.providers import PROVIDERS

SETTINGS_PAGE = ROOT / "docs" / "settings.md"
PREFIX = "OPTRELAY_"
OF_A_CONNECTION = f"{PREFIX}CONNECTIONS__<NAME>__"

_ABOVE = """# Settings

From the environment, or from `optrelay.toml` in the current folder (see `optrelay.toml.example`); the environment
overrules the file. `optrelay doctor` says which were found, and never a value.

## The installation

"""
_BETWEEN = """
## Each connection

`<NAME>` is yours to choose, such as `CAPILLARY` or `SECOND_BRAND`; it names the provider too unless `PROVIDER` does.
The same name, in lower case, stands in the column `connection` of a file. A rate is written like `100/minute`,
`50/second` or `5/60s`; without one the provider's documented limit holds (Capillary: 100/minute). Providers that exist
today: {providers}.

"""
_BELOW = """
`LEASE_SECONDS` must be at least a connection's `TIMEOUT` + `HORIZON_SECONDS` + 3, or its workers start no stroke. In
`optrelay.toml` the same settings are written in lower case, `[connections.<name>]` for each connection.
"""


def page() -> str:
    """Return the page as it should be."""
    tables = (_table(Settings, PREFIX), _table(ConnectionSettings, OF_A_CONNECTION))
    between = _BETWEEN.replace("{providers}", ", ".join(sorted(PROVIDERS)))
    return f"{_ABOVE}{tables[0]}{between}{tables[1]}{_BELOW}"


def names() -> Iterator[str]:
    """Return the name of every setting."""
    yield from (PREFIX + name.upper() for name in Settings.model_fields)
    yield from (OF_A_CONNECTION + name.upper() for name in ConnectionSettings.model_fields)


def _table(model: type[BaseModel], prefix: str) -> str:
    rows = [
        f"| `{prefix}{name.upper()}` | {_shown(field.default)} | {field.description} |"
        for name, field in model.model_fields.items()
    ]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows, ""])


def _shown(default: Any) -> str:
    value = default.get_secret_value() if isinstance(default, SecretStr) else default
    match value:
        case bool():
            return f"`{str(value).lower()}`"
        case float() | int():
            return f"`{value:.12g}`"
    return f"`{value}`" if value else ""


if __name__ == "__main__":
    SETTINGS_PAGE.write_text(page())
