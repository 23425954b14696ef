"""The blocklist: its calls, what was accepted, and what of it can be seen already."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from sandbox.answers import Reply, json_reply
from sandbox.calls import Call, Pending, Refused, Target, read_body
from sandbox.infobip.requests import Checker, Query, first, json_object, paged
from sandbox.provider import Provider
from sandbox.rate import now

MOST_DESTINATIONS = 50_000
CREATABLE = frozenset({"SMS", "EMAIL", "VIBER", "RCS", "MMS", "WHATSAPP"})
REMOVABLE = CREATABLE | {"APPLE_MB"}
VIEWABLE = REMOVABLE | {"VOICE_OUTBOUND_TTS", "NEW_PUSH_NOTIF"}
SOURCES = frozenset({"CUSTOM", "MO", "URL_OPT_OUT", "CAMPAIGN"})


class Entry(NamedTuple):
    """Which address is blocked, for which sender and where; two entries that differ in any field are two."""

    destination: str
    sender: str | None
    channel: str | None
    account_key: str | None

    @property
    def key(self) -> str:
        """The entry as one text, for counting calls that overlap."""
        return "|".join(part or "" for part in self)


class Wanted(NamedTuple):
    """An entry a call names, and the source type if it names one."""

    entry: Entry
    source: str | None


def read_blocking(body: bytes, *, removing: bool) -> list[Wanted]:
    """Read a call; Refused with 400 and every bad item when there is one, so that nothing of it is done."""
    channels = REMOVABLE if removing else CREATABLE
    return read_groups(json_object(body).get("blocklist"), channels, sourced=removing)


def read_groups(given: Any, channels: frozenset[str], *, sourced: bool) -> list[Wanted]:
    """Read the groups of destinations; a source type counts only where `sourced`."""
    checker = Checker()
    if not isinstance(given, list) or not given:
        raise Refused(400, violations={"blocklist": ["must not be empty"]})
    wanted = [one for at, group in enumerate(given) for one in _group(group, f"blocklist[{at}]", channels, checker)]
    if len(wanted) > MOST_DESTINATIONS:
        # INVENTED: that the limit is for the whole call, and path and sentence of the refusal.
        checker.note("blocklist", f"Number of destinations cannot exceed {MOST_DESTINATIONS}")
    checker.conclude()
    return wanted if sourced else [one._replace(source=None) for one in wanted]


def _group(group: Any, path: str, channels: frozenset[str], checker: Checker) -> Iterator[Wanted]:
    fields = checker.fields(group, path)
    sender = checker.optional_text(fields.get("sender"), f"{path}.sender")
    channel = _word(fields.get("channel"), f"{path}.channel", channels, checker)
    source = _word(fields.get("sourceType"), f"{path}.sourceType", SOURCES, checker)
    account = checker.optional_text(fields.get("accountKey"), f"{path}.accountKey")
    destinations = fields.get("destinations")
    if not isinstance(destinations, list) or not destinations:
        checker.note(f"{path}.destinations", "must not be empty")
        return
    for at, destination in enumerate(destinations):
        to = checker.fields(destination, f"{path}.destinations[{at}]").get("to")
        named = checker.text(to, f"{path}.destinations[{at}].to")
        yield Wanted(Entry(named, sender, channel, account), source)


def _word(given: Any, path: str, allowed: frozenset[str], checker: Checker) -> str | None:
    if given is None or given in allowed:
        return given if given is None else str(given)
    # Documented: "unsupported channel". INVENTED: the same for a source type.
    checker.note(path, f"unsupported {'channel' if path.endswith('channel') else 'source type'}")
    return None


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


_SIZES = (100, 1000)
Called = Call[Target]


class BlocklistCalls:
    """What is done with each call: everything it names, or nothing when one item of it is bad."""

    def __init__(self, infobip: Provider[Target], blocklist: Blocklist) -> None:
        self._infobip = infobip
        self._blocklist = blocklist
        self._pending = Pending(infobip.call_log)

    async def block(self, call: Called) -> Reply:
        """Accept destinations to block."""
        return await self._change(call, removing=False)

    async def unblock(self, call: Called) -> Reply:
        """Accept destinations to take off the list; those that are not on it make no difference."""
        return await self._change(call, removing=True)

    async def show(self, call: Called) -> Reply:
        """Read the list back, as far as it can be seen."""
        query = parse_qs(call.scope["query_string"].decode("latin-1"))
        channel = first(query, "channel")
        if channel is not None and channel not in VIEWABLE:
            raise Refused(HTTPStatus.BAD_REQUEST, violations={"channel": ["unsupported channel"]})
        async with self._infobip.slowly(call):
            found = self._blocklist.found(query, now())
            return json_reply(HTTPStatus.OK, paged(found, query, _SIZES, Blocked.shown))

    async def _change(self, call: Called, *, removing: bool) -> Reply:
        wanted = read_blocking(await read_body(call.receive), removing=removing)
        call.rows = len(wanted)
        with self._pending.write({one.entry.key for one in wanted}):
            async with self._infobip.slowly(call):
                kept = [one for one in wanted if not self._dropped(call, one)]
                act = self._blocklist.remove if removing else self._blocklist.add
                act(kept, now())
        return Reply(HTTPStatus.ACCEPTED)

    def _dropped(self, call: Called, wanted: Wanted) -> bool:
        entry = wanted.entry
        victim = replace(call.victim(entry.channel or ""), names=(entry.destination,))
        fault = self._infobip.faults.bite("row", victim)
        call.fault = call.fault or fault
        return fault is not None
