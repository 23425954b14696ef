"""Everything that can be set, from the environment (prefix OPTRELAY_, nested with __) or from optrelay.toml."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from consent.connection import ConnectionSettings, Rate, read_rate, with_current_names
from consent.deadlines.rules import DeadlineRules, choose_rules
from consent.errors import Bounds, ConfigurationError, field_at, is_table, number_text, wrong_value
from consent.feed import Feed
from consent.files import path_text, refuse_planted_at
from consent.guards.rules import GuardRules
from consent.public_page import PublicAddress, PublicPage
from consent.reassert import Reassert, ReassertRules, parse_reassert

TOML_FILE = "optrelay.toml"
CONFIG_VARIABLE = "OPTRELAY_CONFIG"
RENAMED = {"stroke_size": "batch_customers", "horizon_seconds": "reservation_seconds"}
"""Former names of settings, which still work, and the current ones."""

LONGEST_BODY = 1024 * 1024
"""Bytes of the longest message that any source may bring."""


def _upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


def _days(value: object) -> object:
    return value.lower().removesuffix("d").strip() if isinstance(value, str) else value


def _addresses(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return value.split()
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        raise ValueError('write several with spaces, or a list in JSON, like ["one", "another"]') from None


def _listener(value: str) -> str:
    host, _, port = value.rpartition(":")
    if value and not (host and port.isascii() and port.isdigit() and int(port[:6]) < 2**16):
        raise ValueError("write HOST:PORT, like 127.0.0.1:9464")
    return value


class Settings(BaseSettings):
    """The settings of one installation of optrelay."""

    model_config = SettingsConfigDict(env_prefix="OPTRELAY_", env_nested_delimiter="__", extra="ignore", frozen=True)

    ledger_url: str = Field("sqlite:///optrelay.db", description="the ledger's database")
    ledger_gb: float = Field(
        0.0, ge=0, description="GB (10^9 bytes) that the ledger's database may take, for a notice at 90 %; 0: not known"
    )
    broker_url: str | None = Field(
        None, description="Valkey/Redis; unset: `optrelay run` starts one on a private socket"
    )
    connections: dict[str, ConnectionSettings] = Field({}, description="the accounts at providers, by name")
    feeds: dict[str, Feed] = Field({}, description="files that come again, and how each is to be understood, by name")
    reassert: Annotated[Reassert, BeforeValidator(parse_reassert)] = Field(
        Reassert.FRESH, description="which opt-outs are delivered though they are confirmed: fresh, always or never"
    )
    guards: GuardRules = Field(GuardRules(), description="when a file is held until a person approves it")
    deadline_rules: str = Field("", description="a file of rules of deadlines, beside those that come with optrelay")
    deadline_holidays: bool = Field(
        default=False, description="public holidays are no business days (needs optrelay[holidays])"
    )
    four_eyes: bool = Field(
        default=False, description="a held file is approved over HTTP alone, by a key whose name is not its importer's"
    )
    max_attempts: int = Field(8, ge=1, description="answers about a change before it becomes a dead letter")
    backoff_seconds: float = Field(2.0, gt=0, le=86_400, description="the first wait before another try; it doubles")
    backoff_ceiling: float = Field(
        900.0, gt=0, le=86_400, description="the longest wait before another try, in seconds"
    )
    lease_seconds: float = Field(60.0, ge=2, le=3600, description="how long a delivery may hold a target")
    reservation_seconds: float = Field(1.0, gt=0, le=10, description="seconds that a worker reserves calls ahead")
    batch_customers: int = Field(500, ge=1, le=1000, description="customers in one delivery batch, at most")
    sweep_seconds: float = Field(1.0, gt=0, le=3600, description="seconds from one sweep to the next")
    worker_processes: int = Field(
        0, ge=0, description="worker processes over all machines, for the share of a limit when Redis is lost"
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = Field(
        "INFO", description="DEBUG, INFO, WARNING or ERROR"
    )
    source_url: SecretStr = Field(SecretStr(""), description="the source of `optrelay listen`, unless it names another")
    watch: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_addresses)] = Field(
        (), description="the places of `optrelay watch`, unless it names others: several with spaces, or a list"
    )
    keep_rejected_events: Annotated[float, BeforeValidator(_days)] = Field(
        30.0,
        gt=0,
        le=36_500,
        description="days that rejected events are kept, so that they can be fixed and sent again",
    )
    keep_outcomes: Annotated[float, BeforeValidator(_days)] = Field(
        30.0, gt=0, le=36_500, description="days for which outcomes can be read with a cursor (`GET /v1/changes`)"
    )
    keep_notices: Annotated[float, BeforeValidator(_days)] = Field(
        365.0, gt=0, le=36_500, description="days for which notices that are over, and what was sent, are kept"
    )
    sheet_memory_mb: int = Field(512, ge=64, description="megabytes of memory that reading a workbook may take")
    api_keys: SecretStr = Field(SecretStr(""), description="keys for `optrelay serve`: `name=key`, several with commas")
    api_rate: Annotated[Rate, NoDecode, BeforeValidator(read_rate)] = Field(
        Rate(100, 1), description="requests that each key may make at each server process"
    )
    api_body_bytes: int = Field(
        LONGEST_BODY, ge=1024, le=LONGEST_BODY, description="the longest body that `optrelay serve` reads"
    )
    token_secret: SecretStr = Field(
        SecretStr(""), description="secrets of unsubscribe links, several with commas: the first one makes new links"
    )
    ui_users: SecretStr = Field(
        SecretStr(""),
        description="who may use the page of `optrelay serve`: `name[roles]=hash` of `optrelay user`, with commas",
    )
    ui_proxy_header: str = Field("", description="the header in which an authenticating proxy names the page's user")
    ui_proxy_secret: SecretStr = Field(
        SecretStr(""), description="what the proxy adds as `X-Optrelay-Proxy-Secret`; without it the header is ignored"
    )
    ui_listen: Annotated[str, AfterValidator(_listener)] = Field(
        "", description="HOST:PORT where `optrelay serve` has its page and metrics, which are then nowhere else"
    )
    notify: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_addresses)] = Field(
        (), description="where notices go: https:// (signed webhooks) or apprise+ before an address of Apprise"
    )
    notify_secret: SecretStr = Field(
        SecretStr(""), description="the secret that signs webhooks: `whsec_` and 24 to 64 bytes in base64"
    )
    heartbeat_url: SecretStr = Field(
        SecretStr(""), description="asked each minute while something delivers, and with /fail after a run that failed"
    )
    public_url: PublicAddress = Field("", description="where people reach `optrelay serve`, for unsubscribe links")
    public_page: PublicPage = Field(PublicPage(), description="what people see behind an unsubscribe link")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the shape is the library's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let arguments overrule the environment, and the environment overrule the file."""
        toml = TomlConfigSettingsSource(settings_cls, toml_file())
        return init_settings, env_settings, _FormerNames(settings_cls), toml

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, given: dict[str, Any]) -> dict[str, Any]:
        return with_current_names(given, RENAMED, "optrelay_")

    @property
    def reassert_rules(self) -> ReassertRules:
        """Which opt-outs are delivered again, for every connection."""
        differing = {name: one.reassert for name, one in self.connections.items() if one.reassert is not None}
        return ReassertRules(self.reassert, differing)

    @property
    def chosen_deadlines(self) -> DeadlineRules:
        """The rules of deadlines for every connection; raises ConfigurationError if they cannot be used."""
        choices = {name: one.deadlines for name, one in self.connections.items() if one.deadlines}
        return choose_rules(choices, self.deadline_rules, holidays=self.deadline_holidays)

    @property
    def guards_by_connection(self) -> dict[str, GuardRules]:
        """The rules of the guards for each connection that has some of its own."""
        own = {name: one.guards for name, one in self.connections.items() if one.guards is not None}
        return {name: self.guards.overruled_by(rules) for name, rules in own.items()}

    def guards_of(self, connection: str) -> GuardRules:
        """Return the rules of the guards for a connection, which need not be configured any more."""
        return self.guards_by_connection.get(connection, self.guards)

    def connection(self, name: str) -> ConnectionSettings:
        """Return a connection by name; raise ConfigurationError that names the ones there are."""
        try:
            return self.connections[name]
        except KeyError:
            known = ", ".join(sorted(self.connections)) or "none is configured"
            message = f"there is no connection {name!r} (known: {known}); set OPTRELAY_CONNECTIONS__{name.upper()}__…"
            raise ConfigurationError(message) from None


class _FormerNames(PydanticBaseSettingsSource):
    """The environment under former names, which no field has."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Find nothing field by field: the library's shape."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return what is set, by its former name."""
        given = {name.lower().removeprefix("optrelay_"): value for name, value in os.environ.items()}
        return {name: given[name] for name in RENAMED if name in given}


def toml_file() -> Path:
    """Return the file of settings: the one that OPTRELAY_CONFIG names (/dev/null: none), or ./optrelay.toml.

    It decides where changes go and with which credentials. So one that another user may have put there is refused, and
    so is one that is named and is not there: raises ConfigurationError.
    """
    named = os.environ.get(CONFIG_VARIABLE, "")
    path = Path(named or TOML_FILE)
    if named == os.devnull:
        return path  # no file at all
    if path.is_dir():
        raise ConfigurationError(f"{path_text(path)} is a folder: {CONFIG_VARIABLE} names a file of settings")
    if path.exists():
        refuse_planted_at(path, stat.S_IWOTH)
    elif named:
        raise ConfigurationError(f"{CONFIG_VARIABLE} names a file that is not there: {path_text(path)}")
    return path


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; raise ConfigurationError that names each wrong setting, and no value of any."""
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        place = error if isinstance(error, tomllib.TOMLDecodeError) else type(error).__name__
        raise ConfigurationError(f"{path_text(toml_file())} cannot be read: {place}") from None
    except SettingsError:
        raise ConfigurationError(
            f'an OPTRELAY_ variable that holds a table must be JSON, like {{"name": "value"}}: {_tables()}'
        ) from None
    named = {
        name.lower(): connection.model_copy(update={"provider": (connection.provider or name).lower()})
        for name, connection in settings.connections.items()
    }
    loaded = settings.model_copy(update={"connections": named})
    loaded.chosen_deadlines  # noqa: B018 - refuse now what no change could be recorded with
    return loaded


def _explain(error: ValidationError) -> str:
    lines = [f"  OPTRELAY_{'__'.join(str(p).upper() for p in e['loc'])}: {_fault(e)}" for e in error.errors()]
    where = f" (or {path_text(toml_file())})" if toml_file().exists() else ""
    return "\n".join([f"these settings{where} cannot be used:", *lines])


def _fault(error: ErrorDetails) -> str:
    if error["type"] != "extra_forbidden":
        field = field_at(Settings, error["loc"])
        return wrong_value(error, Bounds.of(field)) + _without(field)
    known = Feed.model_json_schema()["properties"] if error["loc"][0] == "feeds" else ConnectionSettings.model_fields
    close = get_close_matches(str(error["loc"][-1]).lower(), known, n=1)
    return f"there is no such setting{f'; did you mean {close[0].upper()}?' if close else ''}"


def _without(field: FieldInfo | None) -> str:
    """Say what holds if a setting is left out, of those that have a number, a word, or true or false."""
    usual = None if field is None or field.is_required() else field.default
    if isinstance(usual, bool) or not isinstance(usual, int | float):
        return " (left out: false)" if usual is False else ""
    return f" (left out: {number_text(usual)})"


def _tables() -> str:
    """Return the names, never the values, of the variables that hold a table and are no JSON."""
    found = []
    for name in environment_names():
        if is_table(field_at(Settings, name.upper().removeprefix("OPTRELAY_").lower().split("__"))):
            try:
                json.loads(os.environ[name])
            except ValueError:
                found.append(name)
    return ", ".join(found) or "see OPTRELAY_CONNECTIONS"


def environment_names() -> list[str]:
    """Return the names, never the values, of the OPTRELAY_ variables that are set."""
    return sorted(name for name in os.environ if name.startswith("OPTRELAY_"))
