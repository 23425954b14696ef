"""The event format of this installation: what its connections take, and its JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from consent.row import ConsentRow
from consent.settings import Settings
from console.commands.run.input_files import intake_models, row_models
from producers.events.schema import event_schema
from producers.parsing.row_parser import ParseContext, parse_context
from worker.providers import PROVIDERS


def parse_context_of(settings: Settings) -> ParseContext:
    """Return what is needed to understand events; raise ConfigurationError if no connection is configured."""
    return parse_context(intake_models(settings), _defaults(settings), None, None, UTC)


def schema_of(settings: Settings) -> dict[str, Any]:
    """Return the event format: of the configured connections, or of every provider if there is none."""
    if settings.connections:
        return event_schema(row_models(settings), _defaults(settings), configured=True)
    return public_schema()


def public_schema() -> dict[str, Any]:
    """Return the event format of every provider: it says nothing about this installation."""
    known: dict[str, type[ConsentRow]] = {name: provider.row for name, provider in PROVIDERS.items()}
    return event_schema(known, {}, configured=False)


def _defaults(settings: Settings) -> Mapping[str, Mapping[str, str]]:
    return {name: connection.defaults for name, connection in settings.connections.items()}
