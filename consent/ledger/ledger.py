"""The ledger as its users see it: one object, one clock, one method for each thing that can be asked of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from consent.change import Bucket, ConsentChange
from consent.imports import Accepted, Checkpoint, EventsAccepted, ImportProgress, ImportSource, RejectedRow
from consent.ledger.database import Database, ServerClock
from consent.ledger.intake import accept, imports, publish
from consent.ledger.intake.publish import PublishProgress
from consent.ledger.queue import claim, settle
from consent.ledger.queue.claim import Term, Try
from consent.ledger.queue.overlaps import Overlap
from consent.ledger.queue.tasks import CustomerTask, Settlement
from consent.ledger.schema import REVISION
from consent.reassert import ReassertRules

Clock = Callable[[], int]


class Ledger:
    """Every change and what became of it. All methods raise LedgerUnavailable if the database cannot be used."""

    def __init__(self, url: str, *, reassert: ReassertRules | None = None, clock: Clock | None = None) -> None:
        self.database = Database(url)
        self.reassert = reassert or ReassertRules()
        self.now = clock or ServerClock(self.database)

    def prepare(self) -> None:
        """Make the ledger ready: SQLite is migrated, PostgreSQL must have been (raises LedgerOutdated)."""
        if self.database.is_sqlite:
            if self.database.url.database:
                Path(self.database.url.database).parent.mkdir(parents=True, exist_ok=True)
            self.migrate()
        self.database.check_revision()

    def migrate(self) -> bool:
        """Bring the schema up to date; return whether there was anything to do."""
        if self.database.revision() == REVISION:
            return False
        from consent.ledger.maintenance import migrate  # noqa: PLC0415 - brings Alembic, which is seldom needed

        return migrate(self.database)

    def open_import(self, source: ImportSource) -> ImportProgress:
        """Find the import of these bytes, or start one; return how far it has come."""
        return imports.open_import(self.database, source, self.now())

    def accept(
        self, import_id: str, changes: Sequence[ConsentChange], rejects: Sequence[RejectedRow], checkpoint: Checkpoint
    ) -> Accepted:
        """Record a chunk and its checkpoint in one transaction; raises ImportUnderWay."""
        chunk = (changes, rejects)
        return accept.accept(self.database, import_id, chunk, checkpoint, now=self.now(), rules=self.reassert)

    def accept_events(
        self, run_id: str, changes: Sequence[ConsentChange], rejects: Sequence[RejectedRow]
    ) -> EventsAccepted:
        """Record what events say in one transaction and let it become due; it may be handed over again."""
        now = self.now()
        return accept.accept_events(self.database, run_id, changes, rejects, now=now, rules=self.reassert)

    def check_writable(self) -> None:
        """Raise LedgerUnavailable if nothing can be recorded now, LedgerOutdated if it is for another version."""
        self.database.write(lambda _tx: None)

    def finish_run(self, run_id: str) -> None:
        """Note that a run of an event source has ended."""
        imports.finish_run(self.database, run_id, self.now())

    def finish_abandoned_runs(self, kind: str, name: str) -> None:
        """Note that the runs of an event source whose process was killed have ended."""
        imports.finish_abandoned_runs(self.database, kind, name, self.now())

    def finish_reading(self, import_id: str) -> None:
        """Note that a file has been read whole and is trusted."""
        imports.finish_reading(self.database, import_id, self.now())

    def publish(self, import_id: str, on_progress: Callable[[int], None] | None = None) -> None:
        """Make the changes of an import that was read whole due; resumable."""
        publish.publish(self.database, import_id, self.now, rules=self.reassert, on_progress=on_progress)

    def unpublished(self) -> dict[str, PublishProgress]:
        """Return the imports that were read whole but whose changes are not all due."""
        return publish.unpublished(self.database)

    def buckets(self, connection: str) -> list[Bucket]:
        """Return the buckets of a connection that have customer tasks."""
        return claim.buckets(self.database, connection)

    def due(self, bucket: Bucket, limit: int) -> int:
        """Return how many targets of a bucket are due, counting no further than `limit`."""
        return claim.due_count(self.database, bucket, limit, self.now())

    def earlier_tries(self, task: CustomerTask) -> list[Try]:
        """Return the calls that were made for a task's changes before, the oldest first."""
        return claim.earlier_tries(self.database, task)

    def customer(self, target_id: int) -> CustomerTask | None:
        """Return a target as a task with nothing to deliver, None if it is gone."""
        return claim.customer(self.database, target_id)

    def claim(
        self,
        bucket: Bucket,
        limit: int,
        token: str,
        lease_seconds: float,
        in_doubt_seconds: float = 0.0,
        overlap: Overlap | None = None,
    ) -> list[CustomerTask]:
        """Take up to `limit` due targets under a lease; those of lost deliveries wait for `in_doubt_seconds` more.

        `overlap` is what the bucket's provider says of slots that overlap.
        """
        term = self._term(lease_seconds, in_doubt_seconds)
        return claim.claim(self.database, bucket, limit, token, term, overlap)

    def claim_another(
        self,
        bucket: Bucket,
        suspects: tuple[int, ...],
        token: str,
        lease_seconds: float,
        in_doubt_seconds: float = 0.0,
        overlap: Overlap | None = None,
    ) -> list[CustomerTask]:
        """Take one target for a probe, another one than the suspects if there is any."""
        term = self._term(lease_seconds, in_doubt_seconds)._replace(suspects=suspects)
        return claim.claim(self.database, bucket, 1, token, term, overlap)

    def _term(self, lease_seconds: float, in_doubt_seconds: float) -> Term:
        now = self.now()
        return Term(now, now + int(lease_seconds * 1_000_000), now + int(in_doubt_seconds * 1_000_000))

    def settle(self, token: str, settlements: Sequence[Settlement]) -> int:
        """Write down what became of claimed targets; return how many leases had been lost. Then `count_calls`."""
        return settle.settle(self.database, token, settlements, now=self.now()) if settlements else 0

    def count_calls(self, settlements: Sequence[Settlement], counted: set[str]) -> None:
        """Add the calls of what was settled to their imports; after a failure again, with the same set of `counted`."""
        settle.count_calls(self.database, settlements, counted)

    def close(self) -> None:
        """Close what is open."""
        self.database.close()
