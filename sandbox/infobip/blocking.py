"""The body of a blocklist call: read, every bad item named by its path, and turned into entries."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from sandbox.infobip.checking import Checking, json_object
from sandbox.refused import Refused

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
    checking = Checking()
    if not isinstance(given, list) or not given:
        raise Refused(400, violations={"blocklist": ["must not be empty"]})
    wanted = [one for at, group in enumerate(given) for one in _group(group, f"blocklist[{at}]", channels, checking)]
    if len(wanted) > MOST_DESTINATIONS:
        # INVENTED: that the limit is for the whole call, and path and sentence of the refusal.
        checking.note("blocklist", f"Number of destinations cannot exceed {MOST_DESTINATIONS}")
    checking.conclude()
    return wanted if sourced else [one._replace(source=None) for one in wanted]


def _group(group: Any, path: str, channels: frozenset[str], checking: Checking) -> Iterator[Wanted]:
    fields = checking.fields(group, path)
    sender = checking.optional_text(fields.get("sender"), f"{path}.sender")
    channel = _word(fields.get("channel"), f"{path}.channel", channels, checking)
    source = _word(fields.get("sourceType"), f"{path}.sourceType", SOURCES, checking)
    account = checking.optional_text(fields.get("accountKey"), f"{path}.accountKey")
    destinations = fields.get("destinations")
    if not isinstance(destinations, list) or not destinations:
        checking.note(f"{path}.destinations", "must not be empty")
        return
    for at, destination in enumerate(destinations):
        to = checking.fields(destination, f"{path}.destinations[{at}]").get("to")
        named = checking.text(to, f"{path}.destinations[{at}].to")
        yield Wanted(Entry(named, sender, channel, account), source)


def _word(given: Any, path: str, words: frozenset[str], checking: Checking) -> str | None:
    if given is None or given in words:
        return given if given is None else str(given)
    # Documented: "unsupported channel". INVENTED: the same for a source type.
    checking.note(path, f"unsupported {'channel' if path.endswith('channel') else 'source type'}")
    return None
