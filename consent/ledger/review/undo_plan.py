"""What undoing an import does and what it cannot do, in numbers, and in words that name no person."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

_LISTED = 100
_NAMED = 20


class BackTo(StrEnum):
    """What a slot goes back to when an import is undone."""

    OPTED_IN = "opted_in"
    OPTED_OUT = "opted_out"
    NEVER_SAID = "never_said"
    """Nothing was known of it before: it is opted out."""
    EARLIER_VALUE = "earlier_value"


class Share(NamedTuple):
    """The slots that go back to one state, which one import had said; both are "" where nothing was said before."""

    state: BackTo
    import_id: str
    name: str
    slots: int


@dataclass(slots=True)
class UndoPlan:
    """What undoing an import does, slot by slot, and what it cannot do.

    `undone` slots get back what they held before: `back_to` counts them by that, `shares` also by the import that had
    said it. Of the others `same` held that before, `overtaken` have a newer change, `opted_out` were opted out by the
    import and stay so, of which `were_in` were opted in before and would be again if that is asked for, and `no_value`
    have no earlier value to go back to. Of those that are overtaken, `repeated` have a newer change that says the same
    as this import: `repeated_by` counts them by the import that says it. `listed` are
    the first of those that a person has to look at, without names.
    """

    same: int = 0
    overtaken: int = 0
    repeated: int = 0
    opted_out: int = 0
    were_in: int = 0
    no_value: int = 0
    repeated_by: dict[str, int] = field(default_factory=dict)
    listed: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    _back: Counter[tuple[BackTo, str]] = field(default_factory=Counter)

    @property
    def undone(self) -> int:
        """How many slots get back what they held before."""
        return self._back.total()

    @property
    def back_to(self) -> dict[BackTo, int]:
        """How many slots go back to each state; each state is there."""
        return {state: sum(n for (one, _), n in self._back.items() if one is state) for state in BackTo}

    @property
    def shares(self) -> list[Share]:
        """The slots that go back, by state and by who had said it: of each state the first twenty, the most first."""
        most = [Share(state, by, self.names.get(by, ""), n) for (state, by), n in self._back.items()]
        most.sort(key=lambda one: (-one.slots, one.import_id))
        return [one for state in BackTo for one in [share for share in most if share.state is state][:_NAMED]]

    @property
    def repeating(self) -> str:
        """The imports that say the same, those that say most of it first, with their numbers of slots."""
        most = sorted(self.repeated_by.items(), key=lambda one: (-one[1], one[0]))
        more = f" and {len(most) - _NAMED:,} more imports" if len(most) > _NAMED else ""
        return ", ".join(f"{name} ({count:,})" for name, count in most[:_NAMED]) + more

    def note_back(self, state: BackTo, import_id: str = "") -> None:
        """Count a slot that goes back to what an import had said of it."""
        self._back[state, import_id] += 1

    def list(self, message: str) -> None:
        """Keep words about a slot that stays as it is, if they are among the first."""
        if len(self.listed) < _LISTED:
            self.listed.append(message)

    def as_json(self) -> dict[str, Any]:
        """Return it as the keys of a JSON object."""
        names = ("undone", "same", "overtaken", "repeated", "opted_out", "were_in", "no_value", "repeated_by")
        by = [
            {"state": one.state.value, "import": one.import_id, "name": one.name, "slots": one.slots}
            for one in self.shares
            if one.import_id
        ]
        back = {"back_to": {state.value: n for state, n in self.back_to.items()}, "back_to_by": by}
        return {name: getattr(self, name) for name in names} | back | {"cannot_undo": self.listed}
