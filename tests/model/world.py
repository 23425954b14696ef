"""The world of the model: a ledger, a late provider, a clock that jumps, and what is known of all changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from consent.change import Action, Bucket
from consent.guards.fuse import FuseRules, FuseState
from consent.imports import ImportSource
from consent.ledger.ledger import Ledger
from consent.ledger.queue.tasks import CustomerTask
from tests.model.changes import OVERLAPPING, Slot, Statement
from tests.model.provider import Call, LateProvider
from tests.support.providers import blocklist
from tests.support.providers.blocklist import Errand

BUCKET = Bucket("capillary")
BUCKETS = (BUCKET, blocklist.BUCKET)
LEASE = 60.0
FUSE = FuseRules(in_a_row=2, share_from=0)
"""Two customers in a row trip a fuse."""
EVENTS = "events:bus"
"""The origin of the events, to a fuse."""
STATISTICS: Counter[str] = Counter()


@dataclass
class File:
    """A file on its way into the ledger."""

    id: str
    name: str
    changes: list[Statement]
    stream: bool
    read: int = 0
    whole: bool = False


@dataclass
class Delivery:
    """A delivery as its worker holds it: its claim, the calls that it has made, and what it does at the blocklist.

    `calls_before` counts all calls that the provider had received when it claimed.
    """

    bucket: Bucket
    token: str
    tasks: dict[str, CustomerTask]
    until: float
    calls_before: int
    called: dict[str, tuple[str, Call | None]] = field(default_factory=dict)
    errands: dict[str, Errand] = field(default_factory=dict)


class World(RuleBasedStateMachine):
    """Time, the network and a gateway, whatever producers and deliveries do."""

    fresh: ClassVar[staticmethod[[object], Ledger]]

    def __init__(self) -> None:
        super().__init__()
        self.elapsed, self.offset = 0.0, 0.0
        self.ledger = type(self).fresh(self._micros)
        self.provider = LateProvider()
        self.files: list[File] = []
        self.deliveries: list[Delivery] = []
        self.sources: dict[Statement, list[File | None]] = {}
        self.applied: dict[Slot, tuple[int, bool]] = {}
        self.killed: set[int] = set()
        self.corrected: set[int] = set()
        self.undone: list[File] = []
        self.paused: dict[str, set[Action]] = {}
        self.refused: set[str] = set()
        self.refused_at: dict[str, tuple[float, int]] = {}
        self.served_at: dict[str, tuple[float, int]] = {}
        self.numbers = count()
        self.run = self._open("events", name="bus", stream=True).id
        STATISTICS["examples"] += 1

    def _micros(self) -> int:
        return int((1_800_000_000 + self.elapsed + self.offset) * 1_000_000)

    def _open(self, kind: str, *, name: str = "", stream: bool = False) -> File:
        name = name or f"{kind} {next(self.numbers)}"
        progress = self.ledger.intake.open_import(ImportSource(kind, name, name, 1, None, stream=stream))
        return File(progress.import_id, name, [], stream)

    def tripped(self) -> dict[str, dict[str, FuseState]]:
        """What fuses hold, by bucket and origin; "" is all of a bucket."""
        found: dict[str, dict[str, FuseState]] = {str(bucket): {} for bucket in BUCKETS}
        for one in self.ledger.fuses.tripped():
            found[str(one.bucket)][one.origin] = one.state
        return {bucket: its for bucket, its in found.items() if its}

    def _hear(self, source: File | None, statements: list[Statement]) -> int:
        """Note who said these words; return how many are new to the ledger, or kept back by files and now told."""
        new = 0
        for change in statements:
            tells_at_once = source is None or (source.stream and change.action == "OPTOUT")
            new += not self._is_live(change) if tells_at_once else change not in self.sources
            self.sources.setdefault(change, []).append(source)
        return new

    def _is_live(self, change: Statement) -> bool:
        """Whether someone said this word whose words must be told."""
        opts_out = change.action == "OPTOUT"  # the opt-ins of a stream wait until it has been read and checked
        return any(one is None or (one.stream and opts_out) or one.whole for one in self.sources.get(change, ()))

    def _latest(self, name: str) -> int:
        return max((change.minute for change in self.sources if change.customer == name), default=0)

    @precondition(lambda self: self.provider.under_way)
    @rule(data=st.data())
    def late_call_lands(self, data: st.DataObject) -> None:
        """The provider gets round to a call that its caller has given up."""
        self.provider.land(data.draw(st.sampled_from(self.provider.under_way)))
        STATISTICS["late landings"] += 1

    @rule(seconds=st.sampled_from((6.0, 21.0, 61.0, 61.0, 130.0)))
    def time_passes(self, seconds: float) -> None:
        """Time goes on."""
        self._pass(seconds)

    def _pass(self, seconds: float) -> None:
        self.elapsed += seconds
        self.provider.land_until(self.elapsed)

    @rule(name=st.sampled_from("ABC" + OVERLAPPING))
    def gateway_takes_against_a_customer(self, name: str) -> None:
        """A gateway before the provider begins to refuse one customer, or has done with it."""
        self.refused ^= {name}

    @precondition(lambda self: not self.provider.under_way)
    @rule(seconds=st.sampled_from((-90.0, -5.0, 5.0, 90.0)))
    def clock_jumps(self, seconds: float) -> None:
        """Someone sets the machine's clock: of the leases that were taken before no one knows how long they hold."""
        self.offset += seconds
        for delivery in self.deliveries:
            delivery.until = -inf
