"""The ledger as its users see it: one object for each kind of work, on one database and one clock."""

from __future__ import annotations

from consent.deadlines.rules import DeadlineRules
from consent.guards.rules import GuardsOf
from consent.ledger.database import Clock, LedgerCore
from consent.ledger.dead_letters import DeadLetters
from consent.ledger.intake.accept import Recorder
from consent.ledger.intake.imports import Imports
from consent.ledger.intake.publish import Publisher
from consent.ledger.intake.watched_files import WatchedPlace
from consent.ledger.maintenance import Maintenance
from consent.ledger.queries.backlog import BacklogQueries
from consent.ledger.queries.calls import CallQueries
from consent.ledger.queries.changes import ChangeQueries
from consent.ledger.queries.gauges import GaugeQueries
from consent.ledger.queries.history import HistoryQueries
from consent.ledger.queries.imports import ImportQueries
from consent.ledger.queries.outcomes import OutcomeQueries
from consent.ledger.queries.pages import PageQueries
from consent.ledger.queries.results import ResultQueries
from consent.ledger.queries.suppression import Suppression
from consent.ledger.queue.breakers import Breakers
from consent.ledger.queue.claim import Claims
from consent.ledger.queue.deadlines import Deadlines
from consent.ledger.queue.leases import Leases
from consent.ledger.queue.outcome_log import OutcomeLog
from consent.ledger.queue.settle import Settlements
from consent.ledger.rejected_events import RejectedEvents
from consent.ledger.review.corrections import Corrections
from consent.ledger.review.event_guards import EventGuards
from consent.ledger.review.fuses import Fuses
from consent.ledger.review.holds import Holds
from consent.ledger.review.pauses import Pauses
from consent.ledger.review.undo import Undoing
from consent.ledger.telemetry.counters import Counters
from consent.ledger.telemetry.notices import Notices
from consent.ledger.telemetry.recent import EventSources, RecentQuarters
from consent.reassert import ReassertRules


class Intake(Imports, Recorder, Publisher):
    """How changes come in: an import or a run is begun, its changes are recorded, and they become due."""


class Queue(Claims, Settlements):
    """What is to be delivered: customer tasks are claimed under a lease, and settled."""


class Queries(
    ImportQueries,
    ChangeQueries,
    HistoryQueries,
    OutcomeQueries,
    ResultQueries,
    BacklogQueries,
    CallQueries,
    GaugeQueries,
    PageQueries,
):
    """What can be asked about imports, changes and persons; nothing here changes the ledger."""


class Review(Holds, Undoing, Corrections):
    """What people decide: imports are held, approved, withdrawn, undone; dead letters are corrected."""


class Ledger(LedgerCore):
    """Every change and what became of it. All methods raise LedgerUnavailable if the database cannot be used.

    Code outside of `consent/` uses these objects, and no other part of `consent/ledger/` that touches the database.
    """

    def __init__(
        self,
        url: str,
        *,
        reassert: ReassertRules | None = None,
        clock: Clock | None = None,
        deadline_rules: DeadlineRules | None = None,
        guards_of: GuardsOf | None = None,
    ) -> None:
        super().__init__(url, reassert, clock, deadline_rules, guards_of)
        self.intake = Intake(self)
        self.queue = Queue(self)
        self.review = Review(self)
        self.dead_letters = DeadLetters(self)
        self.queries = Queries(self)
        self.suppression = Suppression(self)
        self.breakers = Breakers(self)
        self.fuses = Fuses(self)
        self.pauses = Pauses(self)
        self.event_guards = EventGuards(self)
        self.leases = Leases(self)
        self.deadlines = Deadlines(self)
        self.outcome_log = OutcomeLog(self)
        self.counters = Counters(self)
        self.notices = Notices(self)
        self.recent = RecentQuarters(self)
        self.event_sources = EventSources(self)
        self.rejected_events = RejectedEvents(self)
        self.maintenance = Maintenance(self)

    def watched_place(self, place: str) -> WatchedPlace:
        """Return the files of a watched place, which is named without credentials."""
        return WatchedPlace(self.database, place)

    def close(self) -> None:
        """Close what is open."""
        self.database.close()
