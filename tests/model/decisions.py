"""What decisions about imports come to, by a plain list of what counts: the oracle of `test_decisions`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from consent.change import Action
from consent.times import to_micros
from tests.support.ledgers import MORNING

OUT = Action.OPTOUT


class Statement(NamedTuple):
    """A row of a file or an event: known again by all that it says."""

    who: str
    action: Action
    minute: int


@dataclass(eq=False)
class File:
    """An import: what it was the first to say, and so owns; whether that is held, and whether it was undone.

    Of one that was `undone` its opt-ins do not count as what was before, of one that was undone `wholly` nothing does.
    """

    import_id: str = ""
    own: list[Statement] = field(default_factory=list)
    held: list[Statement] = field(default_factory=list)
    undone: bool = False
    wholly: bool = False
    gone: list[Statement] = field(default_factory=list)


class Oracle:
    """Each person's state is the newest of all that counts, and on a tie the opt-out: nothing else is known of order.

    What is held or withdrawn does not count. Undoing adds what was before, one microsecond behind the mistake.
    """

    def __init__(self) -> None:
        self.counts: dict[tuple[str, int, Action], File | None] = {}
        self.undoing: set[tuple[str, int, Action]] = set()
        self.mistakes: set[tuple[str, int, Action]] = set()

    def stands(self) -> dict[str, str]:
        """What each person's slot holds."""
        return {who: self._newest(who)[2].value for who in {who for who, *_ in self.counts}}

    def _newest(self, who: str) -> tuple[str, int, Action]:
        its = [one for one in self.counts if one[0] == who]
        return max(its, key=order)

    def would_return(self, file: File) -> bool:
        """Whether the file opts a person in again who stands at an opt-out."""
        standing = self.stands()
        best = {
            statement.who: statement
            for statement in sorted(file.held, key=lambda statement: (statement.minute, statement.action == OUT))
        }
        return any(
            statement.action == Action.OPTIN
            and standing.get(statement.who) == OUT
            and order(version(statement)) > order(self._newest(statement.who))
            for statement in best.values()
        )

    def publish(self, file: File | None, statements: Sequence[Statement]) -> None:
        """Let these count."""
        for one in statements:
            self.counts.setdefault(version(one), file)

    def undo(self, file: File, *, opt_in_again: bool) -> None:
        """Add what was before behind each mistake that stands, as far as that opts no person in unasked."""
        file.undone, file.wholly = True, file.wholly or opt_in_again
        for who in {who for (who, *_), owner in self.counts.items() if owner is file}:
            newest = self._newest(who)
            if not self._is_past(newest, file):
                continue
            before = self._before(who, file)
            wanted = OUT if before is None else before[2]
            if wanted != newest[2] and (wanted == OUT or opt_in_again):
                self._compensate(newest, wanted)

    def _is_past(self, version: tuple[str, int, Action], file: File) -> bool:
        """Whether this is of the file, of one that was undone, or undoes something."""
        owner = self.counts[version]
        if version in self.undoing or owner is file:
            return True
        return owner is not None and (owner.undone if version[2] == Action.OPTIN else owner.wholly)

    def _before(self, who: str, file: File) -> tuple[str, int, Action] | None:
        left = (one for one in self.counts if one[0] == who and not self._is_past(one, file))
        its = [one for one in left if one not in self.mistakes]
        return max(its, key=order, default=None)

    def _compensate(self, mistake: tuple[str, int, Action], wanted: Action) -> None:
        made = (mistake[0], mistake[1] + 1, wanted)
        self.counts[made] = None
        self.undoing.add(made)
        self.mistakes.add(mistake)


def version(statement: Statement) -> tuple[str, int, Action]:
    """What of a row decides order: whose it is, since when, and what."""
    return statement.who, to_micros(MORNING + timedelta(minutes=statement.minute)), statement.action


def order(version: tuple[str, int, Action]) -> tuple[int, bool]:
    """The newest is the greatest, on a tie the opt-out."""
    return version[1], version[2] == OUT
