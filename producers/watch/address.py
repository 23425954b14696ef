"""The address of a watched place: where it is, which of its files are meant, when each is ready, and what follows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta, tzinfo
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, cast, get_args
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit
from zoneinfo import ZoneInfo

from consent.errors import ConfigurationError
from consent.times import read_zone
from producers.files.rejects import REJECTS_ENDING
from producers.files.sources import MANIFEST_ENDING
from producers.watch.finished import REASON_ENDING

EXAMPLE = "drop?pattern=*.csv&poll=10"
MARKER_ENDING = ".done"
REMOTE_SCHEMES = ("sftp", "s3", "gs", "az")
_UNFINISHED = (".part", ".tmp", ".filepart", ".crdownload", ".partial", ".swp")
_OWN = (REJECTS_ENDING, REASON_ENDING, MARKER_ENDING, MANIFEST_ENDING)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}

Ready = Literal["stable", "marker", "manifest"]
After = Literal["move", "leave", "delete"]


@dataclass(frozen=True, slots=True)
class Expectation:
    """At what time of each day a file is to have come, so many seconds of grace after it at the latest."""

    at: time
    grace: float
    zone: tzinfo

    def deadline(self, now: datetime) -> datetime:
        """Return the last deadline that has passed."""
        day = now.astimezone(self.zone).date()
        while (found := self._of(day)) > now:
            day -= timedelta(days=1)
        return found

    def is_overdue(self, latest: datetime | None, now: datetime) -> bool:
        """Whether no file came in the day up to the last deadline; `latest` is when the newest one came."""
        found = self.deadline(now)
        return latest is None or latest <= self._of(found.astimezone(self.zone).date() - timedelta(days=1))

    def _of(self, day: object) -> datetime:
        return datetime.combine(day, self.at, self.zone) + timedelta(seconds=self.grace)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class WatchAddress:
    """A place to watch, from its address; numbers are seconds.

    `scheme` is "file" or one of REMOTE_SCHEMES; `url` may hold a password, `shown` never does. `feed` says how files
    are to be understood, `connection` is for rows that name none, `timezone` for times that name no zone. `age` is how
    long a file must have been as it is.
    """

    scheme: str
    url: str = field(repr=False)
    path: str
    shown: str
    pattern: str = "*"
    poll: float = 60.0
    ready: Ready = "stable"
    age: float = 60.0
    after: After = "move"
    feed: str = ""
    connection: str | None = None
    timezone: ZoneInfo | None = None
    expect: Expectation | None = None
    put_rejects: bool = False
    known_hosts: str | None = None
    key: str | None = None

    def means(self, name: str) -> bool:
        """Whether a file of this name is to be read: hidden, unfinished, and our own files never are."""
        return self._is_of_others(name) and not _is_odd(name)

    def misses(self, name: str) -> bool:
        """Whether a file would be read if it only had another name: no database and no terminal takes this one."""
        return self._is_of_others(name) and _is_odd(name)

    def _is_of_others(self, name: str) -> bool:
        own = name.startswith(".") or name.lower().endswith((*_UNFINISHED, *_OWN))
        return not own and fnmatchcase(name, self.pattern)


def _is_odd(name: str) -> bool:
    return "/" in name or "\\" in name or not name.isprintable()


_OPTIONS = (
    *("pattern", "poll", "ready", "age", "after", "feed", "connection", "timezone"),
    *("expect", "grace", "tz", "put_rejects", "known_hosts", "key"),
)


def read_watch_address(url: str) -> WatchAddress:
    """Read an address: a folder, or a URL, with options behind `?`; raise ConfigurationError with the remedy."""
    parts = _split(url.strip())
    try:
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise _wrong(f"its options are NAME=VALUE with & between them, like {EXAMPLE}") from None
    if strange := [name for name in options if name not in _OPTIONS]:
        raise _wrong(f"{strange[0]!r} is no option; there are {', '.join(_OPTIONS)}")
    place = _place(parts)
    own = {name: options[name] for name in ("connection", "known_hosts", "key") if options.get(name)}
    return WatchAddress(
        **place,
        pattern=options.get("pattern") or "*",
        poll=_seconds(options, "poll", 5.0 if place["scheme"] == "file" else 60.0),
        ready=cast("Ready", _one_of(options, "ready", get_args(Ready))),
        age=_seconds(options, "age", 60.0, least=0.0),
        after=cast("After", _one_of(options, "after", get_args(After))),
        feed=options.get("feed") or "",
        timezone=_zone(options, "timezone") if options.get("timezone") else None,
        expect=_expectation(options),
        put_rejects=_one_of(options, "put_rejects", ("false", "true")) == "true",
        **own,
    )


def _split(url: str) -> SplitResult:
    try:
        if "://" not in url:
            path, _, query = url.partition("?")
            return SplitResult("file", "", path, query, "")
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _wrong("it cannot be read: look at its port and brackets") from None
    if parts.fragment:
        raise _wrong("write # as %23")
    return parts


def _place(parts: SplitResult) -> dict[str, str]:
    scheme, host = parts.scheme.lower(), parts.hostname or ""
    path = unquote(parts.path) if parts.netloc or "%" in parts.path else parts.path
    if scheme == "file":
        if not path or host:
            raise _wrong(f"it names no folder of this machine: write {EXAMPLE}, or file:///srv/drop")
        whole = str(Path(path).expanduser().absolute())
        return {"scheme": scheme, "url": whole, "path": whole, "shown": whole}
    if scheme not in REMOTE_SCHEMES:
        raise _wrong(
            f"{scheme}:// cannot be watched: write a folder, or {', '.join(f'{o}://…' for o in REMOTE_SCHEMES)}"
        )
    if not host or ".." in path.split("/"):
        raise _wrong(f"write {scheme}://HOST-OR-BUCKET/FOLDER, without ..")
    netloc = f"{host}{f':{parts.port}' if parts.port else ''}"
    user = f"{parts.username}@" if parts.username else ""
    url = urlunsplit((scheme, parts.netloc, parts.path, "", ""))
    return {
        "scheme": scheme,
        "url": url,
        "path": path.rstrip("/"),
        "shown": f"{scheme}://{user}{netloc}{path}".rstrip("/"),
    }


def _expectation(options: dict[str, str]) -> Expectation | None:
    if not options.get("expect"):
        if options.get("grace") or options.get("tz"):
            raise _wrong("grace and tz belong to expect, like expect=02:30&grace=90m&tz=Europe/Berlin")
        return None
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", options["expect"].strip())
    if found is None:
        raise _wrong(f"expect is a time of the day like 02:30, not {options['expect']!r}")
    return Expectation(
        time(int(found[1]), int(found[2])), _seconds(options, "grace", 0.0, least=0.0), _zone(options, "tz")
    )


def _seconds(options: dict[str, str], name: str, default: float, least: float = 0.01) -> float:
    text = options.get(name, "").strip().lower()
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if text and (found is None or float(found[1]) * _UNITS[found[2]] < least):
        raise _wrong(f"{name} is a time like 90s, 15m or 2h, not {text!r}")
    return float(found[1]) * _UNITS[found[2]] if found else default


def _one_of(options: dict[str, str], name: str, ways: Sequence[str]) -> str:
    text = (options.get(name) or ways[0]).strip().lower()
    if text not in ways:
        raise _wrong(f"{name} is {', '.join(ways[:-1])} or {ways[-1]}, not {text!r}")
    return text


def _zone(options: dict[str, str], name: str) -> ZoneInfo:
    text = options.get(name) or "UTC"
    try:
        return read_zone(text)
    except ValueError as error:
        raise _wrong(f"{name}={error}") from None


def _wrong(message: str) -> ConfigurationError:
    return ConfigurationError(f"the address of the place to watch: {message}")
