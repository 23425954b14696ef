"""`optrelay up`: which parts an installation needs, and what is missing for more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from consent.errors import ConfigurationError
from consent.settings import Settings
from console.commands.run.input_files import row_models
from console.commands.watch.watch import addresses_of
from console.exit_codes import ExitCode
from console.ledger_access import writing_ledger
from console.local.signals import Stop
from console.local.supervisor import Part, Say, Supervisor
from console.ui.screen import Screen

DROP = "drop"
_NAME_WIDTH = 6


def run_everything(
    settings: Settings, screen: Screen, address: tuple[str, int], workers: int, *, shows_page: bool
) -> ExitCode:
    """Run everything until a signal comes; returns the exit code. HTTP listens at `address`.

    Raises ConfigurationError, RunUnderWay and LedgerUnavailable before anything is started.
    """
    if not settings.ledger_url.startswith("sqlite") and not settings.broker_url:
        raise ConfigurationError(
            "`optrelay up` runs everything on one machine; for a ledger in PostgreSQL set OPTRELAY_BROKER_URL, or "
            "leave OPTRELAY_LEDGER_URL out"
        )
    with writing_ledger(settings):
        pass  # it is made, or migrated, before several processes want to
    row_models(settings)

    def say(name: str, line: str) -> None:
        screen.note(f"{name:<{_NAME_WIDTH}} | {line}")

    parts = _parts(settings, say, *address)
    if shows_page:
        parts.append(Part("ui", ("ui",), say))
    stop = Stop()
    with stop.on_signals():
        Supervisor(settings, workers, parts, say).run(stop)
    say("up", "everything has ended; what was recorded is kept")
    return stop.code


def _parts(settings: Settings, say: Say, host: str, port: int) -> list[Part]:
    """Return what brings changes in, as far as it is configured; say what to set for the rest."""
    parts = []
    users = (settings.api_keys, settings.token_secret, settings.ui_users)
    if any(one.get_secret_value() for one in users):
        parts.append(Part("serve", ("serve", "--host", host, "--port", str(port)), say))
    else:
        say("up", "no HTTP: set OPTRELAY_API_KEYS for posting changes, OPTRELAY_TOKEN_SECRET for unsubscribe links")
    if settings.source_url.get_secret_value():
        parts.append(Part("listen", ("listen",), say))
    places: Sequence[str] = ()
    if not settings.watch:
        Path(DROP).mkdir(exist_ok=True)
        places = (DROP,)
        say("up", f"files put into {DROP}/ are read; OPTRELAY_WATCH names other places")
    addresses_of(settings, places)  # refuses one that cannot be read before anything is started
    return [*parts, Part("watch", ("watch", *places), say)]
