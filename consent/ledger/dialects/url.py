"""The address of the ledger's database: read once, refused in words, and shown without any secret.

A message never repeats a part of an address: where a password was written wrongly, any part may be the password.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from consent.errors import ConfigurationError

SETTING = "OPTRELAY_LEDGER_URL"
_ENCODE = "write @ in a password as %40, / as %2F, : as %3A, # as %23, ? as %3F, % as %25 (percent-encoding)"
_POSTGRESQL = {"postgresql", "postgres", "postgresql+psycopg"}
_SQLITE = {"sqlite", "sqlite+pysqlite"}
_SQLITE_OPTIONS = {"uri", "mode", "cache", "immutable", "nolock", "vfs", "timeout", "cached_statements"}
_NEVER = "none"
_THRESHOLD = "prepare_threshold"


def read_address(text: str) -> URL:
    """Read an address like sqlite:///x.db or postgresql+psycopg://user:password@host/name.

    `postgresql://` and `postgres://` mean the same driver. A password may also stand behind `?password=`; it is moved
    to its place. Raises ConfigurationError, with the remedy, for everything that no database can be reached by.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        example = "sqlite:///x.db or postgresql+psycopg://user:password@host:5432/name"
        raise ConfigurationError(f"{SETTING} is not a database address like {example}; {_ENCODE}") from None
    if url.drivername in _SQLITE:
        _refuse_options(name for name in url.query if name not in _SQLITE_OPTIONS)
        return url
    if url.drivername not in _POSTGRESQL:
        raise ConfigurationError(f"{SETTING}: the ledger lives in sqlite:/// or postgresql+psycopg://")
    return _postgresql(url.set(drivername="postgresql+psycopg"), text)


def connect_options(url: URL) -> tuple[URL, dict[str, Any]]:
    """Split what psycopg takes as an argument of its own from the rest of an address, with our defaults put in.

    A server that vanishes without a word is given up after half a minute. Where several hosts are named, the one that
    takes writes is chosen. Source: libpq, "Parameter Key Words".
    """
    options: dict[str, Any] = {
        "connect_timeout": 10,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }
    if len(_hosts(url)) > 1:
        options["target_session_attrs"] = "read-write"
    threshold = url.query.get(_THRESHOLD)
    if threshold is not None:
        options[_THRESHOLD] = None if threshold == _NEVER else int(str(threshold))
    given = {name for name in options if name in url.query and name != _THRESHOLD}
    return url.difference_update_query([_THRESHOLD]), {k: v for k, v in options.items() if k not in given}


def _postgresql(url: URL, text: str) -> URL:
    if "@" in (url.database or "") or (text.count("@") > 1 and not url.query):
        raise ConfigurationError(f"{SETTING}: an @ separates password and host, and there is another one: {_ENCODE}")
    named = url.query.get("password")
    if isinstance(named, str):
        url = url.set(password=named).difference_update_query(["password"])
    for host in _hosts(url):
        if any(mark in host for mark in "@ \t"):
            raise ConfigurationError(
                f"{SETTING}: the name of its host has an @, so its password has one, too: {_ENCODE}"
            )
    if url.port is not None and not 0 < url.port < 65536:  # noqa: PLR2004 - TCP's ports
        raise ConfigurationError(f"{SETTING}: there is no such port; {_ENCODE}")
    if not str(url.query.get(_THRESHOLD, _NEVER)).isdecimal() and url.query.get(_THRESHOLD, _NEVER) != _NEVER:
        raise ConfigurationError(f"{SETTING}: prepare_threshold is a number, or {_NEVER} for no prepared statements")
    _refuse_options(name for name in url.query if name != _THRESHOLD and not _is_known(name))
    return url


def _hosts(url: URL) -> list[str]:
    """Return every host that an address names; `?host=` may stand several times, or hold several with commas."""
    asked = url.query.get("host", ())
    named = [asked] if isinstance(asked, str) else list(asked)
    return [host for one in [url.host or "", *named] for host in one.split(",") if host]


def _is_known(option: str) -> bool:
    import psycopg  # noqa: PLC0415 - a ledger on SQLite does without it
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415

    try:
        make_conninfo("", **{option: "1"})
    except psycopg.ProgrammingError:
        return False
    return True


def _refuse_options(unknown: Any) -> None:
    if any(True for _ in unknown):
        raise ConfigurationError(
            f"{SETTING}: behind its ? stands an option that the database's driver does not know; if the ? is part of a "
            f"password, {_ENCODE}"
        )
