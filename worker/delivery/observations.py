"""What a delivery has seen of its bucket: who was served, who was refused, and whether to go on calling."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from consent.outcome import Health, Healthy, Throttled, Unauthorized, Unavailable

FAILURES_TO_OPEN = 5
"""Failed calls in a row, with no customer served between them, that open the breaker."""

REFUSALS_TO_STOP = 3
"""Unauthorized calls in a row, with no customer served between them, after which a delivery makes no further call."""

FEW_THROTTLED, SERVED_FOR_EACH_THROTTLED = 10, 3
"""So many customers may draw a 429 of their own. Where more do, so many must be served for each of them."""


@dataclass(slots=True)
class RecentCustomers:
    """Which customers of a bucket were served lately and which were throttled, as this process has seen it."""

    _seen: deque[tuple[int, bool]] = field(default_factory=lambda: deque(maxlen=5_000))

    def note(self, targets: Iterable[int], *, served: bool) -> None:
        """Take in an answer about these targets."""
        self._seen.extend((target, served) for target in targets)

    def mostly_serves(self, *, but: int) -> bool:
        """Whether nearly all others were served lately: where many are throttled, it is the limit that speaks."""
        served: set[int] = set()
        throttled: set[int] = set()
        for target, well in tuple(self._seen):
            if target != but:
                (served if well else throttled).add(target)
        return len(throttled) <= FEW_THROTTLED or len(served) >= SERVED_FOR_EACH_THROTTLED * len(throttled)


@dataclass(slots=True)
class Observations:
    """What one delivery has seen of its bucket in this window, and whether it should go on.

    A bad answer is at first only what one customer drew: its targets are `suspects` until another one is served.
    `unfit` says that the bucket cannot be called at all, `throttled` that every customer has to wait. `blamed` says
    that an answer may be the fault of its change: then it matters when the bucket last did well.
    """

    blamed: bool = False
    answered: bool = False
    failures: int = 0
    refusals: int = 0
    unfit: Unauthorized | None = None
    throttled: Throttled | None = None
    suspects: dict[int, Unauthorized | Unavailable] = field(default_factory=dict)
    recent: RecentCustomers = field(default_factory=RecentCustomers)
    _served: dict[int, int] = field(default_factory=dict)
    _read_at: int | None = None

    def note(self, seen: Health, targets: Iterable[int] = (), *, served: Iterable[int] = (), at: int = 0) -> None:
        """Take in one answer to a call that began `at` (microseconds); of some, who are `served`, it settled a change.

        A call says how the provider was when it began: one that is slow may still be served while all others fail.
        """
        match seen:
            case Healthy():
                self.answered, self.failures = True, 0
                self._serve(served, at)
            case Unavailable():
                self.failures += 1
                self._suspect(targets, seen)
            case Unauthorized():
                self.refusals += 1
                self._suspect(targets, seen)
            case Throttled():
                self.throttled = seen
                self._suspect(targets, Unavailable("throttled"))

    def begin_window(self) -> None:
        """Forget what was seen, as a new delivery has seen nothing: what served a minute ago may be down by now.

        What stops this delivery is kept for its end.
        """
        if self.stop:
            return
        self.blamed = self.answered = False
        self.failures = self.refusals = 0
        self.suspects.clear()
        self._served.clear()
        self._read_at = None

    def vouch(self, at: int) -> None:
        """Take in that a harmless read was answered well, which began at this moment.

        It is a witness in this window only: that a provider can be read is no news for the customers of others.
        """
        self.answered, self._read_at, self.refusals = True, max(at, self._read_at or 0), 0
        self.suspects.clear()

    def excuse(self, target: int) -> None:
        """Take in that the bad answers about a target are its own, and say nothing of the bucket."""
        self.suspects.pop(target, None)
        if not self.suspects:
            self.failures = self.refusals = 0

    @property
    def proven(self) -> bool:
        """Whether the bucket settled a change of any customer in this window, or a harmless read was answered."""
        return bool(self._served) or self._read_at is not None

    @property
    def last_served(self) -> tuple[int, int] | None:
        """Of the targets that were served, the one whose call began last, and when."""
        return max(self._served.items(), key=lambda one: one[1], default=None)

    def served_since(self, at: int, *, but: int) -> bool:
        """Whether another target was served by a call that began at that moment or later, or a read was answered."""
        if self._read_at is not None and self._read_at >= at:
            return True
        return any(target != but and moment >= at for target, moment in tuple(self._served.items()))

    @property
    def stop(self) -> bool:
        """Whether to make no further call in this delivery."""
        stopped = self.unfit is not None or self.throttled is not None
        return stopped or self.refusals >= REFUSALS_TO_STOP or self.failures >= FAILURES_TO_OPEN

    def _suspect(self, targets: Iterable[int], seen: Unauthorized | Unavailable) -> None:
        self.blamed = True
        for target in targets or (0,):
            self.suspects[target] = seen

    def _serve(self, targets: Iterable[int], at: int) -> None:
        """Keep two whose calls began last: one of them is another customer than any that is asked about."""
        targets = tuple(targets)
        self.recent.note(targets, served=True)
        for target in targets:
            self._served[target] = max(at, self._served.get(target, at))
            self.refusals = 0
            for suspect in [one for one in self.suspects if one != target]:
                del self.suspects[suspect]
        while len(self._served) > 2:  # noqa: PLR2004
            del self._served[min(self._served, key=self._served.__getitem__)]
