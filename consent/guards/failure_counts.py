"""Counting permanent failures against the rules of a fuse: so many customers in a row, or a share of those answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import orjson

from consent.guards.fuse import FuseRules
from consent.outcome import PermanentFailure

Answered = tuple[int, PermanentFailure | None]
"""A target whose change was settled, and why if it is a dead letter."""

_WINDOW = 4
"""Of an event source, which has no end, the latest customers count: so many times `share_from`."""


@dataclass(slots=True)
class FailureCounts:
    """What a fuse has counted: the targets that drew one code in a row, customers by code, and others (`served`)."""

    code: str
    alike: list[int]
    failed: dict[str, int]
    served: int
    latest: dict[str, PermanentFailure] = field(default_factory=dict)

    @classmethod
    def of(cls, alike: str | None, failed: str | None, served: int) -> Self:
        """Read what `as_values` wrote."""
        code, targets = orjson.loads(alike) if alike else ("", [])
        return cls(code, targets, orjson.loads(failed) if failed else {}, served)

    @property
    def total(self) -> int:
        """How many customers were answered."""
        return self.served + sum(self.failed.values())

    def add(self, answers: Sequence[Answered], rules: FuseRules, *, windowed: bool) -> PermanentFailure | None:
        """Add answers; return the failure that enough customers drew in a row."""
        for target, failure in answers:
            if failure is None:
                self.served += windowed and bool(self.failed)
            else:
                self.latest[failure.code] = failure
                self.failed[failure.code] = self.failed.get(failure.code, 0) + 1
            if failure is None or not failure.ours:
                self.code, self.alike = "", []
            else:
                self.alike = self.alike if failure.code == self.code else []
                self.code = failure.code
                self.alike += [target] if target not in self.alike else []
                if rules.in_a_row and len(self.alike) >= rules.in_a_row:
                    return failure
            if windowed and self.total >= _WINDOW * max(1, rules.share_from):
                self.served //= 2
                self.failed = {code: count // 2 for code, count in self.failed.items() if count > 1}
        return None

    def commonest(self, rules: FuseRules) -> PermanentFailure | None:
        """Return the failure that was drawn most, if its count matters as far as it is known."""
        code = max(self.latest, key=lambda one: self.failed.get(one, 0), default=None)
        if code is None or not rules.share_from or self.failed.get(code, 0) < rules.share_from:
            return None
        return self.latest[code] if self.is_share(code, rules) else None

    def is_share(self, code: str, rules: FuseRules) -> bool:
        """Whether a failure has the share of the customers that is too much."""
        return self.failed.get(code, 0) >= rules.share * self.total

    def as_values(self) -> dict[str, Any]:
        """Return it as columns of the ledger."""
        alike = orjson.dumps([self.code, self.alike]).decode() if self.alike else None
        failed = orjson.dumps(self.failed).decode() if self.failed else None
        return {"alike": alike, "failed": failed, "served": self.served}
