"""The names of columns: which ones we know, how they may be spelled, and where they stand in a file's header."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from functools import cached_property, lru_cache

from consent.errors import ConfigurationError, UnusableHeader
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
        bare = plain(name)
        return self.maps.get(bare) or (None if self.only_maps else self.plain.get(bare))

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
    # Not a regular expression: a damaged file has names of megabytes.
    return "".join(name.split()).replace("_", "").replace("-", "").replace("\ufeff", "").lower()


def vocabulary(
    rows: Iterable[type[ConsentRow]], maps: Mapping[str, str] | None = None, *, only_maps: bool = False
) -> Vocabulary:
    """Return the columns of the design and of every row model; `maps` leads header names to ours (`only_maps`: alone).

    Raises ConfigurationError, with a suggestion, if a map leads to a column that is not known.
    """
    bare = Vocabulary(_by_plain((*KNOWN, *(field for row in rows for field in row.model_fields))), {})
    ours = {plain(their): _ours(bare, ours) for their, ours in (maps or {}).items()}
    return Vocabulary(bare.plain, ours, only_maps)


@lru_cache(maxsize=32)  # `optrelay map` asks a hundred times for those of one provider
def _by_plain(names: tuple[str, ...]) -> Mapping[str, str]:
    return {plain(name): name for name in names}


_NOT_BY_DEFAULT = {"connection", "effective_at", "change_id", RECORDED_AS, *OWN}


def defaults_by_column(connection: str, values: Mapping[str, str], rows: Iterable[type[ConsentRow]]) -> dict[str, str]:
    """Return the defaults of a connection by our names; raise ConfigurationError for what cannot have one."""
    known = vocabulary(rows)
    for name in values:
        if known.find(name) is None or known.find(name) in _NOT_BY_DEFAULT:
            raise ConfigurationError(
                f"connection {connection}: {name!r} cannot have a default{meant(known, name)}; remove it from DEFAULTS"
            )
    return {found: value for name, value in values.items() if value and (found := known.find(name))}


def _ours(known: Vocabulary, name: str) -> str:
    if (found := known.find(name)) is not None:
        return found
    raise ConfigurationError(f"--map leads to {name!r}, which is not a column{meant(known, name)}")


def meant(known: Vocabulary, name: str) -> str:
    """Return "; did you mean …?", or nothing if no known column is like this name."""
    suggestion = known.suggest(name)
    return f"; did you mean {suggestion}?" if suggestion else ""


_LIKE_DATA = re.compile(r"\d{4}|@")
_VALUE = re.compile(r"\S+@\S+\.\S+|(?=(?:\D*\d){9})[\d\s().:/+TtZz-]+")
_SLIP = 0.9  # likeness: a letter or two are wrong or missing


@dataclass(frozen=True)
class Header:
    """A file's columns: their names as they stand there, and where ours are among them.

    `columns` holds (position, our name) in the file's order, `own` the positions of the columns that a rejects file
    adds, `notes` what a person should know about the others.
    """

    names: tuple[str, ...]
    columns: tuple[tuple[int, str], ...]
    own: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()

    @cached_property
    def ours(self) -> dict[str, str]:
        """Our names, each with the file's name for it."""
        return {column: self.names[index] for index, column in self.columns}

    def place(self, column: str) -> int | None:
        """Return where a column of ours stands."""
        return next((index for index, name in self.columns if name == column), None)

    @property
    def has_time(self) -> bool:
        """Whether a row can say itself since when it holds."""
        return not self.ours.keys().isdisjoint({"effective_at", FALLBACK_TIME})

    def held_since(self, cells: Sequence[str], default: str) -> str:
        """Return since when a rejected row would have held: the time in its earlier rejects file, or `default`."""
        place = self.place(FALLBACK_TIME)
        return (cells[place].strip() if place is not None and place < len(cells) else "") or default


def read_header(names: Sequence[str], known: Vocabulary, file: str) -> Header:
    """Find our columns among a file's; raise UnusableHeader if there are none, or one of them twice.

    A name that may be another thing, like `effective_to`, is ignored, with a note.
    """
    found = [(index, column) for index, name in enumerate(names) if (column := known.find(name))]
    columns = tuple((index, column) for index, column in found if column == FALLBACK_TIME or column not in OWN)
    own = frozenset(index for index, column in found if column in OWN)
    header = Header(tuple(names), columns, own, tuple(_notes(names, found, known)))
    if known.maps:
        _refuse_absent_columns(header, known, file)
    if not any(column not in OWN for _, column in columns):
        raise UnusableHeader(f"{file}: none of its columns is known. {_found(header, known)} {_remedy(header)}")
    _refuse_repeated_columns(header, file)
    return header


def refuse_misspelt_time(header: Header, known: Vocabulary, file: str) -> None:
    """Raise UnusableHeader if `effective_at` is there, but misspelt: old changes would overrule newer ones."""
    slips = [name for name in header.names if known.find(name) is None and _is_slip(plain(name))]
    if slips:
        raise UnusableHeader(
            f"{file}: column {shown(slips[0])} is not known; did you mean effective_at? Rename it, or map it with "
            f"--map {slips[0].strip()}=effective_at, or give --effective-at for all rows."
        )


def lacking_columns(
    lacking: Mapping[str, Sequence[str]], header: Header, known: Vocabulary, file: str
) -> UnusableHeader:
    """Return the error of a file of which no connection can make a change; `lacking` says what each of them needs."""
    missing = "; ".join(f"{' and '.join(lack)} (for {name})" for name, lack in lacking.items())
    return UnusableHeader(f"{file}: its header lacks {missing}. {_found(header, known)} {_remedy(header)}")


def refuse_values(names: Sequence[str], file: str) -> None:
    """Raise UnusableHeader, with none of them, if what stands where names of columns belong is someone's data."""
    if any(_VALUE.fullmatch(name.strip()) for name in names):
        raise UnusableHeader(f"{file}: {_NO_NAMES}")


_NO_NAMES = "Its first line looks like a row: add a line with the names of the columns."


def _is_slip(name: str) -> bool:
    time = plain("effective_at")
    return not name.startswith(time.removesuffix("at")) and SequenceMatcher(None, name, time).ratio() >= _SLIP


def shown(name: str) -> str:
    """Return a header name as a message may show it: one that looks like a number or an address is left out."""
    return "(something like a value)" if _LIKE_DATA.search(name) else repr(name)


def _refuse_absent_columns(header: Header, known: Vocabulary, file: str) -> None:
    absent = known.maps.keys() - {plain(name) for name in header.names}
    if absent:
        lacked = ", ".join(shown(name) for name in sorted(absent))
        raise UnusableHeader(
            f"{file}: --map names {lacked}, which its header lacks. {_found(header, known)}"
            if not known.only_maps
            else f"{file}: its feed names {lacked}, which its header lacks. {_found(header, known)} "
            "`optrelay map FILE` looks at the header again"
        )


def _refuse_repeated_columns(header: Header, file: str) -> None:
    counts = Counter(column for _, column in header.columns)
    repeated = [
        f"{column} ({' and '.join(shown(header.names[index]) for index, name in header.columns if name == column)})"
        for column, count in counts.items()
        if count > 1
    ]
    if repeated:
        raise UnusableHeader(
            f"{file}: its header has a column twice: {', '.join(repeated)}. Remove or rename one of them."
        )


def _notes(names: Sequence[str], found: list[tuple[int, str]], known: Vocabulary) -> list[str]:
    known_places = {index for index, _ in found}
    unknown = [name for index, name in enumerate(names) if index not in known_places and name.strip()]
    if known.only_maps:
        return []  # a feed names the columns that count
    return [f"column {shown(name)} is not known and is ignored{meant(known, name)}" for name in unknown]


def _found(header: Header, known: Vocabulary) -> str:
    hints = [f"{shown(name)}{meant(known, name)}" for name in header.names if not known.find(name) and name.strip()]
    unknown = ", ".join(hints) or "none"
    known_ones = f"Known columns found: {', '.join(header.ours)}; not" if header.ours else "Not"
    return f"{known_ones} known: {unknown}{'' if unknown.endswith('?') else '.'}"


def _remedy(header: Header) -> str:
    if any("\0" in name for name in header.names):
        codec = "utf-16-be" if header.names[0].startswith("\0") else "utf-16-le"
        return f"It looks like UTF-16 without a byte order mark: give --encoding {codec}."
    if any(_LIKE_DATA.search(name) for name in header.names):
        return _NO_NAMES
    return (
        "`optrelay map FILE` asks what they mean and remembers it; or map them to ours with --map their=ours; "
        "--delimiter names another separator."
    )
