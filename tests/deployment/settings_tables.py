"""docs/settings.md, made from the settings themselves: `python -m tests.deployment.settings_tables` writes it again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, SecretStr

from consent.connection import ConnectionSettings
from consent.guards.fuse import FuseRules
from consent.guards.rules import GuardRules
from consent.public_page import PublicPage
from consent.settings import Settings
from tests.deployment.compose import ROOT
from worker.providers import PROVIDERS

SETTINGS_PAGE = ROOT / "docs" / "settings.md"
GUARDS_PAGE = ROOT / "docs" / "guards.md"
FUSE_PAGE = ROOT / "docs" / "fuse.md"
OF_GUARDS = "OPTRELAY_GUARDS__"
PUBLIC_PAGE = ROOT / "docs" / "unsubscribe.md"
OF_THE_PUBLIC_PAGE = "OPTRELAY_PUBLIC_PAGE__"
PREFIX = "OPTRELAY_"
CONFIG = "OPTRELAY_CONFIG"
OF_A_CONNECTION = f"{PREFIX}CONNECTIONS__<NAME>__"
OF_A_FUSE = f"{OF_A_CONNECTION}FUSE__"

_ABOVE = """# Settings

From the environment, or from `optrelay.toml` in the current folder (see `optrelay.toml.example`); the environment
overrules the file. `OPTRELAY_CONFIG` names a file elsewhere, or `/dev/null` for none. A file that belongs to another
user than you and root, or that everybody may write to, is refused. `optrelay doctor` says which were found, and never a
value.

## The installation

"""
_BETWEEN = """
## Opt-outs that the provider is confirmed to hold

A change that says what the provider is confirmed to hold already is `unchanged` and costs no call. But others may have
written to the provider since it confirmed. `OPTRELAY_REASSERT` says which opt-outs are delivered all the same:

| way | what is delivered |
|---|---|
| `fresh` | opt-outs with a time of their own (events, rows with `effective_at`) that is later than the confirmation |
| `always` | all opt-outs, also those of a file that says the same with the same times as the one before |
| `never` | none |

A row without a time of its own, which holds since the file's, stays `unchanged` with `fresh`. So does a row whose time
is taken for that of the export: see [csv.md](csv.md#the-time-of-an-export). `--reassert` of `optrelay run` and
`optrelay import` says it for one command, and with `--reassert always` a file that was recorded before is read once
more and its opt-outs are sent. With the setting alone, the same bytes are not read again. An event that comes twice is
one change in every way. `OPTRELAY_REASSERT=true` goes on meaning `always` and `false` `never`.

## Each connection

`<NAME>` is yours to choose, such as `CAPILLARY` or `SECOND_BRAND`; it names the provider too unless `PROVIDER` does.
The same name, in lower case, stands in the column `connection` of a file. A rate is written like `100/minute`,
`50/second` or `5/60s`; without one the provider's documented limit holds (Capillary: 100/minute). Providers that exist
today: {providers}.

"""
_BELOW = """
`LEASE_SECONDS` must be at least a connection's `TIMEOUT` + `RESERVATION_SECONDS` + 3, or its workers start no delivery.
In `optrelay.toml` the same settings are written in lower case, `[connections.<name>]` for each connection.

Former names still work, with a notice: `STROKE_SIZE` is now `BATCH_CUSTOMERS`, `HORIZON_SECONDS` is now
`RESERVATION_SECONDS`, and `MAX_STROKES` of a connection is now `MAX_BATCHES`.

## Proxy and certificates

Calls to providers heed the variables that other programs heed:

* `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, also in small letters: the proxy to go through, like
  `http://user:password@host:port`, percent-encoded. SOCKS is refused. This machine is never called through it.
* `NO_PROXY`: what is called directly. Hosts, domains with all their hosts, IP addresses, networks like `10.0.0.0/8`,
  each with a port if only that one is meant; `*` means all.
* `SSL_CERT_FILE`, `SSL_CERT_DIR`: the authorities to trust instead of those that optrelay brings.
"""


def page() -> str:
    """Return the page as it should be."""
    tables = (_table(Settings, PREFIX), _table(ConnectionSettings, OF_A_CONNECTION))
    between = _BETWEEN.replace("{providers}", ", ".join(sorted(PROVIDERS)))
    return f"{_ABOVE}{tables[0]}{between}{tables[1]}{_BELOW}"


def guards_page() -> str:
    """Return the page about guards with its table as it should be."""
    return _with_table(GUARDS_PAGE.read_text(), GuardRules, OF_GUARDS)


def public_page() -> str:
    """Return the page about what people see behind a link with its table as it should be."""
    return _with_table(PUBLIC_PAGE.read_text(), PublicPage, OF_THE_PUBLIC_PAGE)


def _with_table(text: str, model: type[BaseModel], prefix: str) -> str:
    """Return a page that ends with a table of settings, with that table as it should be."""
    above, heading, _ = text.partition("\n| setting | default | meaning |\n")
    return f"{above}\n{_table(model, prefix)}" if heading else above


def fuse_page() -> str:
    """Return the page about the fuse with its table as it should be."""
    return _with_table(FUSE_PAGE.read_text(), FuseRules, OF_A_FUSE)


def names() -> Iterator[str]:
    """Return the name of every setting."""
    yield CONFIG
    yield from (PREFIX + name.upper() for name in Settings.model_fields)
    yield from (OF_A_CONNECTION + name.upper() for name in ConnectionSettings.model_fields)
    yield from (OF_A_FUSE + name.upper() for name in FuseRules.model_fields)
    yield from (OF_GUARDS + name.upper() for name in GuardRules.model_fields)
    yield from (OF_THE_PUBLIC_PAGE + name.upper() for name in PublicPage.model_fields)


def _table(model: type[BaseModel], prefix: str) -> str:
    rows = [
        f"| `{prefix}{name.upper()}` | {_shown(field.default)} | {field.description} |"
        for name, field in model.model_fields.items()
    ]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows, ""])


def _shown(default: Any) -> str:
    value = default.get_secret_value() if isinstance(default, SecretStr) else default
    match value:
        case BaseModel():
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case float() | int():
            return f"`{value:.12g}`"
    return f"`{value}`" if value else ""


if __name__ == "__main__":
    SETTINGS_PAGE.write_text(page())
    GUARDS_PAGE.write_text(guards_page())
    FUSE_PAGE.write_text(fuse_page())
    PUBLIC_PAGE.write_text(public_page())
