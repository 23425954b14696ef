"""Rows of a feed turned into rows of our columns: constants, the meaning of values, and times in a declared format.

A mapping is made once for a header, whatever the file's form, and then only picks cells and looks them up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from consent.change import Action
from consent.errors import ConfigurationError, UnusableHeader
from consent.time_formats import AUTO, FormatFinder, names_zone, time_reader
from consent.times import UnusableTime
from producers.options import IngestOptions
from producers.parsing.columns import FALLBACK_TIME, Vocabulary, meant, plain
from producers.parsing.error_messages import RowError

SKIP, KEEP, ANY = "skip", "keep", "*"
"""What a value may mean beside one of ours: the row is left out, the cell stays as it is; and any value not named."""

_OPTOUT = Action.OPTOUT.value.lower()
_NO_CONSTANT = frozenset({"effective_at", "change_id", FALLBACK_TIME})


@dataclass(frozen=True, slots=True)
class _Meanings:
    """What the cells of a column mean: `place` is its place in our row, None where it only says which rows count."""

    index: int
    place: int | None
    name: str
    table: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RowMapping:
    """Turns a row's cells under the file's own header into cells under `columns`, which `names` calls as the file does.

    `picked` are the places of cells that are taken, `constants` the cells behind them.
    """

    columns: tuple[str, ...]
    names: tuple[str, ...]
    picked: tuple[int, ...]
    constants: tuple[str, ...]
    meanings: tuple[_Meanings, ...] = ()
    read_time: Callable[[str], datetime] | None = None
    needs_time: bool = False
    zoneless: bool = False
    or_give: str = ""

    @property
    def used(self) -> set[int]:
        """The places of the file's columns that mean something."""
        return {*self.picked, *(meaning.index for meaning in self.meanings)}

    def row(self, cells: Sequence[str]) -> list[str] | RowError | None:
        """Return a row of our columns, what is wrong with it, or None if it is to be left out."""
        mapped = self._meant(cells)
        if not isinstance(mapped, list) or (self.read_time is None and not self.needs_time):
            return mapped
        return self._with_time(mapped)

    def may_opt_in(self, cells: Sequence[str]) -> bool:
        """Whether a rejected row, once it is fixed, may be an opt-in that still needs the time when it was said."""
        if not self.needs_time:
            return False
        try:
            mapped = self._meant(cells)
        except IndexError:  # the row has too few cells
            return True
        return not isinstance(mapped, list) or plain(mapped[self.columns.index("action")]) != _OPTOUT

    def _meant(self, cells: Sequence[str]) -> list[str] | RowError | None:
        mapped = [cells[index].strip() for index in self.picked]
        mapped += self.constants
        for meaning in self.meanings:
            cell = cells[meaning.index].strip()
            ours = meaning.table.get(cell.casefold())
            if ours is None:
                ours = meaning.table.get(ANY) if cell else KEEP
            if ours == SKIP:
                return None
            if ours is None:
                return _unknown_value(meaning)
            if meaning.place is not None and ours != KEEP:
                mapped[meaning.place] = ours
        return mapped

    def _with_time(self, mapped: list[str]) -> list[str] | RowError:
        place = self.columns.index("effective_at") if "effective_at" in self.columns else None
        cell = "" if place is None else mapped[place]
        if cell and self.read_time is not None and place is not None:
            try:
                mapped[place] = self.read_time(cell).isoformat()
            except UnusableTime as error:
                return RowError(error.code, error.message, self.names[place])
        if self.needs_time and not cell and self._opts_in(mapped):
            return RowError("missing_field", _NO_TIME + self.or_give, None if place is None else self.names[place])
        return mapped

    def _opts_in(self, mapped: Sequence[str]) -> bool:
        earlier = FALLBACK_TIME in self.columns and mapped[self.columns.index(FALLBACK_TIME)]
        return not earlier and plain(mapped[self.columns.index("action")]) == Action.OPTIN.value.lower()


_NO_TIME = "an opt-in needs the time when the person said it: fill effective_at"


def row_mapping(
    names: Sequence[str],
    columns: Sequence[tuple[int, str]],
    options: IngestOptions,
    known: Vocabulary,
    file: str,
) -> RowMapping:
    """Return the mapping of a file with this header, whose options say more than our columns do.

    `columns` holds (place, our name) of the columns that were found. Raises UnusableHeader if the header lacks a column
    of `values`, and ConfigurationError if the options cannot be carried out.
    """
    constants = _constants(options, known, {column for _, column in columns}, file)
    ours = (*(column for _, column in columns), *constants)
    mapping = RowMapping(
        columns=ours,
        names=(*(names[index] for index, _ in columns), *constants),
        picked=tuple(index for index, _ in columns),
        constants=tuple(constants.values()),
        meanings=tuple(_meanings(names, columns, options, file)),
        read_time=_remembering(time_reader(options.time_format)) if options.time_format else None,
        needs_time=options.effective_at is None and _has_optin(options),
        zoneless=bool(options.time_format) and not names_zone(options.time_format) and "effective_at" in ours,
        or_give=", or give --effective-at",
    )
    if mapping.needs_time and not {"effective_at", FALLBACK_TIME} & {*ours}:
        raise UnusableHeader(
            f"{file}: {_name(options)} says OPTIN, and no column says when people opted in: map one to effective_at, "
            "or give --effective-at"
        )
    return mapping


def _constants(options: IngestOptions, known: Vocabulary, found: set[str], file: str) -> dict[str, str]:
    constants: dict[str, str] = {}
    for name, value in options.constants.items():
        ours = known.find_ours(name)
        if ours is None or ours in _NO_CONSTANT:
            raise ConfigurationError(f"{_name(options)} sets {name!r}, which cannot be set{meant(known, name)}")
        if ours in found:
            raise UnusableHeader(
                f"{file}: {_name(options)} sets {ours}, and a column of the file says it, too: leave one of them out"
            )
        constants[ours] = value.strip()
    return constants


def _meanings(
    names: Sequence[str], columns: Sequence[tuple[int, str]], options: IngestOptions, file: str
) -> list[_Meanings]:
    places = {index: (place, column) for place, (index, column) in enumerate(columns)}
    by_name = {plain(column): index for index, column in columns} | {
        plain(name): index for index, name in reversed(list(enumerate(names)))
    }
    found: list[_Meanings] = []
    for name, table in options.values.items():
        index = by_name.get(plain(name))
        if index is None:
            raise UnusableHeader(f"{file}: {_name(options)} gives the values of {name!r}, a column that it lacks")
        if sum(plain(other) == plain(names[index]) for other in names) > 1:
            raise UnusableHeader(
                f"{file}: {_name(options)} gives the values of {name!r}, which is the name of several columns: rename "
                "or remove all but the one that is meant"
            )
        if any(index == one.index for one in found):
            raise ConfigurationError(
                f"{_name(options)} gives the values of column {names[index]!r} twice, under two names: give them once"
            )
        place = places[index][0] if index in places else None
        meanings = {cell.strip().casefold(): meaning.strip() for cell, meaning in table.items()}
        if any(meanings[cell.strip().casefold()] != meaning.strip() for cell, meaning in table.items()):
            raise ConfigurationError(
                f"{_name(options)}: a value of {name!r} has two meanings (case and spaces do not matter): give it once"
            )
        if place is None and (odd := set(meanings.values()) - {SKIP, KEEP}):
            raise ConfigurationError(
                f"{_name(options)}: the values of {name!r} mean {', '.join(sorted(odd))}, but the column is none of "
                f"ours: map it, or write {SKIP} and {KEEP}"
            )
        found.append(_Meanings(index, place, names[index], meanings))
    return found


def _has_optin(options: IngestOptions) -> bool:
    values = [value for table in options.values.values() for value in table.values()]
    constants = [value for name, value in options.constants.items() if plain(name) == "action"]
    return any(plain(value) == Action.OPTIN.value.lower() for value in [*values, *constants])


def _name(options: IngestOptions) -> str:
    return f"feed {options.feed}" if options.feed else "the command"


def _unknown_value(meaning: _Meanings) -> RowError:
    cells = sorted(meaning.table, key=lambda cell: (not cell, cell))
    known = ", ".join(cell or "an empty cell" for cell in cells) or "none"
    message = f"the feed does not say what this means (it knows: {known}): write one of these, or add it to the values"
    return RowError("unknown_value", message, meaning.name)


def _remembering(read: Callable[[str], datetime]) -> Callable[[str], datetime]:
    """Return a reader that remembers the last time: rows that follow each other often share theirs."""
    last, moment = "", datetime.min  # noqa: DTZ901 - never given out

    def remember(cell: str) -> datetime:
        nonlocal last, moment
        if cell != last:
            last, moment = "", read(cell)
            last = cell
        return moment

    return remember


def settled_format(cells: Iterable[str], file: str) -> str:
    """Return the format of a column of times by all of its cells; "" is ISO 8601, or no time at all.

    Raises UnusableHeader if they do not settle it.
    """
    finder = FormatFinder()
    finder.add(cells)
    found = finder.settle()
    if found is None or found == AUTO:
        why = "no day after the 12th tells" if found == AUTO else "its times have more than one form, so none tells"
        raise UnusableHeader(
            f"{file}: {why} whether the day or the month comes first: give --time-format, like %d.%m.%Y or %m/%d/%Y"
        )
    return found
