"""A connection, which is one account at a provider: its address, its credentials and its rate limit."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from consent.guards.fuse import FuseRules
from consent.guards.rules import GuardRules
from consent.identifiers.phones import read_region
from consent.reassert import Reassert, parse_reassert

_log = logging.getLogger("optrelay.settings")
_RENAMED = {"max_strokes": "max_batches"}
_UNITS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "day": 86_400,
}
_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+)?\s*([a-z]+?)s?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `calls` calls in any window of `seconds` seconds."""

    calls: float
    seconds: float

    @property
    def interval(self) -> float:
        """Seconds from one call to the next when they are spread evenly."""
        return self.seconds / self.calls

    @property
    def per_second(self) -> float:
        """Calls per second, averaged over the window."""
        return self.calls / self.seconds

    def __str__(self) -> str:
        """Write the rate as it is written in the settings."""
        names = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}
        return f"{self.calls:g}/{names.get(int(self.seconds), f'{self.seconds:g}s')}"


def parse_rate(text: str) -> Rate:
    """Read "100/minute", "50/s" or "5/60s"; raise ValueError with the remedy for anything else."""
    match = _FORM.fullmatch(text)
    unit = _UNITS.get(match[3].lower()) if match else None
    if match is None or unit is None or float(match[1]) <= 0 or match[2] == "0" * len(match[2] or "-"):
        message = f"a rate is written like 100/minute or 50/second, not {text!r}"
        raise ValueError(message)
    return Rate(float(match[1]), float(unit * int(match[2] or 1)))


def read_rate(value: object) -> object:
    """Return the rate that a setting writes as text; raise ValueError for what can be none, such as a number alone."""
    return value if value is None or isinstance(value, Rate | Mapping) else parse_rate(str(value))


def with_current_names(given: Mapping[str, Any], renamed: Mapping[str, str], prefix: str = "") -> dict[str, Any]:
    """Return settings with each former name replaced by the current one, and log a notice for each.

    `renamed` leads former names to current ones. Where both are given, the current one counts.
    """
    former = given.keys() & renamed.keys()
    for name in sorted(former):
        _log.warning("%s is now called %s; the old name still works", (prefix + name).upper(), renamed[name].upper())
    current = {name: value for name, value in given.items() if name not in former}
    return {renamed[name]: given[name] for name in former} | current


class ConnectionSettings(BaseModel):
    """One configured account at a provider."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, given: Any) -> Any:
        return with_current_names(given, _RENAMED, "connections__…__") if isinstance(given, Mapping) else given

    provider: str = Field("", description="capillary, infobip or gupshup; defaults to the connection's name")
    base_url: str = Field("", description="where the provider listens, for example https://eu.api.capillarytech.com")
    rate: Annotated[Rate | None, BeforeValidator(read_rate)] = Field(None, description='the limit, like "100/minute"')
    concurrency: int = Field(600, ge=1, le=2000, description="calls under way at once, at most, in each process")
    max_batches: int = Field(4, ge=1, le=100, description="deliveries under way at once, over all workers")
    timeout: float = Field(20.0, gt=0, le=300, description="seconds that one call may take, all in all")
    allow_plain_http: bool = Field(default=False, description="call http:// elsewhere than on this machine (sandbox)")
    region: Annotated[str, BeforeValidator(read_region)] = Field(
        "", description="the country (like GB) whose numbers are written without a country code; empty: none is"
    )
    allow_domains: bool = Field(
        default=False, description="Infobip: take whole e-mail domains on the blocklist, which block everyone at them"
    )
    defaults: dict[str, str] = Field({}, description="values for columns that a row leaves empty (JSON object)")
    reassert: Annotated[Reassert | None, BeforeValidator(parse_reassert)] = Field(
        None, description="fresh, always or never, where this connection differs from OPTRELAY_REASSERT"
    )

    deadlines: str = Field(
        "",
        description="rules of deadlines for its opt-outs, with commas; empty: gmail-48h for EMAIL, else internal-72h",
    )
    guards: GuardRules | None = Field(None, description="limits of guards where they differ from OPTRELAY_GUARDS__…")
    fuse: FuseRules = Field(FuseRules(), description="how many dead letters alike hold the rest of their import")

    username: str = Field("", description="Capillary: the till's user name (Basic)")
    password: SecretStr = Field(SecretStr(""), description="Capillary: the till's password (Basic)")
    oauth_key: str = Field("", description="Capillary: OAuth client key")
    oauth_secret: SecretStr = Field(SecretStr(""), description="Capillary: OAuth client secret")
    oauth_header: str = Field("X-CAP-API-OAUTH-TOKEN", description="Capillary: the header that carries the token")
    method: Literal["POST", "PUT"] = Field("POST", description="Capillary: its pages disagree; POST is the commoner")
    lookup_writes: bool = Field(default=True, description="Capillary: allow writing by identifier (lookup form)")
    headers: dict[str, str] = Field({}, description="further headers, such as Capillary's attribution pair (JSON)")

    api_key: SecretStr = Field(SecretStr(""), description="Infobip: the API key")
    account_key: str = Field("", description="Infobip: the sub-account whose blocklist is meant; empty: your own")
    verify: bool = Field(default=False, description="Infobip: look after each write; an opt-out waits until it is seen")
    allow_empty_filters: bool = Field(
        default=False, description="Infobip: remove the last criterion, resource or user too: it then matches all"
    )
    blocklist_rate: Annotated[Rate | None, BeforeValidator(read_rate)] = Field(
        None, description="Infobip: the limit of blocklist calls; 1/second unless Infobip raised yours"
    )
    blocklist_batch: int = Field(1000, ge=1, le=50_000, description="Infobip: destinations in one blocklist call")

    tokens: dict[str, SecretStr] = Field({}, description="Gupshup: the token of each app (JSON, app id to token)")
    token: SecretStr = Field(SecretStr(""), description="Gupshup: the token of every app that TOKENS does not name")
    token_prefix: str = Field("", description="Gupshup: what stands before the token, like Bearer; usually nothing")
