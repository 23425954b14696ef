"""From a raw record to a consent change, or to the one fault that a person should fix first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple

from pydantic import ValidationError

from consent.change import ConsentChange
from consent.errors import ConfigurationError
from consent.ledger.merge import FUTURE_TOLERANCE_SECONDS
from consent.row import ConsentRow
from consent.times import UnusableTime, in_utc, read_time
from producers.parsing.columns import FALLBACK_TIME, OWN, OWN_TIME, RECORDED_AS, meant, vocabulary
from producers.parsing.error_messages import RowError, explain

_NOT_BY_DEFAULT = {"connection", "effective_at", "change_id", RECORDED_AS, *OWN}


class RawRecord(NamedTuple):
    """A row or an event under our own column names, without the ones that no one filled.

    `line` is the physical line of a file where it starts, None for an event. `sender` says in whose name its change_id
    is unique; "" stands for all files.
    """

    fields: Mapping[str, Any]
    line: int | None = None
    sender: str = ""


@dataclass(frozen=True, slots=True)
class ParseContext:
    """What is needed to understand records: the row model of each connection, and what holds where a record is silent.

    `connection` and `effective_at` are used for records that name none; `defaults` fills empty columns, by connection;
    a time without a zone is read in `zone`, and a word from after `latest` is refused. `told` is the `effective_at`
    that a person gave, not a file's clock; `or_tell` ends a sentence with the option that a person has to tell a time.
    """

    rows: Mapping[str, type[ConsentRow]]
    defaults: Mapping[str, Mapping[str, str]]
    connection: str | None
    effective_at: datetime | None
    zone: tzinfo
    latest: datetime
    told: datetime | None = None
    or_tell: str = ""

    def candidates(self, rows_name_it: bool) -> list[str]:  # noqa: FBT001 - it reads as a sentence where it is used
        """Return the connections that a record can belong to; raise ConfigurationError if there is none.

        `rows_name_it` says whether the records have a column for it.
        """
        if self.connection is not None and not rows_name_it:
            return [self.connection]
        if rows_name_it and self.rows:
            return list(self.rows)
        known = ", ".join(sorted(self.rows)) or "none is configured"
        raise ConfigurationError(f"no row says which connection it is for (known: {known}); give --connection NAME")


def parse_context(
    rows: Mapping[str, type[ConsentRow]],
    defaults: Mapping[str, Mapping[str, str]],
    connection: str | None,
    effective_at: datetime | None,
    zone: tzinfo,
) -> ParseContext:
    """Prepare to understand records from now on; without `connection` the only configured one is meant.

    Raises ConfigurationError if the connection is not known, or a default is for a column that cannot have one.
    """
    if connection is not None and connection.lower() not in rows:
        known = ", ".join(sorted(rows)) or "none is configured"
        raise ConfigurationError(f"there is no connection {connection!r} (known: {known})")
    only = next(iter(rows)) if len(rows) == 1 else None
    latest = datetime.now(UTC) + timedelta(seconds=FUTURE_TOLERANCE_SECONDS)
    filled = {name: _by_our_names(name, values, rows.values()) for name, values in defaults.items() if values}
    return ParseContext(rows, filled, connection.lower() if connection else only, effective_at, zone, latest)


def parse_record(
    record: RawRecord, context: ParseContext, columns: Mapping[str, str] | None = None
) -> tuple[ConsentChange, ...] | RowError:
    """Make changes of a record, one for each slot that it names, or say what is wrong with it.

    `columns` gives, in the source's order, the source's own name for each of our columns; faults are told by it.
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
        return explain(error, model, columns)
    since = _since(row, fields, context)
    if not isinstance(since, datetime):
        return since._replace(column=columns.get(since.column or "", since.column))
    own = row.effective_at is not None or OWN_TIME in fields
    recorded_as = None if RECORDED_AS not in fields else str(fields[RECORDED_AS])
    who, line, sender = row.change_id, record.line, record.sender
    address, bucket, action = row.address(), row.bucket(), row.action
    return tuple(
        ConsentChange(
            connection, address, slot, action, since, details, who, line, bucket, value, own, sender, recorded_as
        )
        for slot, details, value in row.slot_changes()
    )


def _connection(named: object, context: ParseContext) -> str | None:
    name = str(named)
    return name if name in context.rows else name.lower() if name.lower() in context.rows else None


def _unknown_connection(context: ParseContext, columns: Mapping[str, str]) -> RowError:
    known = ", ".join(sorted(context.rows)) or "none is configured"
    remedy = f"name one of the configured connections ({known}), or configure this one"
    return RowError("unknown_connection", remedy, columns.get("connection", "connection"))


def _since(row: ConsentRow, fields: Mapping[str, object], context: ParseContext) -> datetime | RowError:
    try:
        fallback = fields.get(OWN_TIME, fields.get(FALLBACK_TIME))
        if row.effective_at is not None or fallback is None:
            return _own_or_default(row, context)
        return _fallen_back(str(fallback), context)
    except UnusableTime as error:
        return RowError(error.code, error.message, "effective_at")


def _own_or_default(row: ConsentRow, context: ParseContext) -> datetime | RowError:
    if row.effective_at is None and context.effective_at is None:
        return RowError("missing_field", _NO_TIME + context.or_tell, "effective_at")
    since = row.since(context.effective_at or context.latest, context.zone)
    return since if since <= context.latest else RowError("from_the_future", _FUTURE, "effective_at")


def _fallen_back(written: str, context: ParseContext) -> datetime | RowError:
    """Return since when a row held that was rejected before; a useless clock of then gives way to --effective-at."""
    try:
        since = in_utc(read_time(written), context.zone)
        fault = (
            RowError("from_the_future", _FUTURE + context.or_tell, FALLBACK_TIME) if since > context.latest else None
        )
    except UnusableTime as error:
        since, fault = context.latest, RowError(error.code, error.message + context.or_tell, FALLBACK_TIME)
    if fault is None:
        return since
    return context.told if context.told is not None and fault.code in _CLOCK_FAULTS else fault


_CLOCK_FAULTS = {"from_the_future", "time_too_old"}
_NO_TIME = "nothing says since when this holds: fill effective_at"
_FUTURE = (
    f"the time lies more than {FUTURE_TOLERANCE_SECONDS} seconds in the future and would win for ever: "
    "write when the person said it, with its zone"
)


def _by_our_names(connection: str, values: Mapping[str, str], rows: Iterable[type[ConsentRow]]) -> dict[str, str]:
    known = vocabulary(rows)
    for name in values:
        if known.find(name) is None or known.find(name) in _NOT_BY_DEFAULT:
            raise ConfigurationError(f"connection {connection}: {name!r} cannot have a default{meant(known, name)}")
    return {found: value for name, value in values.items() if value and (found := known.find(name))}
