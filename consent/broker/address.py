"""Where a Redis or Valkey is: its address, read in one place for every library that speaks to it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import redis
from redis.connection import AbstractConnection

from consent.errors import ConfigurationError

EXAMPLE = "redis://localhost:6379/0"
_TLS = "rediss"
_SOCKETS = ("unix", "redis+socket")
_ADDRESS = re.compile(r"(?P<scheme>[a-z+]+)://(?P<place>[^/?#]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?")
_PLACE = re.compile(
    r"(?:(?P<user>[^:@\[\]]*)(?P<colon>:(?P<password>[^@\[\]]*))?@)?"
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]*))(?::(?P<port>[0-9]{1,5}))?"
)
HALF_ENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})")
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_LAST_PORT = 65_535
_STRICT = {"ssl_cert_reqs": ("required", "cert_required"), "ssl_check_hostname": ("true", "yes", "1")}
_NUMBERS = ("db", "virtual_host")  # redis-py's name for the database, and kombu's
_KNOWN = (*_NUMBERS, "username", "password", *_FILES, *_STRICT)
HOW_TO_ENCODE = (
    "each of @ / ? # [ ] : ; % and space in a user name, password or path is written percent-encoded, like %40 for @, "
    "%2F for /, %23 for # and %25 for %"
)


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """One server: a socket's `path`, or `host` and `port`; with `tls`, its certificate and name are always verified."""

    host: str = "localhost"
    port: int = 6379
    path: str = ""
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def connection_class(self) -> type[AbstractConnection]:
        """The library's class of connection for this address."""
        if self.path:
            return redis.UnixDomainSocketConnection
        return redis.SSLConnection if self.tls else redis.Connection

    @property
    def options(self) -> dict[str, Any]:
        """The arguments for a connection of that class: every option by name, so that no library's default decides."""
        known: dict[str, Any] = {"db": self.database, "username": self.username, "password": self.password}
        known["driver_info"] = None  # the library would look its version up for each connection, and tell it the server
        if self.path:
            return known | {"path": self.path}
        known |= {"host": self.host, "port": self.port}
        if self.tls:
            known |= {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, **self.files}
        return known

    @property
    def url(self) -> str:
        """The address in its one canonical form, which `read_broker_address` takes; it holds the password."""
        user = quote(self.username or "", safe="")
        secret = f":{quote(self.password, safe='')}" if self.password is not None else ""
        who = f"{user}{secret}@" if user or secret else ""
        if self.path:
            return f"unix://{who}{quote(self.path)}?db={self.database}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = "&".join(f"{name}={quote(value, safe='/')}" for name, value in self.files.items())
        scheme = _TLS if self.tls else "redis"
        return f"{scheme}://{who}{host}:{self.port}/{self.database}{'?' if query else ''}{query}"

    def client(self, **options: Any) -> redis.Redis:
        """Return a client, which connects at first use; `options` are further ones of `redis.Redis`."""
        pool = redis.ConnectionPool(connection_class=self.connection_class, **self.options, **options)
        return redis.Redis.from_pool(pool)


def read_broker_address(url: str, name: str = "OPTRELAY_BROKER_URL", example: str = EXAMPLE) -> BrokerAddress:
    """Read an address as it is meant, or raise ConfigurationError with the remedy; no part of it is ever shown.

    Taken are redis://, rediss:// and, for a socket, unix:// or redis+socket://, with the options that are in `_KNOWN`:
    none may make the server's certificate count for less. `name` says whose address it is.
    """
    wrong = f"{name} is an address like {example}"
    whole = _ADDRESS.fullmatch(url.strip())
    if whole is None or whole["scheme"] not in {"redis", _TLS, *_SOCKETS}:
        raise ConfigurationError(f"{wrong} (or rediss://, unix:///folder/socket); {HOW_TO_ENCODE}")
    place = _PLACE.fullmatch(whole["place"])
    rest = (whole["path"] or "") + (whole["query"] or "")
    if place is None or "@" in rest or HALF_ENCODED.search(url) or int(place["port"] or 0) > _LAST_PORT:
        raise ConfigurationError(f"{wrong}; this one cannot be read: {HOW_TO_ENCODE}")
    options = _options(whole["query"] or "", wrong, tls=whole["scheme"] == _TLS)
    found = BrokerAddress(
        username=unquote(place["user"]) if place["user"] else options.get("username"),
        password=unquote(place["password"]) if place["password"] else options.get("password"),
        tls=whole["scheme"] == _TLS,
        files={key: options[key] for key in _FILES if key in options},
    )
    if whole["scheme"] in _SOCKETS:
        if place["host"] or place["six"] or place["port"] or not (whole["path"] or "").strip("/"):
            raise ConfigurationError(
                f"{wrong}; that of a socket has three slashes, unix:///folder/socket: {HOW_TO_ENCODE}"
            )
        return replace(found, path=unquote(whole["path"]), database=_database(options, "", wrong))
    return replace(
        found,
        host=place["six"] or place["host"] or found.host,
        port=int(place["port"] or found.port),
        database=_database(options, (whole["path"] or "").strip("/"), wrong),
    )


def _database(options: Mapping[str, str], path: str, wrong: str) -> int:
    numbers = [options[name] for name in _NUMBERS if name in options] + ([path] if path else [])
    if any(not one.isascii() or not one.isdigit() or len(one) > 9 for one in numbers) or len(set(numbers)) > 1:  # noqa: PLR2004
        raise ConfigurationError(f"{wrong}; behind the slash stands the number of a database: {HOW_TO_ENCODE}")
    return int(numbers[0]) if numbers else 0


def _options(query: str, wrong: str, *, tls: bool) -> dict[str, str]:
    """Return the options; raise ConfigurationError for unknown ones and for those that would verify less."""
    given = parse_qsl(query, keep_blank_values=True)
    options = dict(given)
    if len(options) < len(given) or any(name not in _KNOWN for name in options):
        ours = ", ".join(name for name in _KNOWN if name != "virtual_host")
        raise ConfigurationError(
            f"{wrong}; the options that concern the server are, each once, {ours}: {HOW_TO_ENCODE}"
        )
    if not tls and any(name.startswith("ssl_") for name in options):
        raise ConfigurationError(f"{wrong}; options that begin with ssl_ belong to an address that begins rediss://")
    for name, strict in _STRICT.items():
        if options.get(name, strict[0]).lower() not in strict:
            raise ConfigurationError(
                f"{wrong}; {name} must be {strict[0]}: the server's certificate and name are always verified, "
                "and ssl_ca_certs names the file of an authority of your own"
            )
    for name in _FILES:
        if name in options and not Path(options[name]).is_file():
            raise ConfigurationError(f"{wrong}; its option {name} names no file that is there")
    return options


def why_unreachable(error: Exception) -> str:
    """Return why a server cannot be used, in a few words that hold nothing of its address."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {seen.verify_message}"
        if isinstance(seen, ssl.SSLError):
            return f"TLS fails: {(seen.reason or 'no reason is given').replace('_', ' ').lower()}"
        seen = seen.__cause__ or seen.__context__
    if (found := re.search(r"CERTIFICATE_VERIFY_FAILED\] certificate verify failed: ([^(]+)", str(error))) is not None:
        return f"its certificate is not trusted: {found[1].strip()}"
    return type(error).__name__
