"""A blocklist of a few lines, and what a worker does for one person there.

An entry blocks all that it does not narrow, a POST makes entries, a DELETE removes those whose every property it lists.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, NamedTuple

from consent.change import Bucket, ConsentChange
from consent.connection import ConnectionSettings
from consent.imports import Checkpoint, ImportSource
from consent.ledger.ledger import Ledger
from consent.ledger.queue.tasks import Attempt, ClaimedChange, CustomerTask, Settlement
from consent.outcome import Outcome, Retry
from consent.times import to_micros
from worker.providers.contract import Reply, Request
from worker.providers.infobip import INFOBIP
from worker.providers.infobip.row import BLOCKLIST, InfobipRow

BUCKET = Bucket("infobip", BLOCKLIST)
CONNECTION = ConnectionSettings.model_validate({"provider": "infobip", "api_key": "throw-away"})
OVERLAP = INFOBIP.overlap(BLOCKLIST)


@dataclass
class Blocklist:
    """One person's entries: channel and sender of each, and where it came from."""

    entries: set[tuple[str, str, str]] = field(default_factory=set)
    calls: int = 0
    destination: str = "ann@example.com"

    def __call__(self, request: Request) -> Reply:
        """Answer a call."""
        self.calls += 1
        if request.method == "GET":
            shown = [self._shown(*entry) for entry in sorted(self.entries)]
            return Reply(200, json.dumps({"results": shown, "paging": {}}))
        for group in request.json["blocklist"]:
            entry = (group.get("channel", ""), group.get("sender", ""), group.get("sourceType", "CUSTOM"))
            (self.entries.add if request.method == "POST" else self.entries.discard)(entry)
        return Reply(202, "")

    def _shown(self, channel: str, sender: str, source: str) -> dict[str, Any]:
        named = {"channel": channel, "sender": sender}
        late = {"createdDate": "2030-01-01T00:00:00Z", "sourceType": source, "destination": self.destination}
        return late | {name: text for name, text in named.items() if text}

    def blocks(self, cell: tuple[str, str]) -> bool:
        """Whether no message of this channel and sender comes through."""
        return any(channel in ("", cell[0]) and sender in ("", cell[1]) for channel, sender, _ in self.entries)


@dataclass
class Errand:
    """The calls that a worker has still to make for one person, and what it has learnt so far.

    `asked` are the changes that calls were made for: what no call was made for is given back.
    """

    requests: deque[Request]
    outcomes: dict[int, Outcome]
    asked: dict[int, ClaimedChange] = field(default_factory=dict)

    @classmethod
    def of(cls, task: CustomerTask) -> Errand:
        """Plan what Infobip needs to be told."""
        plan = INFOBIP.plan([task], CONNECTION)
        return cls(deque(request for series in plan.series for request in series), dict(plan.outcomes))

    def next_call(self) -> Request | None:
        """Return the call that comes next, None if there is none left."""
        if not self.requests:
            return None
        self.asked.update({change.id: change for change in self.requests[0].changes})
        return self.requests[0]

    def answered(self, reply: Reply) -> None:
        """Take in the reply to the call that came next."""
        answer = INFOBIP.read(self.requests.popleft(), reply, CONNECTION)
        assert not self.outcomes.keys() & answer.outcomes.keys(), "one change has two outcomes"
        self.outcomes.update(answer.outcomes)
        self.requests.extendleft(reversed(answer.further))

    def failed(self, outcome: Outcome) -> None:
        """Give up: what was not settled before shares what became of the call that came next."""
        waiting = [change.id for request in self.requests for change in request.changes]
        self.outcomes.update(dict.fromkeys((one for one in waiting if one not in self.outcomes), outcome))
        self.requests.clear()


MORNING = datetime(2026, 11, 22, 8, tzinfo=UTC)
_numbers = count()


class Statement(NamedTuple):
    """What Ann says: on which channel and for which sender (empty: all), what, and when."""

    channel: str = ""
    sender: str = ""
    action: str = "OPTOUT"
    minute: int = 0

    def covers(self, cell: tuple[str, str]) -> bool:
        """The rule, said again independently of the product."""
        return self.channel in ("", cell[0]) and self.sender in ("", cell[1])

    def change(self) -> ConsentChange:
        """The same as a producer hands it over."""
        cells = {name: text for name, text in self._asdict().items() if name in ("channel", "sender") and text}
        spelled = "Ann@Example.com" if self.minute % 2 else "ann@example.com"
        row = InfobipRow.model_validate({"destination": spelled, "action": self.action, **cells})
        (slot_change,) = row.changes().slots
        moment = to_micros(MORNING + timedelta(minutes=self.minute))
        return ConsentChange(
            "infobip", row.changes().address, slot_change.slot, row.action, moment, {}, bucket=row.changes().bucket
        )


def delivered(ledger: Ledger, provider: Blocklist, fails: Callable[[Request], bool] = lambda _: False) -> None:
    """Deliver what is due until nothing is; `fails` says of each call whether the worker dies before it."""
    for _ in range(20):
        tasks = ledger.queue.claim(BUCKET, 10, "delivery", 60, overlap=OVERLAP)
        if not tasks:
            return
        ledger.queue.settle(
            "delivery", [settlement(ledger, task, outcomes) for task, outcomes in _called(tasks, provider, fails)]
        )
    raise AssertionError("it never ends")


def _called(
    tasks: Sequence[CustomerTask], provider: Blocklist, fails: Callable[[Request], bool]
) -> Iterator[tuple[CustomerTask, dict[int, Outcome]]]:
    (task,) = tasks
    errand = Errand.of(task)
    while (request := errand.next_call()) is not None:
        if fails(request):
            errand.requests.popleft()
            later = Retry("cut", "the connection was cut", counts=False)
            errand.outcomes.update({change.id: later for change in request.changes})
            continue
        errand.answered(provider(request))
    yield task, errand.outcomes


def settlement(ledger: Ledger, task: CustomerTask, outcomes: dict[int, Outcome]) -> Settlement:
    """What became of a task, with the call that was made for it."""
    attempt = Attempt(task.target_id, ledger.now(), 1, "write", 200, "200", tuple(outcomes))
    return Settlement(task, outcomes, (attempt,))


def recorded(ledger: Ledger, *statements: Statement) -> str:
    """Record a file of what Ann says and let it become due."""
    return record_changes(ledger, [one.change() for one in statements])


def record_changes(ledger: Ledger, changes: Sequence[ConsentChange]) -> str:
    """Record a file of changes and let them become due."""
    name = f"{next(_numbers)}.csv"
    import_id = ledger.intake.open_import(ImportSource("csv", name, name, 1, None)).import_id
    ledger.intake.accept(import_id, changes, [], Checkpoint(len(changes), len(changes) + 1, 0, len(changes)))
    ledger.intake.finish_reading(import_id)
    ledger.intake.publish(import_id)
    return import_id
