"""What a source of events must be able to do, and how its address is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from consent.broker.address import HALF_ENCODED, HOW_TO_ENCODE
from consent.errors import ConfigurationError
from producers.events.event import Event

EXAMPLE = "redis://localhost:6379/0?stream=consent"
MOST_BYTES = 4 * 1024 * 1024
"""Bytes of the events that are read at once, roughly: a batch must fit into memory however large its events are."""


class Source(Protocol):
    """Where events come from; what was read and not acknowledged comes again, here or at another listener.

    A source may count how often it has delivered an event, and drop one that comes back too often: so nothing is read
    that cannot be recorded.

    `kind` and `name` say what it is, without any credential. Every method raises SourceUnavailable, after which the
    source is closed and may be used anew, and ConfigurationError for what waiting does not fix.
    """

    @property
    def kind(self) -> str:
        """What kind of source it is."""
        ...

    @property
    def name(self) -> str:
        """Which one it is."""
        ...

    def read(self, most: int, wait_seconds: float, most_bytes: int = MOST_BYTES) -> Sequence[Event]:
        """Return up to `most` events of about `most_bytes` as soon as there is one, or none after a while."""
        ...

    def recording(self) -> AbstractContextManager[None]:
        """Keep the connection while its user is busy with what was read; nothing else may be called meanwhile."""
        ...

    def keep_alive(self) -> None:
        """Keep the connection; to be called several times a second while what was read cannot be recorded."""
        ...

    def acknowledge(self, events: Sequence[Event]) -> None:
        """Let the source forget events that were read last: they are recorded."""
        ...

    def close(self) -> None:
        """Let go of the connection; what was not acknowledged stays in the source."""
        ...


@dataclass(slots=True)
class Sizes:
    """How large a source's events are, so that it is asked for no more than fits into memory.

    A larger one counts at once, smaller ones little by little; the first ones are taken for large.
    """

    bytes_each: int = 256 * 1024

    def saw(self, events: Sequence[Event]) -> int:
        """Take note of some events; return how many bytes they are together."""
        sizes = [event.size for event in events]
        if sizes:
            self.bytes_each = max(*sizes, self.bytes_each // 4, 1)
        return sum(sizes)

    def fitting(self, most_bytes: int, most: int) -> int:
        """Return how many events of this size fit, at least one and at most `most`."""
        return max(1, min(most, most_bytes // self.bytes_each))


class Address(NamedTuple):
    """An event source's URL, taken apart: options of ours from the query, and the server's own URL without them."""

    scheme: str
    server: str
    options: Mapping[str, str]
    shown: str

    def number(self, name: str, default: float) -> float:
        """Return an option that is a positive number; raise ConfigurationError for any other."""
        try:
            value = float(self.options.get(name) or default)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise ConfigurationError(f"the source's address: {name} is a number of seconds, like {name}={default:g}")
        return value


def read_address(url: str, ours: Sequence[str]) -> Address:
    """Take a source's URL apart; `ours` are the options that are not the server's. Raises ConfigurationError."""
    try:
        parts = urlsplit(url.strip())
        shown = f"{parts.scheme}://{_place(parts)}"
    except ValueError:
        wrong = "the source's address cannot be read: look at its port and brackets"
        raise ConfigurationError(f"{wrong}; {HOW_TO_ENCODE}") from None
    if "@" in parts.path + parts.query or parts.fragment or ";" in url or HALF_ENCODED.search(url):
        raise ConfigurationError(f"the source's address (like {EXAMPLE}) cannot be read: {HOW_TO_ENCODE}")
    options = parse_qsl(parts.query, keep_blank_values=True)
    theirs = urlencode([(name, value) for name, value in options if name not in ours])
    server = url.strip().partition("?")[0] + (f"?{theirs}" if theirs else "")
    return Address(parts.scheme.lower(), server, {k: v for k, v in options if k in ours}, shown)


def _place(parts: SplitResult) -> str:
    """Return host, port and path of an address: what may be shown."""
    if parts.hostname is None:
        return unquote(parts.path)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}{f':{parts.port}' if parts.port else ''}{parts.path.rstrip('/')}"
