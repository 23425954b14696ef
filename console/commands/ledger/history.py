"""What became of changes: those of one person, and those of all since a cursor, for programs that copy it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby

from rich.padding import Padding
from rich.text import Text

from consent.errors import ConfigurationError
from consent.identifiers.masking import masked, revealed
from consent.identifiers.suppression import NAME_KINDS
from consent.ledger.ledger import Ledger
from consent.ledger.queries.changes import ChangeReport
from consent.ledger.queries.history import History, SlotNow
from consent.ledger.queries.outcomes import MOST_OUTCOMES, Outcome
from consent.outcome import State
from consent.row import ConsentRow
from consent.settings import Settings
from consent.times import from_micros
from console.commands.run.input_files import row_models
from console.exit_codes import ExitCode
from console.ledger_access import reading_ledger
from console.ui.columns import STANDARD_INPUT, json_lines, pairs_of
from console.ui.screen import Screen, table
from console.ui.text import origin_text, slot_text
from producers.audience import column_of
from producers.http.change_json import change_as_json, page_as_json
from producers.parsing.columns import meant, vocabulary
from worker.providers import PROVIDERS

_MOST = 100
"""Targets that are told about at once."""

_OUTCOMES_SHOWN = 100


def show_histories(
    settings: Settings, screen: Screen, columns: Sequence[str], connection: str | None, *, reveal: bool
) -> ExitCode:
    """Print the story of every target that the columns name; 1 if there is none. Raises ConfigurationError."""
    persons = _read_persons(columns)
    with reading_ledger(settings) as ledger:
        found = find_histories(settings, ledger, persons, connection, _MOST + 1)
    for one in found[:_MOST]:
        _show(settings, screen, one, reveal=reveal)
    if len(found) > _MOST:
        screen.note(f"there are more than {_MOST}: name more columns")
    if not found:
        screen.show("no change was ever recorded about this; fewer columns find more")
    screen.print_json([_as_json(one, reveal=reveal) for one in found[:_MOST]])
    return ExitCode.WELL if found else ExitCode.IMPERFECT


def find_histories(
    settings: Settings,
    ledger: Ledger,
    persons: Sequence[Mapping[str, str]],
    connection: str | None,
    limit: int,
    latest: int | None = None,
) -> list[History]:
    """Return the stories of at most `limit` targets that columns name, read as each connection reads its rows.

    Of each target all changes are told, or the `latest`.

    Raises ConfigurationError for columns that name no person, and for a connection that there is not.
    """
    if connection is not None and settings.connections:
        settings.connection(connection.lower())
    name = connection.lower() if connection else None
    return ledger.queries.histories(_named(settings, persons), name, limit, latest)


def find_targets(settings: Settings, ledger: Ledger, columns: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers of the targets that columns like `user_id=387006417` name; raise ConfigurationError."""
    return ledger.queries.targets_named(_named(settings, _read_persons(columns)), None)


def person_ways(settings: Settings, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return all ways in which columns like `user_id=387006417` name a person; raise ConfigurationError."""
    return _named(settings, _read_persons(columns))


def ways_of(settings: Settings, columns: Mapping[str, str]) -> list[dict[str, str]]:
    """Return all ways in which these columns name a person, [] if they name none."""
    try:
        return _named(settings, [columns])
    except ConfigurationError:
        return []


def _named(settings: Settings, persons: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    models = _models(settings)
    spelled = [form for one in persons for form in _spelled_out(one, models)]
    ways = [tuple(way.items()) for one in spelled for way in _ways(one, models)]
    return [dict(way) for way in dict.fromkeys(ways)]


def _spelled_out(columns: Mapping[str, str], rows: Mapping[str, type[ConsentRow]]) -> list[Mapping[str, str]]:
    """Return `email=ann@example.com` by the columns that hold it here; what needs no translation as it is."""
    known = vocabulary(rows.values())
    short = [name for name in columns if known.find(name) is None and column_of(name) in NAME_KINDS]
    if len(short) != 1:
        return [columns]
    kind, value = str(column_of(short[0])), columns[short[0]]
    rest = {name: text for name, text in columns.items() if name != short[0]}
    ways = [{"identifier_name": kind, "identifier_value": value}]
    ways += [{"destination": value}] if kind in {"email", "mobile"} else []
    able = [way for way in ways if any(way.keys() <= model.address_columns for model in rows.values())]
    return [rest | way for way in able] or [columns]


def person_columns(settings: Settings) -> list[str]:
    """Return the columns that can name a person or a subscription, and the names that `_spelled_out` understands."""
    models = _models(settings).values()
    kinds = {kind for model in models if model.suppression is not None for kind in model.suppression.kinds}
    return sorted({name for model in models for name in model.address_columns} | kinds)


def _models(settings: Settings) -> Mapping[str, type[ConsentRow]]:
    return row_models(settings) if settings.connections else {name: one.row for name, one in PROVIDERS.items()}


def _read_persons(columns: Sequence[str]) -> list[Mapping[str, str]]:
    """Return what is asked, in the form in which it was typed; raise ConfigurationError if it cannot be asked."""
    objects = json_lines(sys.stdin) if list(columns) == [STANDARD_INPUT] else [("", pairs_of(columns))]
    persons: list[Mapping[str, str]] = []
    for where, one in objects:
        if any(not isinstance(value, str | int) or isinstance(value, bool) for value in one.values()):
            raise ConfigurationError(f"{where}a value is neither text nor a number")
        persons.append({name: str(value).strip() for name, value in one.items()})
        if any(not value or not _is_sound(value) for value in persons[-1].values()):
            raise ConfigurationError(f"{where}a value is empty or holds damaged characters")
    if not any(persons):
        raise ConfigurationError("name a person, like user_id=387006417")
    return persons


def _is_sound(text: str) -> bool:
    return text.encode(errors="replace").decode() == text


def _ways(columns: Mapping[str, str], rows: Mapping[str, type[ConsentRow]]) -> Iterator[dict[str, str]]:
    """Give the columns by our names, as they were typed and as each connection's rows would be read."""
    known, models = vocabulary(rows.values()), dict.fromkeys(rows.values())
    names = ", ".join(sorted({name for model in models for name in model.address_columns}))
    if strange := [f"{name!r} is no column{meant(known, name)}" for name in columns if known.find(name) is None]:
        end = "" if strange[-1].endswith("?") else "."
        raise ConfigurationError(f"{'; '.join(strange)}{end} A person or a subscription is named by some of {names}")
    ours = {str(known.find(name)): value for name, value in columns.items()}
    able = [(model, address) for model in models for address in _addresses(model, ours)]
    if not able:
        raise ConfigurationError(f"no person is named by {' and '.join(ours)}: give some of {names}")
    for model, address in able:
        yield address
        with suppress(ValueError):  # it is no row of theirs
            yield {name: str(model.target_rule(name, address)(value)) for name, value in address.items()}


def _addresses(model: type[ConsentRow], ours: dict[str, str]) -> Iterator[dict[str, str]]:
    """Give the columns that an address of this model may hold, also without those that only narrow what is said."""
    if ours.keys() <= model.address_columns:
        yield ours
    if ours.keys() & model.names_target and ours.keys() <= model.names_target | model.narrows:
        yield {name: value for name, value in ours.items() if name not in model.narrows}


def _show(settings: Settings, screen: Screen, one: History, *, reveal: bool) -> None:
    person = revealed(one.address) if reveal else masked(one.address)
    screen.show(Text.assemble((person, "bold"), ("  " + one.connection, "dim")))
    now = {slot.slot: _now(slot) for slot in one.slots}
    for slot, changes in groupby(one.changes, lambda change: change.slot):
        listed = table("holds since (UTC)", "action", "what became of it", "from", whole=("holds since (UTC)",))
        for change in changes:
            outcome = _outcome(change) + (_given(change) if reveal else "")
            listed.add_row(_moment(change.effective_at), change.action, outcome, _origin(change))
        screen.show(f"  {slot_text(settings, one.connection, slot)}: {now.get(slot, 'nothing holds yet')}")
        screen.show(Padding(listed, (0, 0, 1, 4), expand=False))


def _now(slot: SlotNow) -> str:
    return f"{slot.action} since {_moment(slot.since)}; {_confirmed(slot)}"


def _confirmed(slot: SlotNow) -> str:
    if slot.confirmed is None:
        return "what the provider holds is not confirmed"
    if slot.confirmed_at is None:
        return f"the provider confirmed {slot.confirmed} at a time that is not known"
    return f"the provider confirmed {slot.confirmed} at {_moment(slot.confirmed_at)}"


def _outcome(change: ChangeReport) -> str:
    if change.state is State.SUPERSEDED:
        return superseded_text(change)
    state = change.state.value + (f" {_moment(change.settled_at)}" if change.settled_at is not None else "")
    parts = [state, "discarded" if change.discarded else "", change.code, change.reason]
    return ", ".join(part for part in parts if part)


def superseded_text(change: ChangeReport) -> str:
    """Say what took the place of a superseded change."""
    return "replaced by a correction" if change.corrected else "superseded by a newer change"


def _given(change: ChangeReport) -> str:
    """Return the reason that its sender gave, which may name a person."""
    reason = change.details.get("reason")
    return f"; reason given: {reason}" if reason else ""


def _origin(change: ChangeReport) -> str:
    return origin_text(change.import_name, change.import_kind, change.number)


def _moment(micros: int) -> str:
    return f"{from_micros(micros):%Y-%m-%d %H:%M:%S}"


def _as_json(one: History, *, reveal: bool) -> dict[str, object]:
    slots = [
        {
            "slot": slot.slot,
            "action": slot.action,
            "since": from_micros(slot.since).isoformat(),
            "confirmed": slot.confirmed,
            "confirmed_at": None if slot.confirmed_at is None else from_micros(slot.confirmed_at).isoformat(),
        }
        for slot in one.slots
    ]
    person = revealed(one.address) if reveal else masked(one.address)
    changes = [
        {**change_as_json(change), **({"details": dict(change.details)} if reveal else {})} for change in one.changes
    ]
    return {"connection": one.connection, "target": person, "slots": slots, "changes": changes}


def show_outcomes(settings: Settings, screen: Screen, after: str | None, limit: int | None) -> ExitCode:
    """Print the outcomes behind a cursor and the cursor behind them; raises UnusableCursor."""
    most = limit or (MOST_OUTCOMES if screen.as_json else _OUTCOMES_SHOWN)
    with reading_ledger(settings) as ledger:
        page = ledger.queries.outcomes_after(after, most)
    listed = table("when (UTC)", "connection", "action", "what became of it", "from", whole=("when (UTC)",))
    for one in page.outcomes:
        listed.add_row(*_outcome_row(one))
    screen.show(listed if page.outcomes else "nothing has become of any change since")
    more = ", and there is more" if page.more else ""
    screen.show(f"go on with --after {page.cursor}{more}")
    screen.print_json(dict(page_as_json(page)))
    return ExitCode.WELL


def _outcome_row(one: Outcome) -> tuple[str, ...]:
    change = one.change
    became = ", ".join(part for part in (change.state.value, change.code, change.reason) if part)
    when = f"{from_micros(one.at):%Y-%m-%d %H:%M:%S}"
    return when, change.connection, change.action, became, _origin(change)
