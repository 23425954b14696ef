"""`optrelay worker`, `sweep`, `watch`, `up` and `sandbox`: what runs until it is told to stop."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from consent.errors import ConfigurationError
from console.options import JsonOption
from console.ui.screen import Screen
from console.ui.text import counted

if TYPE_CHECKING:
    from consent.settings import Settings
    from sandbox.settings import SandboxSettings

_GREEN = ("gevent", "eventlet")

Places = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PLACE",
        help="Folders or URLs (sftp://, s3://, gs://, az://), with options behind ?. Otherwise OPTRELAY_WATCH.",
        show_default=False,
    ),
]


class Pool(StrEnum):
    """The pools that a worker can run its deliveries in."""

    PREFORK = "prefork"
    THREADS = "threads"
    SOLO = "solo"


def parse_pool(name: str) -> Pool:
    """Return the pool of this name; raise typer.BadParameter that says why green ones cannot be used."""
    if name in _GREEN:
        raise typer.BadParameter(f"{name} cannot run the workers' event loop; use prefork, threads or solo")
    try:
        return Pool(name)
    except ValueError:
        raise typer.BadParameter(f"{name!r} is none of prefork, threads and solo") from None


def worker(
    *,
    pool: Annotated[
        Pool,
        typer.Option(
            "--pool", "-P", parser=parse_pool, metavar="prefork|threads|solo", help="How delivery batches run."
        ),
    ] = Pool.PREFORK,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", "-c", min=1, help="Processes or threads.", show_default="CPU count"),
    ] = None,
) -> None:
    """Deliver what is due, until told to stop: the same as `celery -A worker.app worker`. Needs OPTRELAY_BROKER_URL."""
    from console.settings_check import configured

    raise typer.Exit(run_worker(configured(Screen()), pool, concurrency))


def sweep(
    *, once: Annotated[bool, typer.Option("--once", help="Sweep now, and end.")] = False, as_json: JsonOption = False
) -> None:
    """Wake workers for what is due, every second: the same as `celery -A worker.app beat`. One is enough."""
    from console.settings_check import configured

    screen = Screen(as_json=as_json)
    settings = configured(screen)
    if once:
        sweep_once(settings, screen)
        return
    raise typer.Exit(run_sweep(settings))


def watch(
    *,
    places: Places = None,
    once: Annotated[bool, typer.Option("--once", help="Read what is ready now, and end.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Say when the last file of each place came; exit code 1 if one is overdue.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Record the files that come to watched places, until told to stop; workers elsewhere deliver them.

    `optrelay up` does this too, and delivers, on one machine; both at once share the files between them.
    Each file is claimed in the ledger, so several watchers never take one file twice. It is moved into done/ once its
    import is committed, or into failed/ with a file that says why. One bad file stops no other.

    Options in the address: `pattern=*.csv`, `poll=60`, `ready=stable|marker|manifest` (unchanged for `age=60` seconds;
    FILE.done is there; FILE.manifest.json with rows and sha256 is there), `after=move|leave|delete`,
    `connection=NAME`, `timezone=ZONE`, `expect=02:30` with `grace=90m` and `tz=ZONE`.

    For example:

        optrelay watch drop
        optrelay watch 'drop?pattern=*.csv&poll=10&expect=02:30&grace=90m&tz=Europe/Berlin'
        optrelay watch --check
    """
    from console.commands.watch.watch import check_places, watch_places
    from console.settings_check import configured

    screen = Screen(as_json=as_json)
    settings = configured(screen)
    if check:
        raise typer.Exit(int(check_places(settings, screen, places or ())))
    raise typer.Exit(int(watch_places(settings, screen, places or (), once=once)))


def up(
    *,
    host: Annotated[str, typer.Option("--host", help="Where HTTP listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free port.")] = 8080,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Worker processes.")] = 2,
    ui: Annotated[
        bool | None,
        typer.Option("--ui/--no-ui", help="Also `optrelay ui`, which prints its link. [default: in a terminal]"),
    ] = None,
) -> None:
    """Run everything on this machine until told to stop: HTTP and unsubscribe links, watched places, delivery.

    A broker, workers and the sweep; `serve` if OPTRELAY_API_KEYS, OPTRELAY_TOKEN_SECRET or OPTRELAY_UI_USERS is set;
    `watch` for OPTRELAY_WATCH, or the folder drop; `listen` if OPTRELAY_SOURCE_URL is set; the page of `ui`. What ends
    is started again. SIGTERM or Ctrl-C ends intake first, then delivery, then the broker.

    For example:

        optrelay up
        OPTRELAY_TOKEN_SECRET=$(openssl rand -hex 32) optrelay up --port 8080
    """
    from console.commands.watch.up import run_everything
    from console.settings_check import configured

    screen = Screen()
    shows_page = screen.err.is_terminal if ui is None else ui
    raise typer.Exit(int(run_everything(configured(screen), screen, (host, port), workers, shows_page=shows_page)))


def sandbox(
    *,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free port.")] = 8090,
    host: Annotated[str, typer.Option("--host")] = "127.0.0.1",
    rate: Annotated[str, typer.Option("--rate", help="Like 100/minute, 50/second or off.")] = "100/minute",
    burst: Annotated[int | None, typer.Option("--burst", min=0, help="Calls tolerated above it.")] = None,
    unknown: Annotated[
        list[str] | None, typer.Option("--unknown", help="Customers that do not exist, like '404*'; repeat.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve stand-ins for Capillary, Infobip and Gupshup on this machine, to try things without calling a real one.

    It prints the variables of a connection to each, to be copied into the terminal of `optrelay run`. To see what
    optrelay does when a provider answers 429 or 502, order a fault: docs/first-import.md shows how.
    """
    run_sandbox(Screen(as_json=as_json), host, port, {"rate": rate, "burst": burst, "unknown": unknown or None})


def run_worker(settings: Settings, pool: Pool, concurrency: int | None) -> int:
    """Run a worker until it is told to stop; return Celery's exit code."""
    arguments = ["worker", "--pool", pool.value, "--loglevel", settings.log_level, "--without-heartbeat"]
    if concurrency:
        arguments += ["--concurrency", str(concurrency)]
    return _celery(arguments)


def run_sweep(settings: Settings) -> int:
    """Sweep every now and then until told to stop; return Celery's exit code."""
    return _celery(["beat", "--loglevel", settings.log_level])


def sweep_once(settings: Settings, screen: Screen) -> None:
    """Sweep now, once."""
    from worker.bootstrap import WorkerContext
    from worker.sweep import sweep

    if not settings.broker_url:
        raise ConfigurationError("a sweep wakes workers through a broker: set OPTRELAY_BROKER_URL")
    worker_context = WorkerContext(settings, settings.broker_url)
    try:
        worker_context.ledger.maintenance.prepare()
        sent = sweep(worker_context)
    finally:
        worker_context.close()
    screen.show(f"sent {counted(sent, 'wake-up')}")
    screen.print_json({"wakeups": sent})


def run_sandbox(screen: Screen, host: str, port: int, chosen: dict[str, Any]) -> None:
    """Serve the sandbox until told to stop, and say how to reach it."""
    from pydantic import ValidationError

    from consent.errors import wrong_value
    from sandbox.server import serve
    from sandbox.settings import SandboxSettings

    try:
        settings = SandboxSettings.model_validate({"capillary": {k: v for k, v in chosen.items() if v is not None}})
    except ValidationError as error:
        raise ConfigurationError("; ".join(f"--{e['loc'][-1]}: {wrong_value(e)}" for e in error.errors())) from None
    try:
        serve(settings, host, port, lambda url: _welcome(screen, url, settings))
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}; try --port 0") from None


def _welcome(screen: Screen, url: str, settings: SandboxSettings) -> None:
    capillary = settings.capillary
    limit = "sets Capillary no limit" if capillary.rate == "off" else f"allows Capillary {capillary.rate}"
    screen.show(f"The sandbox listens on {url} and {limit}. Ctrl-C ends it. To use it, as any or all of:", "bold")
    # Not secrets: the sandbox's own published example credentials.
    apps = json.dumps(settings.gupshup.apps, separators=(",", ":"))
    for provider, values in {
        "CAPILLARY": {"BASE_URL": url, "USERNAME": capillary.username, "PASSWORD": capillary.password},
        "INFOBIP": {"BASE_URL": url, "API_KEY": settings.infobip.api_key},
        "GUPSHUP": {"BASE_URL": url, "TOKENS": f"'{apps}'"},
    }.items():
        for setting, value in values.items():
            screen.show(Text(f"  export OPTRELAY_CONNECTIONS__{provider}__{setting}={value}", no_wrap=True))
    screen.print_json({"url": url, "rate": capillary.rate})


def _celery(arguments: list[str]) -> int:
    """Run a command of Celery's, and return its exit code: `Celery.start` would lose that of a worker that failed."""
    from celery.bin.celery import celery

    # worker.app reads the settings when it is imported, so it is imported only when it is wanted.
    from worker.app import app

    celery.params[0].default = app  # what `Celery.start` does, celery/app/base.py
    return int(celery.main(args=arguments, standalone_mode=False) or 0)
