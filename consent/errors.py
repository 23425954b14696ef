"""What can be wrong with a run as a whole, and with one setting or argument; a wrong row is a value, not an error.

    ConfigurationError            the settings or arguments cannot be carried out: fix them (exit 2)
    └── UnusableCursor            a cursor of the outcome log that cannot be followed
    OptrelayError
    ├── UnusableInput             a file as a whole: nothing of it has been recorded (exit 2)
    │   ├── UnreadableFile        missing, forbidden, damaged or empty
    │   │   └── UnreadableNow     this machine cannot read it now, whatever it is: its disk is full
    │   ├── UnusableHeader        no header, or one that lacks what a change needs
    │   └── UnstableFile          it is still being written
    ├── LedgerError
    │   ├── LedgerUnavailable     the database cannot be reached or written
    │   │   └── LedgerRefused     it refuses what it was given, and would do so again
    │   └── LedgerOutdated        the schema is not the one that this version needs
    ├── ImportUnderWay            another process is recording the same import at this moment
    ├── RunUnderWay               another run is at work with a broker of its own on this ledger
    ├── WorkerUnavailable         a worker that we started ends again and again
    ├── BrokerUnavailable         Valkey/Redis cannot be started or reached
    └── SourceUnavailable         a source of events cannot be reached or read now

ConfigurationError stands outside OptrelayError on purpose: a handler that keeps going must not swallow it.
Each message says what is wrong and what to do next, and never names a person or a secret.
"""

from __future__ import annotations

import errno
import math
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args, get_origin

if TYPE_CHECKING:  # a command that succeeds need not wait until pydantic is there
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails


class ConfigurationError(Exception):
    """The settings or arguments contradict themselves or the world."""


class UnusableCursor(ConfigurationError):
    """A cursor that cannot be followed; `gone` says that it was one, and what stood behind it is not there now."""

    def __init__(self, message: str, *, gone: bool = False) -> None:
        super().__init__(message)
        self.gone = gone


class OptrelayError(Exception):
    """The work could not be done, though it was asked for correctly."""


class UnusableInput(OptrelayError):
    """A source as a whole cannot be used; nothing of it has been recorded."""


class UnreadableFile(UnusableInput):
    """A file is missing, forbidden, damaged or empty."""


class UnreadableNow(UnreadableFile):
    """A file cannot be read by this machine now, and nothing is known of the file itself: it stays where it is."""


class UnusableHeader(UnusableInput):
    """A file has no header, or one that lacks the columns that a change needs."""


class UnstableFile(UnusableInput):
    """A file changes while it is being read."""


STAYS = (UnstableFile, UnreadableNow)
"""What passes by itself: a file that draws it is tried again, and is not put away as one that cannot be used."""

_MACHINE = frozenset(
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EFBIG", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EBUSY"),
        *("EIO", "ESTALE", "ETIMEDOUT", "ENXIO", "ENODEV", "EHOSTDOWN", "ENETDOWN", "ECONNRESET"),
    )
)


def unreadable(message: str, error: OSError) -> UnreadableFile:
    """Return the error of a file that cannot be read, by whether this machine or the file is what is wrong."""
    text = f"{message}: {error.strerror or type(error).__name__}"
    return UnreadableNow(text) if error.errno in _MACHINE else UnreadableFile(text)


class LedgerError(OptrelayError):
    """The ledger cannot do its work."""


class LedgerUnavailable(LedgerError):
    """The ledger's database cannot be reached or written."""


class LedgerRefused(LedgerUnavailable):
    """The ledger's database refuses some of what it was given, and would do so again; nothing was recorded.

    `members` are the places of the changes that it refuses among those handed over; () if that is not known.
    """

    members: tuple[int, ...] = ()


class LedgerOutdated(LedgerError):
    """The ledger's schema is not the one that this version needs."""


READ_ONLY = "it takes no writes (read-only): it is a standby, or was switched over; nothing is delivered until it does"
"""What is wrong with a ledger's database that can be read and not written."""


class BrokerUnavailable(OptrelayError):
    """The broker cannot be started or reached."""


class SourceUnavailable(OptrelayError):
    """A source of events cannot be reached or read now; what was not acknowledged stays in it."""


class ImportUnderWay(OptrelayError):
    """Another process is recording the same import."""


class WorkerUnavailable(OptrelayError):
    """A worker that we started ends again and again."""


class RunUnderWay(OptrelayError):
    """Another run is at work with a broker of its own on the same ledger."""


def place_of(error: BaseException) -> str:
    """Return the kind of an error and the line it came from, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"


_LONG = 100_000
_SHOWN = 20
"""Characters of a value that are shown: a token or a key that stands in the wrong place is longer."""


class Bounds(NamedTuple):
    """Between what a number must lie; None where there is no end."""

    ge: float | None = None
    le: float | None = None
    gt: float | None = None
    lt: float | None = None

    @classmethod
    def of(cls, field: FieldInfo | None) -> Bounds:
        """Return the bounds of a field, none if there is no such field."""
        metadata = () if field is None else field.metadata
        return cls(
            *(next((getattr(one, name) for one in metadata if hasattr(one, name)), None) for name in cls._fields)
        )

    def in_words(self) -> str:
        """Return the bounds as they stand behind "one" or "a number", with a space before them."""
        ends = {name: number_text(bound) for name, bound in self._asdict().items() if bound is not None}
        if "ge" in ends and "le" in ends:
            return f" from {ends['ge']} to {ends['le']}"
        bounds = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below"}
        limits = " and ".join(f"{word} {ends[name]}" for name, word in bounds.items() if name in ends)
        return f" {limits}" if limits else ""


def number_text(number: float) -> str:
    """Return a number as people write it: 30, 0.01, 1,048,576."""
    return f"{number:,.0f}" if number >= _LONG else f"{number:g}"


def field_at(model: type[BaseModel], place: Sequence[str | int]) -> FieldInfo | None:
    """Return the field of a model, of its models and tables of models, at which an error lies; None if it is none."""
    field: FieldInfo | None = None
    inside: type[BaseModel] | None = model
    for part in place:
        if inside is None:
            return None
        if (found := inside.model_fields.get(str(part))) is None:
            continue  # the name of an entry in a table of models
        field, inside = found, _model_in(found.annotation)
    return field


def is_table(field: FieldInfo | None) -> bool:
    """Whether a field holds settings or values by name, and no single value."""
    annotation = None if field is None else field.annotation
    return get_origin(annotation) is dict or _model_in(annotation) is not None


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model that an annotation is, or holds."""
    if hasattr(annotation, "model_fields"):
        return cast("type[BaseModel]", annotation)
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


def wrong_value(error: ErrorDetails, bounds: Bounds | None = None, *, longest: int = _SHOWN) -> str:
    """Say what is wrong with a value, and what to give; a value that is longer than `longest` is not shown."""
    kind, given = error["type"], error.get("input")
    # The kinds are pydantic's; its own wording is for those who write models.
    bounds = bounds or Bounds(**{name: v for name, v in error.get("ctx", {}).items() if name in Bounds._fields})
    noun = next((noun for noun, kinds in _NOUNS.items() if kind in kinds), "")
    if kind in _OUTSIDE and not _is_number(given):
        noun = "number"
    if kind in {"literal_error", "enum"}:
        noun, takes = "known word", error["ctx"]["expected"].replace("'", "")
    else:
        takes = f"a {noun or 'number'}{bounds.in_words()}" if noun != _FLAG else _FLAG
    if noun or kind in _OUTSIDE:
        return f"{_fault(given, noun, kind, longest)}: give {takes}"
    return _MEANINGS.get(kind) or error["msg"].removeprefix("Value error, ")


def _fault(given: object, noun: str, kind: str, longest: int) -> str:
    if given is None or not str(given).strip():
        return "it is empty"
    text = str(given)
    is_shown = isinstance(given, str | int | float) and len(text) <= longest and text.isprintable()
    what = repr(text) if is_shown else "what stands there"
    if not noun:
        return f"{what} is too {_OUTSIDE[kind]}"
    return f"{what} is not {noun}" if noun == _FLAG else f"{what} is no {noun}"


def _is_number(given: object) -> bool:
    try:
        return not math.isnan(float(str(given)))
    except ValueError:
        return False


def _kinds(*names: str) -> Iterable[str]:
    return frozenset(f"{name}_{end}" for name in names for end in ("parsing", "type", "parsing_size", "from_float"))


_FLAG = "true or false"
_NOUNS = {
    "whole number": _kinds("int"),
    "number": {*_kinds("float", "decimal"), "finite_number"},
    _FLAG: _kinds("bool"),
}
_OUTSIDE = {
    **dict.fromkeys(("greater_than", "greater_than_equal"), "small"),
    **dict.fromkeys(("less_than", "less_than_equal"), "large"),
}
_A_TABLE = "it is a table: give one of its own settings, like …__NAME=value, or write it as a table in optrelay.toml"
_MEANINGS = {
    "missing": "it is missing, and must be given",
    "extra_forbidden": "there is no such name",
    "string_type": "it must be text",
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type", "mapping_type"), _A_TABLE),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), "it must be a list"),
}
