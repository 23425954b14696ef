"""The names of columns: which ones we know, how they may be spelled, and what an unknown one may have meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from consent.errors import ConfigurationError
from consent.row import ConsentRow

KNOWN = (
    *("connection", "action", "effective_at", "change_id", "reason"),
    *("user_id", "identifier_name", "identifier_value", "source", "source_account_id", "channel", "priority"),
    *("account_id", "org_unit_id", "source_name", "campaign_id", "communication_id", "scope", "sub_scope"),
    *("subscription_id", "name", "profile_id", "events", "application_id", "entity_id", "calls_configuration_id"),
    *("resources", "users", "destination", "sender"),
    *("app_id", "modes", "tag", "url", "version", "do_check"),
)
FALLBACK_TIME = "_effective_at"
"""Since when a record holds that names no time itself; the moment is not its sender's."""

OWN_TIME = "_said_at"
"""The time in the envelope of an event, since when its change holds; no column can have this name."""

MAPPING = "_mapping"
"""How the rows of a rejects file are to be understood: the mapping itself stands in the column's name, as JSON."""

REJECT_COLUMNS = ("_line", "_column", "_code", "_message", FALLBACK_TIME)
OWN = (*REJECT_COLUMNS, MAPPING)
"""The columns that a rejects file has beside its original ones; the last one only if its rows need a mapping."""

RECORDED_AS = "_recorded_as"
"""The id of the change that an exported row was; the row is the same change as long as it is not altered."""

FREE_TEXT = frozenset({"reason", "name"})
"""Columns in which a line break can be meant; anywhere else it is a quote that is never closed."""

_JOINERS = re.compile(r"[\s_\-\ufeff]+")
_LIKENESS = 0.75


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The columns that are known, by their plain spelling, and the header names that were mapped to them.

    `only_maps` says that no other column of a header means anything: what it is called says nothing about what it is.
    """

    plain: Mapping[str, str]
    maps: Mapping[str, str]
    only_maps: bool = False

    def find(self, name: str) -> str | None:
        """Return our name for a header's name, or None if it is not known; case, spaces, _ and - do not matter."""
        spelled = name.strip().lower()
        if spelled in OWN or spelled == RECORDED_AS:
            return spelled
        if spelled.startswith(f"{MAPPING} "):
            return MAPPING
        return self.maps.get(plain(name)) or (None if self.only_maps else self.plain.get(plain(name)))

    def find_ours(self, name: str) -> str | None:
        """Return our column of this name, whatever a file calls so."""
        return self.plain.get(plain(name))

    def suggest(self, name: str) -> str | None:
        """Return the known column whose name is much like this one."""
        wanted = plain(name)
        near = [one for one in self.plain if _may_be_like(one, wanted)]  # a damaged file has names of megabytes
        close = get_close_matches(wanted, near, n=1, cutoff=_LIKENESS) if near else []
        return self.plain[close[0]] if close else None


def _may_be_like(one: str, other: str) -> bool:
    """Whether two names of these lengths can be as like as that."""
    return 2 * min(len(one), len(other)) >= _LIKENESS * (len(one) + len(other))


def plain(name: str) -> str:
    """Return a name without case, spaces, underscores and hyphens: `userId`, `User ID` and `user_id` are one."""
    return _JOINERS.sub("", name).lower()


def vocabulary(
    rows: Iterable[type[ConsentRow]], maps: Mapping[str, str] | None = None, *, only_maps: bool = False
) -> Vocabulary:
    """Return the columns of the design and of every row model; `maps` leads header names to ours (`only_maps`: alone).

    Raises ConfigurationError, with a suggestion, if a map leads to a column that is not known.
    """
    names = [*KNOWN, *(field for row in rows for field in row.model_fields)]
    bare = Vocabulary({plain(name): name for name in names}, {})
    ours = {plain(their): _ours(bare, ours) for their, ours in (maps or {}).items()}
    return Vocabulary(bare.plain, ours, only_maps)


def parse_maps(arguments: Iterable[str]) -> dict[str, str]:
    """Read `their=ours` arguments; raise ConfigurationError for one of another form."""
    pairs = {argument: argument.rpartition("=") for argument in arguments}
    for argument, (their, _, ours) in pairs.items():
        if not their.strip() or not ours.strip():
            raise ConfigurationError(
                f"--map is written their=ours, for example --map phone=destination, not {argument!r}"
            )
    return {their.strip(): ours.strip() for their, _, ours in pairs.values()}


def parse_constants(arguments: Iterable[str]) -> dict[str, str]:
    """Read `our=value` arguments; raise ConfigurationError for one of another form."""
    pairs = {argument: argument.partition("=") for argument in arguments}
    for argument, (ours, _, value) in pairs.items():
        if not ours.strip() or not value.strip():
            raise ConfigurationError(f"--set is written our=value, for example --set action=OPTOUT, not {argument!r}")
    return {ours.strip(): value.strip() for ours, _, value in pairs.values()}


def parse_values(arguments: Iterable[str]) -> dict[str, dict[str, str]]:
    """Read `column:value=ours,value=ours` arguments, by column; raise ConfigurationError for one of another form."""
    found: dict[str, dict[str, str]] = {}
    for argument in arguments:
        column, mark, _ = argument.partition("=")[0].rpartition(":")
        pairs = [pair.partition("=") for pair in argument[len(column + mark) :].split(",")]
        if any(not equals or not ours.strip() for _, equals, ours in pairs):
            raise ConfigurationError(
                "--values is written column:value=ours, several with commas, for example "
                f"--values 'Opted out:TRUE=OPTOUT,FALSE=skip', not {argument!r}"
            )
        meanings = {theirs.strip(): ours.strip() for theirs, _, ours in pairs}
        found.setdefault(column.strip() or "action", {}).update(meanings)
    return found


def _ours(known: Vocabulary, name: str) -> str:
    if (found := known.find(name)) is not None:
        return found
    raise ConfigurationError(f"--map leads to {name!r}, which is not a column{meant(known, name)}")


def meant(known: Vocabulary, name: str) -> str:
    """Return "; did you mean …?", or nothing if no known column is like this name."""
    suggestion = known.suggest(name)
    return f"; did you mean {suggestion}?" if suggestion else ""
