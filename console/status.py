"""What stands in the ledger: connections and imports at a glance, or one import in full."""

from __future__ import annotations

import time
from typing import Any

from rich.text import Text

from consent.change import from_micros
from consent.errors import ConfigurationError
from consent.ledger.health import Breaker, ConnectionHealth, all_health
from consent.ledger.ledger import Ledger
from consent.ledger.report import (
    ImportReport,
    connections_waiting,
    pending_by_connection,
    recent_imports,
    report,
)
from consent.ledger.unfinished import imports_named
from consent.settings import Settings
from console.delivering import why_stopped
from console.endings import Code, code_of
from console.ledgers import reading_ledger
from console.pace import per_call_of, rate_of, time_needed
from console.screen import Screen, table
from console.summaries import as_json, show_import

LATEST = "latest"
_SHOWN = 10


def show_all(settings: Settings, screen: Screen) -> Code:
    """Print every connection and the newest imports."""
    with reading_ledger(settings) as ledger:
        health = {one.name: one for one in all_health(ledger.database)}
        pending = pending_by_connection(ledger.database)
        found = [report(ledger.database, one) for one in recent_imports(ledger.database, _SHOWN)]
    names = sorted({*settings.connections, *pending})
    states = [health.get(name, ConnectionHealth(name)) for name in names]
    imports = [one for one in found if one is not None]
    _show_connections(settings, screen, states, pending)
    _show_imports(screen, imports)
    connections = [_connection_json(settings, one, pending.get(one.name, 0)) for one in states]
    screen.give({"connections": connections, "imports": [as_json(one) for one in imports]})
    return Code.WELL


def show_one(settings: Settings, screen: Screen, name: str) -> Code:
    """Print one import, and why it is not sealed if it is not."""
    with reading_ledger(settings) as ledger:
        found = find_import(ledger, name)
        waiting = connections_waiting(ledger.database, found.import_id)
        health = {one.name: one for one in all_health(ledger.database)}
    show_import(screen, found)
    stopped = {one: health[one] for one in waiting if one in health and health[one].breaker is not Breaker.CLOSED}
    for connection, count in sorted(waiting.items()):
        obstacle = why_stopped(health.get(connection), time.time())
        screen.show(f"  {connection}: {count:,} pending" + (f"; {obstacle}" if obstacle else ""))
    screen.give(as_json(found) | {"waiting": waiting, "stopped": {one: state.reason for one, state in stopped.items()}})
    return Code.UNFINISHED if stopped else code_of([found])


def find_import(ledger: Ledger, name: str) -> ImportReport:
    """Return the import with this id, or whose id begins like this, or the latest; raise ConfigurationError."""
    ids = recent_imports(ledger.database, 1) if name == LATEST else imports_named(ledger.database, name, 2)
    if name not in ids and len(ids) > 1:
        raise ConfigurationError(f"several imports begin with {name!r}: give more of the id")
    found = report(ledger.database, name if name in ids else ids[0]) if ids else None
    if found is None:
        raise ConfigurationError(f"there is no import {name!r}: `optrelay status` lists them")
    return found


def _show_connections(
    settings: Settings, screen: Screen, states: list[ConnectionHealth], pending: dict[str, int]
) -> None:
    listed = table("connection", "provider", "limit", "pending", "state", title="Connections", right=("pending",))
    for one in states:
        left = pending.get(one.name, 0)
        state = Text(_state(settings, one, left), "" if _is_fine(settings, one) else "yellow")
        provider, limit = _facts(settings, one.name)
        listed.add_row(one.name, provider, limit, f"{left:,}", state)
    screen.show(listed if states else "no connection is configured: see `optrelay doctor`")


def _facts(settings: Settings, name: str) -> tuple[str, str]:
    if name not in settings.connections:
        return "", ""
    connection = settings.connections[name]
    return connection.provider, str(rate_of(connection))


def _is_fine(settings: Settings, one: ConnectionHealth) -> bool:
    return one.name in settings.connections and why_stopped(one, time.time()) is None


def _state(settings: Settings, one: ConnectionHealth, left: int) -> str:
    if one.name not in settings.connections:
        return "not configured any more: its customers wait until it is"
    if (obstacle := why_stopped(one, time.time())) is not None:
        return obstacle
    connection = settings.connections[one.name]
    calls = -(-left // per_call_of(connection))
    return f"ready; {time_needed(calls, rate_of(connection))}" if left else "ready"


def _show_imports(screen: Screen, imports: list[ImportReport]) -> None:
    if not imports:
        screen.show("nothing has been imported yet")
        return
    counts = ("rows", "rejected", "applied", "dead", "pending")
    listed = table(
        "import", "started (UTC)", "file", *counts, "sealed", title=f"Newest imports (≤ {_SHOWN})", right=counts
    )
    for one in imports:
        numbers = [f"{getattr(one, name):,}" for name in counts]
        started = f"{from_micros(one.started_at):%Y-%m-%d %H:%M}"
        listed.add_row(one.import_id, started, one.name, *numbers, "yes" if one.sealed else "not yet")
    screen.show()
    screen.show(listed)


def _connection_json(settings: Settings, one: ConnectionHealth, left: int) -> dict[str, Any]:
    provider, limit = _facts(settings, one.name)
    throttled = one.throttled_until / 1e6 > time.time()
    return {
        "connection": one.name,
        "provider": provider,
        "rate": limit,
        "breaker": one.breaker.value,
        "reason": one.reason,
        "pending": left,
        "throttled_until": from_micros(one.throttled_until).isoformat() if throttled else None,
        "configured": one.name in settings.connections,
    }
