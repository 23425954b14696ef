"""How metrics come to Prometheus: printed, over HTTP, or in a file that node_exporter reads."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.metrics_core import Metric

from consent.errors import ConfigurationError, OptrelayError
from consent.files import path_text
from consent.ledger.ledger import Ledger
from consent.settings import Settings
from console.commands.telemetry.collector import LedgerCollector, gauge
from console.commands.watch.watch import arrivals
from console.exit_codes import ExitCode
from console.ledger_access import ledger_if_any, reading_ledger
from console.local.signals import Stop
from console.ui.screen import Screen

_ENDING = ".prom"
_READABLE = 0o644
_POLL_SECONDS = 0.2


def collector_of(settings: Settings, ledger: Ledger) -> LedgerCollector:
    """Return what reads this ledger, and looks after the watched places of the settings."""
    return LedgerCollector(settings, ledger, partial(_of_places, settings, ledger))


def exposition(collector: LedgerCollector) -> bytes:
    """Return what Prometheus reads, in its text format."""
    return generate_latest(_registry(collector))


def show_metrics(settings: Settings, screen: Screen, listener: tuple[str, int | None], output: Path | None) -> ExitCode:
    """Print the metrics once, write them into a file, or serve them until a signal comes."""
    host, port = listener
    check_name(output)
    with reading_ledger(settings) as ledger:
        collector = collector_of(settings, ledger)
        if port is not None:
            return _serve(collector, screen, host, port)
        metrics = exposition(collector)
    if output is not None:
        write(output, metrics)
    else:
        screen.show(metrics.decode().rstrip("\n"))
    screen.print_json(
        [
            {"name": sample.name, "labels": sample.labels, "value": sample.value}
            for metric in collector.collect()
            for sample in metric.samples
        ]
    )
    return ExitCode.WELL


@contextmanager
def written_at_end(settings: Settings, path: Path | None) -> Iterator[None]:
    """Write the metrics into a file when this ends, however it does; raise ConfigurationError if it has no such name.

    A file that cannot be written is said, and changes no exit code.
    """
    check_name(path)
    try:
        yield
    finally:
        if path is not None:
            try:
                with ledger_if_any(settings) as ledger:
                    if ledger is not None:
                        write(path, exposition(collector_of(settings, ledger)))
            except OptrelayError as error:
                Screen().error(str(error))


def check_name(path: Path | None) -> None:
    """Raise ConfigurationError for a name that node_exporter would not read."""
    if path is not None and path.suffix != _ENDING:
        raise ConfigurationError(f"{path_text(path)}: node_exporter reads files whose names end in {_ENDING} alone")


def write(path: Path, metrics: bytes) -> None:
    """Write a file whole or not at all, readable for others: node_exporter may look at any moment.

    Raises ConfigurationError if it cannot be written.
    """
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(metrics)
                file.flush()
                os.fchmod(file.fileno(), _READABLE)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ConfigurationError(f"{path_text(path)} cannot be written: {error.strerror}") from None


def _serve(collector: LedgerCollector, screen: Screen, host: str, port: int) -> ExitCode:
    stop = Stop()
    try:
        server, thread = start_http_server(port, host, _registry(collector))
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}; try --port 0") from None
    url = f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics"
    screen.show(f"metrics are at {url}; SIGTERM or Ctrl-C ends it")
    screen.print_json({"url": url})
    with stop.on_signals():
        while not stop():
            time.sleep(_POLL_SECONDS)
    server.shutdown()
    server.server_close()
    thread.join()
    return stop.code


def _registry(collector: LedgerCollector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def _of_places(settings: Settings, ledger: Ledger) -> Iterator[Metric]:
    """Tell of each watched place whether a file is overdue; nothing where none is configured."""
    latest: dict[tuple[str, ...], float] = {}
    overdue: dict[tuple[str, ...], float] = {}
    for address, moment, late in arrivals(settings, ledger):
        overdue[address.shown,] = int(late)
        if moment is not None:
            latest[address.shown,] = moment
    if overdue:
        yield gauge("optrelay_watch_overdue", "Whether an expected file has not come.", ("place",), overdue)
        help_text = "When the last file came."
        yield gauge("optrelay_watch_last_file_timestamp_seconds", help_text, ("place",), latest)
