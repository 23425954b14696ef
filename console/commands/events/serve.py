"""Serve the HTTP interface: record changes in the ledger until a signal ends it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from consent.broker.wakeups import WakeUps
from consent.change import Bucket
from consent.errors import BrokerUnavailable, ConfigurationError, LedgerOutdated, LedgerUnavailable
from consent.ledger.ledger import Ledger
from consent.settings import Settings
from console.commands.events.event_format import parse_context_of, public_schema, schema_of
from console.commands.ledger.status import import_as_json
from console.commands.telemetry.exposition import collector_of, exposition
from console.ledger_access import writing_ledger
from console.local.notifier import Notifier
from console.ui.screen import Screen
from producers.events.traces import event_ingest
from producers.http.admission import ApiKeys, AppState, KeyRateLimit
from producers.http.app import create_app
from producers.http.batch_writer import BatchWriter
from producers.http.middleware import OwnListener
from producers.http.server import listening, serve
from producers.http.tokens import Tokens
from producers.http.unsubscribe.page import PublicPages
from producers.parsing.columns import vocabulary
from worker.process import set_up_logs

KIND = "http"
_LOOK_SECONDS = 2.0


Page = Callable[[Ledger], BaseRoute]
"""Makes the page of the users of the settings."""


def serve_until_stopped(settings: Settings, screen: Screen, host: str, port: int, page: Page | None) -> None:
    """Serve until SIGTERM or SIGINT; what is in hand is finished, and the run is ended. `page` makes that of its users.

    Raises ConfigurationError if no client could use it, LedgerUnavailable if the ledger is away at the start, and
    LedgerOutdated once it has been migrated: then the newer version must serve.
    """
    keys, tokens = ApiKeys(settings.api_keys.get_secret_value()), Tokens(settings.token_secret.get_secret_value())
    if not keys and not tokens and page is None:
        raise ConfigurationError(
            "no client could use this server, not even on this machine: set OPTRELAY_API_KEYS "
            "(such as shop=$(openssl rand -hex 24)), or OPTRELAY_TOKEN_SECRET for unsubscribe links, or "
            "OPTRELAY_UI_USERS for the page, or several of them"
        )
    set_up_logs(settings.log_level)
    context = parse_context_of(settings)
    pages = PublicPages(settings.public_page, vocabulary(context.rows.values()).find_ours)
    with ExitStack() as stack:
        ledger = stack.enter_context(writing_ledger(settings))
        listener = stack.enter_context(listening(host, port))
        wake, broker_state = stack.enter_context(_broker(settings, screen))
        name = f"{socket.gethostname()}, port {listener.getsockname()[1]}"
        intake = event_ingest(ledger.intake, context, KIND, name, wake)
        intake.end_abandoned()
        state = AppState(
            ledger=ledger,
            batch_writer=BatchWriter(intake),
            context=context,
            keys=keys,
            rate_limit=KeyRateLimit(settings.api_rate),
            tokens=tokens,
            schema=schema_of(settings),
            public_schema=public_schema(),
            body_limit=settings.api_body_bytes,
            import_report=lambda id_: import_as_json(ledger, id_),
            broker_state=broker_state,
            four_eyes=settings.four_eyes,
            metrics=partial(exposition, collector_of(settings, ledger)),
            public_pages=pages,
        )
        outdated = stack.enter_context(_watched(ledger))
        own = stack.enter_context(_own_listener(settings, listener))
        within = [Middleware(OwnListener, port=one.getsockname()[1], paths=_OWN_PATHS) for one in own]
        app = create_app(state, [] if page is None else [page(ledger)], within)
        serve(app, listener, lambda: _welcome(screen, [listener, *own], keys, tokens), lambda: bool(outdated), own)
        if outdated:
            raise outdated[0]


_OWN_PATHS = ("/ui", "/metrics")


@contextmanager
def _own_listener(settings: Settings, listener: socket.socket) -> Iterator[list[socket.socket]]:
    """Give the listener that page and metrics have for themselves, if they have one; raise ConfigurationError."""
    if not settings.ui_listen:
        yield []
        return
    host, _, port = settings.ui_listen.rpartition(":")
    if int(port) and int(port) == listener.getsockname()[1]:
        raise ConfigurationError("OPTRELAY_UI_LISTEN needs another port than `optrelay serve` listens on")
    with listening(host.removeprefix("[").removesuffix("]"), int(port)) as own:
        yield [own]


@contextmanager
def _watched(ledger: Ledger) -> Iterator[list[LedgerOutdated]]:
    """Look now and then whether the schema is still ours; gives a list that holds the error once it is not."""
    found: list[LedgerOutdated] = []
    ended = threading.Event()

    def look() -> None:
        while not found and not ended.wait(_LOOK_SECONDS):
            try:
                ledger.maintenance.check_revision()
            except LedgerOutdated as error:
                found.append(error)
            except LedgerUnavailable:
                continue

    thread = threading.Thread(target=look, name="schema", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join(_LOOK_SECONDS)


@contextmanager
def _broker(
    settings: Settings, screen: Screen
) -> Iterator[tuple[Callable[[Iterable[Bucket]], None], Callable[[], str]]]:
    """Give what wakes workers, and what tells how the broker is."""
    if not settings.broker_url:
        screen.note("no OPTRELAY_BROKER_URL: changes are recorded, and delivered when `optrelay run` is called")
        yield (lambda _: None), (lambda: "not configured")
        return
    notifier, wakeups = Notifier(settings.broker_url, screen.note), WakeUps(settings.broker_url)
    try:
        yield notifier, lambda: _broker_state(wakeups)
    finally:
        notifier.close()
        wakeups.close()


def _broker_state(wakeups: WakeUps) -> str:
    try:
        wakeups.waiting("")
    except BrokerUnavailable:
        return "cannot be reached; the sweep wakes the workers once it can"
    return "reachable"


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _welcome(screen: Screen, listeners: Sequence[socket.socket], keys: ApiKeys, tokens: Tokens) -> None:
    url, *own = map(_url, listeners)
    if not keys:
        screen.note("no OPTRELAY_API_KEYS: /v1/changes and /v1/imports answer no client")
    if not tokens:
        screen.note("no OPTRELAY_TOKEN_SECRET: unsubscribe links do not work")
    screen.show(f"listening on {url}, documented at {url}/docs; SIGTERM or Ctrl-C ends it")
    for one in own:
        screen.show(f"the page and the metrics are at {one} alone")
    screen.print_json({"url": url} | ({"ui_url": own[0]} if own else {}))
