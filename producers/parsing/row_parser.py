"""From a raw record to consent changes, or to the one error that a person should fix first."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, NamedTuple

from pydantic import ValidationError

from consent.change import ConsentChange
from consent.errors import ConfigurationError, UnusableHeader
from consent.ledger.merge import FUTURE_TOLERANCE_SECONDS
from consent.row import ConsentRow
from consent.time_formats import format_of
from consent.times import UnusableTime, read_time, to_micros
from producers.parsing.columns import FALLBACK_TIME, OWN, OWN_TIME, RECORDED_AS, meant, vocabulary
from producers.parsing.error_messages import RowError, row_error, with_source_names

_NOT_BY_DEFAULT = {"connection", "effective_at", "change_id", RECORDED_AS, *OWN}


class RawRecord(NamedTuple):
    """A row or an event under our own column names, without the empty ones.

    `line` is the physical line of a file where it starts, None for an event. `sender` says in whose name its change_id
    is unique; "" stands for all files.
    """

    fields: Mapping[str, Any]
    line: int | None = None
    sender: str = ""


@dataclass(frozen=True, slots=True)
class ParseContext:
    """What is needed to parse records: the row model of each connection, and the values that a record leaves out.

    `connection` and `effective_at` are used for records that name none; `defaults` fills empty columns, by connection;
    a time without a zone is read in `zone`. A change from after `latest` (microseconds) is rejected, None being soon
    after it is read. `given` is the effective time that a person gave, not a file's clock; `or_give` ends a message
    with the option that gives one.
    """

    rows: Mapping[str, type[ConsentRow]]
    defaults: Mapping[str, Mapping[str, str]]
    connection: str | None
    effective_at: datetime | None
    zone: tzinfo
    latest: int | None
    given: datetime | None = None
    or_give: str = ""

    @property
    def last_moment(self) -> int:
        """The latest moment (microseconds) since when a change may hold: clocks differ a little."""
        return _soon() if self.latest is None else self.latest

    def candidates(self, rows_name_it: bool) -> list[str]:  # noqa: FBT001 - it reads as a sentence where it is used
        """Return the connections that a record can belong to; raise UnusableHeader if there is none.

        `rows_name_it` says whether the records have a column for it.
        """
        if self.connection is not None and not rows_name_it:
            return [self.connection]
        if rows_name_it and self.rows:
            return list(self.rows)
        known = ", ".join(sorted(self.rows)) or "none is configured"
        raise UnusableHeader(
            f"no row names its connection (known: {known}): give --connection NAME, or add a column connection"
            "; a watched place takes ?connection=NAME"
        )


def parse_context(
    rows: Mapping[str, type[ConsentRow]],
    defaults: Mapping[str, Mapping[str, str]],
    connection: str | None,
    effective_at: datetime | None,
    zone: tzinfo,
) -> ParseContext:
    """Return the context for records that come from now on; without `connection` the only configured one is meant.

    Raises ConfigurationError if the connection is not known, or a default is for a column that cannot have one.
    """
    if connection is not None and connection.lower() not in rows:
        known = ", ".join(sorted(rows)) or "none is configured"
        raise ConfigurationError(
            f"there is no connection {connection!r} (known: {known}): give one of these, or configure it"
        )
    only = next(iter(rows)) if len(rows) == 1 else None
    filled = {name: _by_our_names(name, values, rows.values()) for name, values in defaults.items() if values}
    return ParseContext(rows, filled, connection.lower() if connection else only, effective_at, zone, _soon())


def _soon() -> int:
    return time.time_ns() // 1_000 + FUTURE_TOLERANCE_SECONDS * 1_000_000


def parse_record(
    record: RawRecord, context: ParseContext, columns: Mapping[str, str] | None = None
) -> tuple[ConsentChange, ...] | RowError:
    """Make changes of a record, one for each slot that it names, or return what is wrong with it.

    `columns` gives, in the source's order, the source's own name for each of our columns; errors name columns by it.
    """
    fields, columns = record.fields, columns or {}
    connection = _connection(fields["connection"], context) if "connection" in fields else context.connection
    if connection is None:
        return _unknown_connection(context, columns)
    if context.defaults and (defaults := context.defaults.get(connection)):
        fields = {**defaults, **fields}
    model = context.rows[connection]
    try:
        row = model.model_validate(fields)
    except ValidationError as error:
        return row_error(error, model, columns, _or_format(fields, context))
    since = _effective_at(row, fields, context)
    if isinstance(since, RowError):
        message, column = with_source_names(since.message, columns), columns.get(since.column or "", since.column)
        return since._replace(message=message, column=column)
    own = row.effective_at is not None or OWN_TIME in fields
    recorded_as = None if RECORDED_AS not in fields else str(fields[RECORDED_AS])
    action, id_, line, sender = row.action, row.change_id, record.line, record.sender
    address, slots, bucket = row.changes()
    more = (own, sender, recorded_as, overlaps(model))
    return tuple(
        ConsentChange(connection, address, slot, action, since, details, id_, line, bucket, value, *more)
        for slot, details, value in slots
    )


def overlaps(model: type[ConsentRow]) -> bool:
    """Whether an opt-in of a wide slot of these rows lifts the opt-outs of narrower ones."""
    return model.suppression is not None and model.suppression.overlaps


def _or_format(fields: Mapping[str, object], context: ParseContext) -> str:
    """Return how a command can say the format that a time has, or nothing: an event's sender gives no options."""
    form = format_of(str(fields.get("effective_at", ""))) if context.or_give else None
    return f", or say how the times are written: --time-format {_quoted(form)}" if form else ""


def _quoted(form: str) -> str:
    return f"'{form}'" if "%" in form else form


def _connection(named: object, context: ParseContext) -> str | None:
    name = str(named)
    return name if name in context.rows else name.lower() if name.lower() in context.rows else None


def _unknown_connection(context: ParseContext, columns: Mapping[str, str]) -> RowError:
    known = ", ".join(sorted(context.rows)) or "none is configured"
    remedy = f"name one of the configured connections ({known}), or configure this one"
    return RowError("unknown_connection", remedy, columns.get("connection", "connection"))


def _effective_at(row: ConsentRow, fields: Mapping[str, object], context: ParseContext) -> int | RowError:
    try:
        fallback = fields.get(OWN_TIME, fields.get(FALLBACK_TIME))
        if row.effective_at is None and fallback is not None:
            return _earlier_time(str(fallback), context)
        if (moment := row.effective_at or context.effective_at) is None:
            return RowError("missing_field", _NO_TIME + context.or_give, "effective_at")
        since = to_micros(moment, context.zone)
    except UnusableTime as error:
        return RowError(error.code, error.message, "effective_at")
    return since if since <= context.last_moment else RowError("from_the_future", _FUTURE, "effective_at")


def _earlier_time(written: str, context: ParseContext) -> int | RowError:
    """Return since when a row held that was rejected before; a useless clock of then gives way to --effective-at."""
    try:
        since = to_micros(read_time(written), context.zone)
        if since <= context.last_moment:
            return since
        error = RowError("from_the_future", _FUTURE + context.or_give, FALLBACK_TIME)
    except UnusableTime as unusable:
        error = RowError(unusable.code, unusable.message + context.or_give, FALLBACK_TIME)
    return to_micros(context.given) if context.given is not None and error.code in _CLOCK_ERRORS else error


_CLOCK_ERRORS = {"from_the_future", "time_too_old"}
_NO_TIME = "there is no time since when this holds: fill effective_at"
_FUTURE = (
    f"the time lies more than {FUTURE_TOLERANCE_SECONDS} seconds in the future and would overrule every later change: "
    "write when the person said it, with its zone"
)


def _by_our_names(connection: str, values: Mapping[str, str], rows: Iterable[type[ConsentRow]]) -> dict[str, str]:
    known = vocabulary(rows)
    for name in values:
        if known.find(name) is None or known.find(name) in _NOT_BY_DEFAULT:
            raise ConfigurationError(
                f"connection {connection}: {name!r} cannot have a default{meant(known, name)}; remove it from DEFAULTS"
            )
    return {found: value for name, value in values.items() if value and (found := known.find(name))}
