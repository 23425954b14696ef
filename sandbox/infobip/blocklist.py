"""The blocklist: what was accepted, and what of it can be seen already."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sandbox.infobip.blocking import SOURCES, Entry, Wanted
from sandbox.infobip.paging import Query, first


@dataclass(frozen=True, slots=True)
class Blocked:
    """An entry with its source type, its place among all that was accepted, and when that was."""

    entry: Entry
    source: str
    seq: int
    at: float

    def shown(self) -> dict[str, Any]:
        """Return the entry as it is read back; what it does not have is left out (INVENTED)."""
        fields = {
            "sender": self.entry.sender,
            "destination": self.entry.destination,
            "sourceType": self.source,
            "channel": self.entry.channel,
            "accountKey": self.entry.account_key,
            "createdDate": _iso(self.at),
        }
        return {name: value for name, value in fields.items() if value is not None}


Key = tuple[Entry, str]


class Blocklist:
    """Every accepted call is done at once in `_accepted`, and seen `lag` seconds later."""

    def __init__(self, lag: float) -> None:
        self._lag = lag
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._accepted: dict[Key, Blocked] = {}
        self._by_destination: dict[str, dict[Key, Blocked]] = {}
        self._seen: dict[Key, Blocked] = {}
        self._coming: deque[tuple[float, Key, Blocked | None]] = deque()
        self._seq = 0

    def add(self, wanted: Iterable[Wanted], at: float, lag: float | None = None) -> None:
        """Block these; one that is blocked already is left out, as documented. What the API adds is CUSTOM."""
        for one in wanted:
            key = one.entry, one.source or "CUSTOM"
            if key not in self._accepted:
                self._seq += 1
                blocked = Blocked(*key, self._seq, at)
                self._put(key, blocked, at + (self._lag if lag is None else lag))

    def remove(self, wanted: Iterable[Wanted], at: float) -> None:
        """Remove those that fit in every property; a source type that is not named fits any, as documented."""
        for one in wanted:
            for source in (one.source,) if one.source else SOURCES:
                if (one.entry, source) in self._accepted:
                    self._seq += 1
                    self._put((one.entry, source), None, at + self._lag)

    def found(self, query: Query, at: float) -> list[Blocked]:
        """Return what can be seen and fits every filter, oldest first (INVENTED order)."""
        self._show(at)
        wanted = {name: value for name in _FILTERS if (value := first(query, name)) is not None}
        since, until = (_moment(first(query, name)) for name in ("createdDateFrom", "createdDateTo"))
        return [
            one
            for one in self._seen.values()
            if wanted.items() <= one.shown().items() and (since or 0.0) <= one.at <= (until or one.at)
        ]

    def keys(self) -> list[str]:
        """Return every destination that is blocked, seen or not, as `blocklist/<destination>`."""
        return [f"blocklist/{destination}" for destination, held in self._by_destination.items() if held]

    def rows(self, key: str, at: float) -> list[dict[str, Any]]:
        """Return the entries of one destination for inspection."""
        self._show(at)
        held = self._by_destination.get(key.removeprefix("blocklist/"), {})
        return [
            one.shown() | {"visible": self._seen.get(name) is one, "seq": one.seq, "at": one.at}
            for name, one in held.items()
        ]

    def counts(self) -> dict[str, int]:
        """Return how many entries there are, and how many were ever added or removed."""
        return {"blocked": len(self._accepted), "blocklist_changes": self._seq}

    def _put(self, key: Key, blocked: Blocked | None, seen_at: float) -> None:
        of_one = self._by_destination.setdefault(key[0].destination, {})
        for held in (self._accepted, of_one):
            _set(held, key, blocked)
        self._coming.append((seen_at, key, blocked))

    def _show(self, at: float) -> None:
        while self._coming and self._coming[0][0] <= at:
            _, key, blocked = self._coming.popleft()
            _set(self._seen, key, blocked)


_FILTERS = ("sender", "destination", "channel", "sourceType", "accountKey")


def _set(held: dict[Key, Blocked], key: Key, blocked: Blocked | None) -> None:
    if blocked is None:
        held.pop(key, None)
    else:
        held[key] = blocked


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(given: str | None) -> float | None:
    # INVENTED: a moment that cannot be read is as if it were not there, and one without a zone is in UTC.
    try:
        moment = datetime.fromisoformat(given or "")
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
