"""The plan of faults: what happens, how long it lasts and how soon the next one follows, all from one seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

KILLS = ("worker child", "worker parent", "importer", "sweep", "broker", "listener")
STOPS = ("stop child", "stop worker")
PROVIDER = ("down", "slow", "late", "reset", "cut", "throttle", "empty", "malformed", "drop", "html", "error 500")
LEASE_SECONDS = 8.0
TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: its kind, how long it lasts, when the next one follows (seconds), and a draw for the victim."""

    kind: str
    lasts: float
    gap: float
    draw: float

    @property
    def kills(self) -> bool:
        """Whether it ends a process with SIGKILL."""
        return self.kind in KILLS


def plan(seed: int, kills: int, seconds: float, ledger: str) -> list[Fault]:
    """Return the faults of a run: so many kills, and as many other faults as half of them."""
    odds = random.Random(seed)
    drawn = [KILLS[n % len(KILLS)] for n in range(kills)] + list(_others(odds, kills, ledger))
    odds.shuffle(drawn)
    gap = seconds / max(1, len(drawn))
    return [Fault(kind, _lasts(kind, odds), odds.uniform(0.3, 1.7) * gap, odds.random()) for kind in drawn]


def _others(odds: random.Random, kills: int, ledger: str) -> Iterator[str]:
    rare = [*STOPS, "flushall", "postgresql restarts" if ledger == "postgresql" else "disk full"]
    for number in range(max(len(rare), kills // 2)):
        yield rare[number // 2 % len(rare)] if number % 2 else odds.choice(PROVIDER)


def _lasts(kind: str, odds: random.Random) -> float:
    if kind in STOPS:
        return LEASE_SECONDS + odds.uniform(1, 3)
    if kind == "disk full":
        return odds.uniform(1, 3)
    return odds.uniform(1, 4) if kind in PROVIDER else 0.0


def order(kind: str, lasts: float) -> dict[str, object]:
    """Return the sandbox's order for one of the provider's faults."""
    more: dict[str, object] = {"kind": kind, "probability": 0.5}
    return more | _ORDERS.get(kind, {}) | {"seconds": lasts}


_ORDERS: dict[str, dict[str, object]] = {
    "down": {"probability": 1.0},
    "slow": {"kind": "latency", "delay": 0.3, "delay_to": 1.5, "probability": 1.0},
    "late": {"kind": "latency", "delay": 2.5, "delay_to": 3.5 * TIMEOUT_SECONDS, "probability": 0.2},
    "cut": {"kind": "commit_then_drop"},
    "throttle": {"probability": 1.0, "retry_after": 1},
    "drop": {"channel": "EMAIL"},
    "error 500": {"kind": "error", "code": 500, "probability": 1.0},
}
