"""The header of a file: which of our columns stand where, and whether a change can be made of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property

from consent.errors import UnusableHeader
from producers.parsing.columns import FALLBACK_TIME, OWN, Vocabulary, meant, plain
from producers.parsing.error_messages import RowError
from producers.parsing.row_parser import ParseContext

_LIKE_DATA = re.compile(r"\d{4}|@")
_VALUE = re.compile(r"\S+@\S+\.\S+|(?=(?:\D*\d){9})[\d\s().:/+TtZz-]+")
_BASE = {"action", "effective_at", "change_id"}
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

    def error_of_joined_files(self, cells: Sequence[str]) -> RowError | None:
        """Return what is wrong with a row that holds this header again, because files were joined; None for others."""
        names, row = _bare(self.names), _bare(cells)
        if row == names:
            return _HEADER_AGAIN
        if (
            len(row) == 2 * len(names) - 1
            and row[-len(names) + 1 :] == names[1:]
            and row[-len(names)].endswith(names[0])
        ):
            return _JOINED_WITHOUT_END
        return None

    def held_since(self, cells: Sequence[str], default: str) -> str:
        """Return since when a rejected row would have held: the time in its earlier rejects file, or `default`."""
        place = self.place(FALLBACK_TIME)
        return (cells[place].strip() if place is not None and place < len(cells) else "") or default


def _bare(cells: Sequence[str]) -> list[str]:
    return [cell.replace("\ufeff", "").strip() for cell in cells]


_HEADER_AGAIN = RowError(
    "repeated_header",
    "this line is the header again, because several files were joined: remove it, or import the files one by one",
)
_JOINED_WITHOUT_END = RowError(
    "repeated_header",
    "the header of another file follows this row, because files were joined without a line break between them: put the "
    "row into a line of its own, or import the files one by one",
)


def read_header(names: Sequence[str], known: Vocabulary, file: str) -> Header:
    """Find our columns among a file's; raise UnusableHeader if there are none, or one of them twice."""
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


def require_columns(header: Header, parsed: Header, context: ParseContext, known: Vocabulary, file: str) -> None:
    """Raise UnusableHeader if no connection that the rows can name could make a change of the columns that are parsed.

    So it does if `effective_at` is misspelt and no one gave a time: old changes would overrule newer ones. A name that
    may be another thing, like `effective_to`, is ignored, with a note.
    """
    lacking = {name: _lacking(parsed, context, name) for name in context.candidates("connection" in parsed.ours)}
    if all(lacking.values()):
        missing = "; ".join(f"{' and '.join(lack)} (for {name})" for name, lack in lacking.items())
        raise UnusableHeader(f"{file}: its header lacks {missing}. {_found(parsed, known)} {_remedy(parsed)}")
    slips = [name for name in header.names if known.find(name) is None and _is_slip(plain(name))]
    if slips and context.given is None and "effective_at" not in header.ours:
        raise UnusableHeader(
            f"{file}: column {shown(slips[0])} is not known; did you mean effective_at? Rename it, or map it with "
            f"--map {slips[0].strip()}=effective_at, or give --effective-at for all rows."
        )


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


def _lacking(header: Header, context: ParseContext, connection: str) -> list[str]:
    fields = context.rows[connection].model_fields
    have = header.ours.keys() | context.defaults.get(connection, {}).keys()
    lack = [name for name, field in fields.items() if field.is_required() and name not in have]
    if not lack and have.isdisjoint(fields.keys() - _BASE):
        lack = [f"any of {', '.join(sorted(fields.keys() - _BASE))}"]
    return lack


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
    ours = ", ".join(header.ours) or "none"
    unknown = ", ".join(hints) or "none"
    return f"Known columns found: {ours}; not known: {unknown}{'' if unknown.endswith('?') else '.'}"


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
