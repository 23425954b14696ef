"""A blocklist of a few lines, and what a worker does for one person there.

An entry blocks all that it does not narrow, a POST makes entries, a DELETE removes those whose every property it lists.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from consent.change import Bucket
from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from consent.outcome import Outcome
from worker.providers.contract import Reply, Request
from worker.providers.infobip import INFOBIP
from worker.providers.infobip.row import BLOCKLIST

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
