"""The table of faults in force, and which of them bites a call."""

import random
from dataclasses import dataclass, field
from typing import Any

from sandbox.clock import now
from sandbox.fault import Fault, Stage
from sandbox.names import Names


@dataclass(frozen=True, slots=True)
class Victim:
    """What a fault is matched against: the names of the customer, read or write, and for row faults the row."""

    names: tuple[str, ...]
    write: bool
    channel: str = ""
    priority: str = ""
    token_minted: float = 0.0


@dataclass(slots=True)
class _Armed:
    fault: Fault
    users: Names
    chance: random.Random
    armed_at: float = field(default_factory=now)
    bites: int = 0

    def spent(self, at: float) -> bool:
        fault = self.fault
        if fault.next is not None and self.bites >= fault.next:
            return True
        return fault.seconds is not None and at >= self.armed_at + fault.seconds

    def bite(self, victim: Victim) -> bool:
        bitten = self._concerns(victim) and self.chance.random() < self.fault.probability
        self.bites += bitten
        return bitten

    def _concerns(self, victim: Victim) -> bool:
        fault = self.fault
        return (
            fault.on in ("any", "write" if victim.write else "read")
            and (not self.users or self.users.holds_any(victim.names))
            and (fault.channel is None or fault.channel.upper() == victim.channel)
            and (fault.priority is None or fault.priority.upper() == victim.priority)
            and (fault.stage != "token" or victim.token_minted <= self.armed_at)
        )


class Faults:
    """Faults in the order they were ordered; the first that concerns a call bites it."""

    def __init__(self) -> None:
        self._ordered: list[_Armed] = []
        self._live: list[_Armed] = []

    def add(self, fault: Fault) -> None:
        """Put a fault in force from now on."""
        # A test repeats its run by naming the seed; nothing here guards a secret.
        armed = _Armed(fault, Names(fault.users), random.Random(fault.seed))  # noqa: S311
        self._ordered.append(armed)
        self._live.append(armed)

    def clear(self) -> None:
        """Lift every fault."""
        self._ordered.clear()
        self._live.clear()

    def bite(self, stage: Stage, victim: Victim) -> Fault | None:
        """Return the fault that bites this victim at this stage, and count the bite; None when it goes unharmed."""
        found = self._bitten(stage, victim)
        return found.fault if found else None

    def pause(self, victim: Victim) -> tuple[float, bool]:
        """Return the seconds a call is to be delayed, and whether the change is made before the delay."""
        found = self._bitten("delay", victim)
        if found is None:
            return 0.0, False
        fault = found.fault
        upper = fault.delay if fault.delay_to is None else fault.delay_to
        return found.chance.uniform(fault.delay, upper), fault.commits

    def table(self) -> list[dict[str, Any]]:
        """Return every fault ordered since the last clearing, with how often it bit and whether it is spent."""
        at = now()
        return [
            armed.fault.model_dump(exclude_defaults=True) | {"bites": armed.bites, "spent": armed.spent(at)}
            for armed in self._ordered
        ]

    def _bitten(self, stage: Stage, victim: Victim) -> _Armed | None:
        if not self._live:
            return None
        at = now()
        self._live = [armed for armed in self._live if not armed.spent(at)]
        return next((armed for armed in self._live if armed.fault.stage == stage and armed.bite(victim)), None)
