"""What stands still, and whether anyone has to know: for `status`, its exit code for cron, and the doctor."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from consent.change import Bucket
from consent.ledger.ledger import Ledger
from consent.ledger.queries.backlog import Backlog
from consent.settings import Settings
from consent.times import duration_text, from_micros

DUE_SECONDS = 600.0
"""For how long changes may be due while no worker runs."""

OPT_OUT_SECONDS = 86_400.0
"""For how long an opt-out may be pending."""


@dataclass(frozen=True, slots=True)
class Standstill:
    """What waits, seen at `now` (microseconds), and why nothing delivers it ("" if something does, or none waits)."""

    now: int
    backlog: Backlog
    no_worker: str = ""

    @property
    def opt_out_seconds(self) -> float | None:
        """The age of the oldest pending opt-out."""
        return None if self.backlog.opt_out_since is None else self._age(self.backlog.opt_out_since)

    @property
    def message(self) -> str:
        """Say how old the oldest pending opt-out is."""
        age = self.opt_out_seconds
        return "no opt-out is pending" if age is None else f"oldest pending opt-out: {duration_text(age)}"

    @property
    def problems(self) -> list[str]:
        """Say what a person has to know, with the remedy."""
        found = []
        if self.no_worker and self.backlog.due_since is not None:
            found.append(
                f"changes have been due for {duration_text(self._age(self.backlog.due_since))}, {self.no_worker}"
            )
        if (age := self.opt_out_seconds) is not None and age > OPT_OUT_SECONDS:
            found.append(
                f"the oldest pending opt-out has waited for {duration_text(age)}: `optrelay status` says on what"
            )
        return found

    def as_json(self) -> dict[str, Any] | None:
        """Return the oldest pending opt-out as an object, None if there is none."""
        since, age = self.backlog.opt_out_since, self.opt_out_seconds
        return (
            None if since is None or age is None else {"since": from_micros(since).isoformat(), "seconds": round(age)}
        )

    def _age(self, since: int) -> float:
        return max(0.0, (self.now - since) / 1_000_000)


def standstill(settings: Settings, ledger: Ledger, pending: Collection[Bucket] | None = None) -> Standstill:
    """Look at what is pending, and only where it has been due for long, for workers; raises LedgerUnavailable."""
    buckets = ledger.queries.pending_by_bucket() if pending is None else pending
    now, found = ledger.now(), ledger.queries.backlog(buckets)
    if found.due_since is None or now - found.due_since <= DUE_SECONDS * 1_000_000:
        return Standstill(now, found)
    return Standstill(now, found, "; ".join(_missing(settings, ledger)))


def _missing(settings: Settings, ledger: Ledger) -> Iterator[str]:
    """Say which process is not there; what cannot be found out is no problem of its own."""
    if not settings.broker_url:
        if not ledger.queries.run_lease_held():
            yield "and no run is at work: `optrelay run` delivers them"
        return
    import redis  # noqa: PLC0415 - these load Celery, which looking at a ledger need not

    from consent.broker.wakeups import redis_client  # noqa: PLC0415
    from worker.heartbeat import has_sweep, has_worker  # noqa: PLC0415

    client = redis_client(settings.broker_url)
    try:
        if not has_worker(client):
            yield "and no worker runs: start `optrelay worker`"
        if not has_sweep(client):
            yield "and no sweep runs: start `optrelay sweep`"
    except (redis.RedisError, OSError):
        yield "and the broker cannot be reached: see `optrelay doctor`"
    finally:
        client.close()
