"""Make unsubscribe links: one, or one for each line of standard input."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from consent.errors import ConfigurationError
from consent.settings import Settings
from console.commands.events.event_format import parse_context_of
from console.exit_codes import ExitCode
from console.ui.columns import STANDARD_INPUT, json_lines, pairs_of
from console.ui.screen import Screen
from producers.events.event_parser import FieldNames, as_cells
from producers.http.tokens import Tokens
from producers.parsing.columns import FALLBACK_TIME, vocabulary
from producers.parsing.error_messages import RowError
from producers.parsing.row_parser import ParseContext, RawRecord, parse_record

_SET_BY_THE_CLICK = ("action", "effective_at", "change_id", FALLBACK_TIME)
_SHORTEST_SECONDS = 60


def show_tokens(settings: Settings, screen: Screen, columns: Sequence[str], seconds: float) -> ExitCode:
    """Print a link for the columns, or for each line of standard input; raise ConfigurationError for the first bad one.

    Links of lines are printed as they are read, in their order; with `--json` one object a line.
    """
    tokens, context = Tokens(settings.token_secret.get_secret_value()), parse_context_of(settings)
    if seconds < _SHORTEST_SECONDS:
        raise ConfigurationError("--expires: a link that is to be read by a person works for a minute at least")
    names = FieldNames(vocabulary(context.rows.values()))
    if not settings.public_url:
        screen.note("tokens alone: with OPTRELAY_PUBLIC_URL they become links (PUBLIC_URL/v1/unsubscribe/TOKEN)")
    elif not settings.public_url.lower().startswith("https:"):
        screen.note("mail providers follow https:// links alone (RFC 8058): see OPTRELAY_PUBLIC_URL")
    objects = json_lines(sys.stdin) if list(columns) == [STANDARD_INPUT] else [("", pairs_of(columns))]
    for where, one in objects:
        token = tokens.make(_checked(one, names, context, where), seconds)
        link = f"{settings.public_url.rstrip('/')}/v1/unsubscribe/{token}" if settings.public_url else token
        screen.show(link)
        screen.print_json(
            {"token": token, "url": link if settings.public_url else None, "expires_seconds": int(seconds)}
        )
    return ExitCode.WELL


def _checked(columns: Mapping[str, Any], names: FieldNames, context: ParseContext, where: str) -> dict[str, str]:
    """Return the columns by our names; raise ConfigurationError if a click on them could not be understood."""
    cells = as_cells(columns, names)
    if isinstance(cells, RowError):
        raise ConfigurationError(f"{where}{cells.column}: {cells.message}")
    fields, spelled = cells
    if unknown := sorted(set(columns) - set(spelled.values())):
        raise ConfigurationError(f"{where}these are no columns: {', '.join(unknown)}")
    if fields.pop("action", "OPTOUT").upper().replace("-", "") != "OPTOUT" or fields.keys() & set(_SET_BY_THE_CLICK):
        raise ConfigurationError(f"{where}a link says OPTOUT, since the moment of the click: leave out action and time")
    record = RawRecord({**fields, "action": "OPTOUT", "effective_at": datetime.now(UTC).isoformat()})
    if isinstance(fault := parse_record(record, context), RowError):
        raise ConfigurationError(f"{where}{fault.column}: {fault.message}")
    return fields
