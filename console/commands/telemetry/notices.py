"""`optrelay notices`: what people have been told of and still stands; a test of the channels; and the end of a run."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from consent.errors import ConfigurationError, OptrelayError
from consent.files import user_name
from consent.ledger.ledger import Ledger
from consent.settings import Settings
from consent.times import from_micros
from console.exit_codes import ExitCode
from console.ledger_access import ledger_if_any, reading_ledger
from console.ui.screen import Screen, table
from worker.channels import NoticeSender, channels_of, ping
from worker.notices import look

_END_SECONDS = 5.0
_COUNTING_SECONDS = 0.5
_TEST_SECONDS = 30.0


def show_notices(settings: Settings, screen: Screen) -> ExitCode:
    """Print the open notices, newest first."""
    with reading_ledger(settings) as ledger:
        found = ledger.notices.current()
    shown = table("id", "kind", "since", "what", "acknowledged")
    for one in found:
        since, known = from_micros(one.opened_at), f"{one.acknowledged_by}: {one.why}" if one.acknowledged_at else ""
        shown.add_row(str(one.id), one.kind, f"{since:%Y-%m-%d %H:%M}", one.message, known)
    if found:
        screen.show(shown)
    else:
        screen.show("no notice is open")
    screen.print_json([one.as_json() for one in found])
    return ExitCode.WELL


def acknowledge(settings: Settings, screen: Screen, number: int, why: str) -> ExitCode:
    """Note that a person knows; raise ConfigurationError if no such notice is open."""
    with reading_ledger(settings) as ledger:
        if not ledger.notices.acknowledge(number, who=user_name(), why=why):
            raise ConfigurationError(f"no notice {number} is open: `optrelay notices` lists them")
    screen.show(f"notice {number} is not told again while it stands")
    screen.print_json({"acknowledged": number})
    return ExitCode.WELL


def try_channels(settings: Settings, screen: Screen) -> ExitCode:
    """Send a message to every channel now, and say which did not take it; return 1 if one did not."""
    channels = channels_of(settings)
    if not channels:
        raise ConfigurationError("there is no channel: set OPTRELAY_NOTIFY")
    with reading_ledger(settings) as ledger:
        reasons = [channel.send(ledger.notices.test_message()) for channel in channels]
        left = 0 if any(reasons) else _drained(settings, ledger, _TEST_SECONDS)
    for number, reason in enumerate(reasons, 1):
        screen.show(f"channel {number}: {reason or 'it took the message'}")
    screen.print_json({"channels": [{"ok": not reason, "reason": reason or None} for reason in reasons], "sent": left})
    return ExitCode.IMPERFECT if any(reasons) else ExitCode.WELL


def begin_heartbeat(settings: Settings) -> None:
    """Say at the heartbeat's address that a run begins, without waiting for an answer."""
    if settings.heartbeat_url.get_secret_value():
        threading.Thread(target=ping, args=(settings, "/start"), name="heartbeat", daemon=True).start()


def tell_at_end(settings: Settings, screen: Screen, code: ExitCode) -> None:
    """Look once more at the end of a run, and send what there is for a few seconds: the next run sends the rest.

    What cannot be told changes no exit code.
    """
    try:
        with ledger_if_any(settings) as ledger:
            if ledger is not None:
                ledger.counters.add_up(_COUNTING_SECONDS)  # the page's pictures show this run at once
                look(settings, ledger)
                _drained(settings, ledger, _END_SECONDS)
        ping(settings, "" if code is ExitCode.WELL else "/fail")
    except OptrelayError as error:
        with suppress(OptrelayError):
            screen.note(f"notices: {error}")


def _drained(settings: Settings, ledger: Ledger, seconds: float) -> int:
    return NoticeSender(settings, ledger).drain(time.monotonic() + seconds)
