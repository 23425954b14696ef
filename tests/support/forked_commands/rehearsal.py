"""What nearly all commands do, done once before they are forked: none of them compiles these statements again."""

from __future__ import annotations

import shutil
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

import typer.main

import console.cli
from consent.change import Bucket
from consent.ledger.ledger import Ledger
from consent.ledger.queue.leases import Lease
from consent.settings import load_settings
from tests.support.ledgers import change_of, deliver, guarded
from worker import sweep
from worker.notices import look

BUCKET = Bucket("capillary")


def prepare_arguments() -> None:
    """Make what reads the arguments of each command: pydantic takes longer for that than the command for its work."""
    waiting: list[Any] = [typer.main.get_command(console.cli.app)]
    waiting += map(console.cli.command_line, waiting[0].commands)
    for command in waiting:
        for param in command.params:
            if hasattr(param, "get_runtime_param"):
                param.get_runtime_param()
        waiting += getattr(command, "commands", {}).values()


def rehearse(template: str) -> None:
    """Record changes, watch, sweep, deliver, say the same again, for the ledger alone; `template` is an empty one."""
    with TemporaryDirectory() as folder:
        ledger = Ledger(url := f"sqlite:///{shutil.copy(template, folder)}")
        ledger.maintenance.prepare()
        import_id = guarded(ledger, change_of("1001417"), change_of("1001418", "OPTIN"))
        ledger.queries.backlog([BUCKET])
        _watch(ledger, import_id)
        ledger.queue.due(BUCKET, 10)
        deliver(ledger)
        guarded(ledger, change_of("1001417", minute=1), change_of("1001418", "OPTIN", minute=1))
        _watch(ledger, import_id)
        _sweep(ledger, url)
        ledger.close()


def _watch(ledger: Ledger, import_id: str) -> None:
    """Look at what the monitor of a run looks at."""
    ledger.queries.report(import_id)
    ledger.queries.pending_by_bucket()
    ledger.queries.first_pending(import_id, 0)
    ledger.queries.next_try(BUCKET)
    ledger.queries.unfinished_imports()
    ledger.queries.deaths_since(ledger.now())
    ledger.queries.recent_calls()
    ledger.queries.buckets(BUCKET.connection)
    ledger.breakers.all_health()
    ledger.breakers.health_of(str(BUCKET))
    ledger.breakers.latest_answer(BUCKET)
    ledger.breakers.probe_soon()
    ledger.pauses.stopping([BUCKET])
    ledger.intake.unpublished()
    ledger.intake.is_merging()
    ledger.leases.end_reservations("none", now=ledger.now())
    lease = Lease("run", "a rehearsal", "1", ledger.now() + 60_000_000)
    ledger.leases.take_lease(lease, now=ledger.now())
    ledger.leases.take_lease(lease, now=ledger.now())
    ledger.leases.give_up_lease(lease)


def _sweep(ledger: Ledger, url: str) -> None:
    settings = load_settings(ledger_url=url)
    ledger.fuses.work_off()
    ledger.deadlines.compact()
    ledger.counters.add_up(1.0)
    ledger.fuses.close_those_over()
    ledger.notices.observe(["rehearsal"], {"rehearsal": ("rehearsal", "it goes on")})
    ledger.notices.observe(["rehearsal"], {})
    look(settings, ledger)
    sweep._forget_what_is_old(cast("Any", SimpleNamespace(ledger=ledger, settings=settings)))
