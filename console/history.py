"""The use case behind `history`: what was said about somebody, and what became of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence

from pydantic import ValidationError
from rich.text import Text

from consent.change import from_micros
from consent.errors import ConfigurationError
from consent.ledger.history import History, SlotNow, histories
from consent.ledger.one_change import ChangeReport
from consent.masking import masked, revealed
from consent.outcome import State
from consent.row import ConsentRow, cell_rule
from consent.settings import Settings
from console.endings import Code
from console.ledgers import reading_ledger
from console.reading import row_models
from console.screen import Screen, table
from console.tokens import STANDARD_INPUT, json_lines, pairs_of
from producers.columns import meant, vocabulary
from producers.http.looking import change_as_json

_MOST = 100
"""Targets that are told about at once."""


def show_histories(
    settings: Settings, screen: Screen, columns: Sequence[str], connection: str | None, *, reveal: bool
) -> Code:
    """Print the story of every target that the columns name; 1 if there is none. Raises ConfigurationError."""
    rows = row_models(settings)
    if connection is not None:
        settings.connection(connection.lower())
    named = [way for said in _said(columns) for way in _ways(said, rows)]
    with reading_ledger(settings) as ledger:
        found = histories(ledger.database, named, connection.lower() if connection else None, _MOST + 1)
    for one in found[:_MOST]:
        _show(screen, one, reveal=reveal)
    if len(found) > _MOST:
        screen.note(f"there are more than {_MOST}: name more columns")
    if not found:
        screen.show("nothing was ever said about this; name the columns by which the files or events name it")
    screen.give([_as_json(one, reveal=reveal) for one in found[:_MOST]])
    return Code.WELL if found else Code.IMPERFECT


def _said(columns: Sequence[str]) -> list[Mapping[str, str]]:
    if list(columns) == [STANDARD_INPUT]:
        return [{name: str(value) for name, value in said.items()} for _, said in json_lines(sys.stdin)]
    return [pairs_of(columns)]


def _ways(said: Mapping[str, str], rows: Mapping[str, type[ConsentRow]]) -> Iterator[dict[str, str]]:
    """Give the columns by our names, as they were typed and as each connection's rows would be read."""
    known = vocabulary(rows.values())
    ours = {known.find(name): value.strip() for name, value in said.items() if value.strip()}
    if None in ours or not ours:
        strange = [f"{name!r} is no column{meant(known, name)}" for name in said if known.find(name) is None]
        raise ConfigurationError("; ".join(strange) or "name whom you ask about, like user_id=387006417")
    yield {str(name): value for name, value in ours.items()}
    for model in dict.fromkeys(rows.values()):
        if ours.keys() <= model.model_fields.keys():
            try:
                yield {str(name): str(cell_rule(model, str(name))(value)) for name, value in ours.items()}
            except ValidationError:
                continue


def _show(screen: Screen, one: History, *, reveal: bool) -> None:
    whom = revealed(one.address) if reveal else masked(one.address)
    screen.show(Text.assemble((whom, "bold"), ("  " + one.connection, "dim")))
    for slot in one.slots:
        screen.show(f"  {_now(slot)}")
    listed = table("holds since (UTC)", "slot", "action", "became", "why", "from", "recorded (UTC)")
    for change in one.changes:
        moments = [f"{from_micros(at):%Y-%m-%d %H:%M:%S}" for at in (change.effective_at, change.recorded_at)]
        listed.add_row(
            moments[0], change.slot, change.action, change.state.value, _why(change), _from(change), moments[1]
        )
    screen.show(listed)
    screen.show()


def _now(slot: SlotNow) -> str:
    holds = f"the provider holds {slot.confirmed}" if slot.confirmed else "what the provider holds is not confirmed"
    return f"{slot.slot}: {slot.action} since {from_micros(slot.since):%Y-%m-%d %H:%M:%S}; {holds}"


def _why(change: ChangeReport) -> str:
    if change.state is State.SUPERSEDED:
        return "a newer word is known"
    said = ": ".join(part for part in (change.code, change.reason) if part)
    return f"{said} (discarded)" if change.discarded else said


def _from(change: ChangeReport) -> str:
    return change.import_name + (f", {change.number:,}" if change.number is not None else "")


def _as_json(one: History, *, reveal: bool) -> dict[str, object]:
    slots = [
        {
            "slot": slot.slot,
            "action": slot.action,
            "since": from_micros(slot.since).isoformat(),
            "confirmed": slot.confirmed,
        }
        for slot in one.slots
    ]
    whom = revealed(one.address) if reveal else masked(one.address)
    changes = [change_as_json(change) for change in one.changes]
    return {"connection": one.connection, "target": whom, "slots": slots, "changes": changes}
