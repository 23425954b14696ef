"""What is wrong with a row or an event: a code, a sentence with a remedy and without any value, and the column."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from consent.ledger.merge import FUTURE_TOLERANCE_SECONDS
from consent.row import ConsentRow
from consent.time_formats import format_of
from consent.times import UnusableTime
from producers.parsing.columns import plain


class RowError(NamedTuple):
    """Why a record is rejected: a code, a message with a remedy and without any cell's value, and the column."""

    code: str
    message: str
    column: str | None = None


_PYDANTICS = frozenset(get_args(ErrorType))
"""pydantic's own kinds of error; any other kind, with its message, comes from one of our row models."""

_MESSAGES = {
    "missing_field": "this is needed and is empty: fill it",
    "unknown_value": "this is not one of the values that it may have",
    "not_a_number": "this is not a number: write digits only",
    "unreadable_time": "write the time as ISO 8601, for example 2026-11-22T08:30:00Z",
    "too_long": "this is too long",
    "out_of_range": "this number is out of range",
    "unusable_value": "this cannot be used as it is",
}
_CODES = {
    **dict.fromkeys(("missing", "string_too_short", "too_short"), "missing_field"),
    **dict.fromkeys(("enum", "literal_error", "bool_parsing", "bool_type"), "unknown_value"),
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float", "int_parsing_size", "float_parsing"), "not_a_number"),
    **dict.fromkeys(("decimal_parsing", "float_type", "decimal_type", "finite_number"), "not_a_number"),
    **dict.fromkeys(("datetime_parsing", "datetime_from_date_parsing", "datetime_type"), "unreadable_time"),
    **dict.fromkeys(("string_too_long", "too_long"), "too_long"),
    **dict.fromkeys(("greater_than", "greater_than_equal", "less_than", "less_than_equal"), "out_of_range"),
}


NO_TIME = "there is no time since when this holds: fill effective_at"
FUTURE = (
    f"the time lies more than {FUTURE_TOLERANCE_SECONDS} seconds in the future and would overrule every later change: "
    "write when the person said it, with its zone"
)


def no_connection(known: Iterable[str], columns: Mapping[str, str]) -> RowError:
    """Return the error of a record that names a connection which is not among the known ones, or none."""
    names = ", ".join(sorted(known)) or "none is configured"
    remedy = f"name one of the configured connections ({names}), or configure this one"
    return RowError("unknown_connection", remedy, columns.get("connection", "connection"))


def or_format(written: object) -> str:
    """Return how a command can say the format that a time has, or nothing; an event's sender gives no options."""
    form = format_of(str(written or ""))
    quoted = f"'{form}'" if form and "%" in form else form
    return f", or say how the times are written: --time-format {quoted}" if form else ""


def row_error(
    error: ValidationError, row: type[ConsentRow], columns: Mapping[str, str], or_format: str = ""
) -> RowError:
    """Return the error of the column that comes first in the source; its message tells the others, too.

    `columns` gives, in the source's order, the source's own name for each of our columns. `or_format` ends what is said
    of a time that cannot be read.
    """
    order = {name: place for place, name in enumerate(columns)}
    errors = sorted(
        error.errors(include_url=False, include_input=False),
        key=lambda one: order.get(_column(one) or "", len(order)),
    )
    found = []
    for one in errors:
        code, message = _code_and_message(one, row)
        column = _column(one)
        known = columns.get(column, column) if column else None
        more = or_format if code == "unreadable_time" else ""
        found.append(RowError(code, with_source_names(message, columns) + more, known))
    return joined(found)


def with_source_names(message: str, columns: Mapping[str, str]) -> str:
    """Return a message in which the source's own name stands behind each of our columns that it calls otherwise.

    Only behind those that are no words of English, for `channel` and `reason` may mean no column.
    """
    other = {
        ours: f"{ours} ({theirs})"
        for ours, theirs in columns.items()
        if "_" in ours and ours in message and len(theirs) <= _LONGEST_NAME and plain(ours) != plain(theirs)
    }
    return re.sub(rf"\b({'|'.join(other)})\b", lambda found: other[found[0]], message) if other else message


def renamed(error: RowError, columns: Mapping[str, str]) -> RowError:
    """Return an error that names columns as the source does."""
    message, column = with_source_names(error.message, columns), columns.get(error.column or "", error.column)
    return error._replace(message=message, column=column)


_LONGEST_NAME = 60  # a damaged file has names of megabytes


def joined(errors: Sequence[RowError]) -> RowError:
    """Return the first of a row's errors, whose message tells the others as well: all can be fixed at once."""
    first, *others = errors
    more = [f"{one.column}: {one.message}" if one.column else one.message for one in others]
    return first._replace(message="; also ".join([first.message, *more]))


def _column(error: ErrorDetails) -> str | None:
    return str(error["loc"][0]) if error["loc"] else None


def _code_and_message(error: ErrorDetails, row: type[ConsentRow]) -> tuple[str, str]:
    kind, context = error["type"], error.get("ctx", {})
    if isinstance(unusable := context.get("error"), UnusableTime):
        return unusable.code, unusable.message
    if kind not in _PYDANTICS or (kind == "too_long" and "field_type" not in context):  # we have one of that name, too
        return kind, error["msg"]
    code = _CODES.get(kind, "unusable_value")
    column = _column(error) or ""
    field = row.model_fields.get(column)
    remedy = row.remedies.get(column) or _limits(context, is_text=field is None or _is_text(field.annotation))
    what, _, general = _MESSAGES[code].partition(": ")
    return code, ": ".join(filter(None, (what, remedy or general)))


def _is_text(annotation: Any) -> bool:
    """Whether a column holds text, and no list: pydantic's error says "Value" of both once a validator comes before."""
    if get_origin(annotation) in {Union, UnionType, Annotated}:
        return any(map(_is_text, get_args(annotation)))
    return annotation is str


def _limits(context: Mapping[str, Any], *, is_text: bool) -> str:
    if "expected" in context:
        return f"write {context['expected']}"
    if "field_type" in context and "max_length" in context and not is_text:
        return f"at most {context['max_length']} members in one list: put the others into a row of their own"
    if "max_length" in context:
        return f"at most {context['max_length']} characters"
    return ", ".join(f"{_BOUNDS[name]} {context[name]}" for name in _BOUNDS if name in context)


_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
