"""Every call a provider has received, and the counts that tests ask for."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from sandbox.rate import worst_window


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One finished call: times in epoch seconds, `status` None when the connection was cut, `rows` how many came."""

    received: float
    answered: float
    method: str
    user: str
    status: int | None
    code: int | str | None
    rows: int
    fault: str | None

    def as_json(self) -> dict[str, Any]:
        """Return the call as it is shown."""
        return asdict(self)


class CallLog:
    """The calls in the order they were answered, with running counts; kept in memory until reset."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._arrivals: list[float] = []
        self._accepted: list[float] = []
        self._buckets: dict[str, tuple[list[float], list[float]]] = {}
        self._calls: list[CallRecord] = []
        self._by_status: Counter[str] = Counter()
        self._by_code: Counter[str] = Counter()
        self._by_user: Counter[str] = Counter()
        self._overlaps: Counter[str] = Counter()

    def arrived(self, at: float, bucket: str = "") -> None:
        """Note that a call came in, whatever becomes of it."""
        self._arrivals.append(at)
        if bucket:
            self._bucket(bucket)[0].append(at)

    def accepted(self, at: float, bucket: str = "") -> None:
        """Note that the call that came in at this time was let through by the rate limit."""
        self._accepted.append(at)
        if bucket:
            self._bucket(bucket)[1].append(at)

    def overlapped(self, key: str) -> None:
        """Note that a write came while another one for the same target was in flight."""
        self._overlaps[key] += 1

    def answered(self, call: CallRecord) -> None:
        """Write a finished call down."""
        self._calls.append(call)
        self._by_status["cut" if call.status is None else str(call.status)] += 1
        self._by_user[call.user] += 1
        if call.code is not None:
            self._by_code[str(call.code)] += 1

    def calls(self, user: str | None) -> list[CallRecord]:
        """Return the calls, of one customer if given, in the order they were answered."""
        return list(self._calls) if user is None else [call for call in self._calls if call.user == user]

    def stats(self, busiest: int) -> dict[str, Any]:
        """Return the counts; `by_user` names only this many of the busiest customers."""
        return {
            "calls": len(self._arrivals),
            "in_flight": len(self._arrivals) - len(self._calls),
            "throttled": self._by_status["429"],
            "overlaps": self._overlaps.total(),
            "overlaps_by_user": dict(self._overlaps.most_common(busiest)),
            "by_status": dict(self._by_status),
            "by_code": dict(self._by_code),
            "by_user": dict(self._by_user.most_common(busiest)),
        }

    def worst_window(self, seconds: float) -> dict[str, Any]:
        """Return the most calls that came, and the most that were accepted, in any window of this many seconds.

        A provider with several rate limits has the same once more for the calls under each of them.
        """
        whole: dict[str, Any] = {"seconds": seconds} | _worst(self._arrivals, self._accepted, seconds)
        if self._buckets:
            whole["by_bucket"] = {name: _worst(*times, seconds) for name, times in self._buckets.items()}
        return whole

    def _bucket(self, name: str) -> tuple[list[float], list[float]]:
        return self._buckets.setdefault(name, ([], []))


def _worst(arrivals: list[float], accepted: list[float], seconds: float) -> dict[str, int]:
    return {"calls": worst_window(arrivals, seconds), "accepted": worst_window(accepted, seconds)}
