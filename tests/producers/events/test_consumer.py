"""The loop of a listener: nothing is acknowledged that is not recorded, and nothing stops it but a signal."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

from consent.errors import LedgerUnavailable, SourceUnavailable
from producers.events.consumer import Listener
from producers.events.event import Event
from producers.events.ingest import Result
from producers.events.sources.source import MOST_BYTES


class Script:
    """Source, intake and the one who is told, in one: it notes what happens in which order."""

    kind = name = "script"

    def __init__(
        self,
        *steps: Any,
        recorded: Sequence[Any] = (),
        acknowledged: Sequence[Any] = (),
        kept: Sequence[Any] = (),
        checked: Sequence[Any] = (),
    ) -> None:
        self.steps, self.seen = list(steps), []
        self.troubles = {"take": list(recorded), "acknowledge": list(acknowledged)}
        self.troubles["keep"], self.troubles["check"] = list(kept), list(checked)
        self.paused, self.asked = 0.0, []
        self.read_to: list[datetime] = []

    def read(self, most: int, wait_seconds: float, most_bytes: int) -> list[Event]:
        """Give the next batch, or fail as the script says."""
        assert wait_seconds == 0.5
        self.asked.append((most, most_bytes))
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            self.seen.append("no source")
            raise step
        self.seen.append(f"read {len(step)}")
        return step

    def take(self, events: list[Event]) -> list[list[Result]]:
        """Record a batch, or fail as the script says."""
        self._perhaps("take")
        self.seen.append(f"commit {len(events)}")
        return [[Result("accepted")] for _ in events]

    def acknowledge(self, events: list[Event]) -> None:
        """Acknowledge a batch, or fail as the script says."""
        self._perhaps("acknowledge")
        self.seen.append(f"acknowledge {len(events)}")

    def recording(self) -> nullcontext[None]:
        """Keep the connection."""
        return nullcontext()

    def keep_alive(self) -> None:
        """Keep the connection, or lose it as the script says."""
        self._perhaps("keep")

    def check(self) -> None:
        """Say whether anything can be recorded, as the script says."""
        self._perhaps("check")
        self.seen.append("checked")

    def end_abandoned(self) -> None:
        """Tidy up."""

    def close(self) -> None:
        """Note that someone was closed."""
        self.seen.append("close")

    def took(self, results: list[list[Result]]) -> None:
        """Hear of a batch."""

    def trouble(self, message: str) -> None:
        """Hear of trouble."""
        self.seen.append(f"told: {message}")

    def recovered(self) -> None:
        """Hear that it is over."""
        self.seen.append("told: well again")

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        self.paused += seconds

    def run(self) -> list[str]:
        """Listen until the script is over; return what happened before the end."""
        Listener(self, self, self, lambda: not self.steps, 7, self.pause, read_to=self.read_to.append).run()
        assert self.seen[-2:] == ["close", "close"]  # the source and the run
        return self.seen[:-2]

    def _perhaps(self, what: str) -> None:
        trouble = self.troubles[what].pop(0) if self.troubles[what] else None
        if trouble:
            raise trouble


ONE = [Event(b"{}")]


def test_a_batch_is_acknowledged_after_its_commit() -> None:
    """First in the ledger, then out of the source; a read that brings nothing records nothing."""
    assert Script(ONE, [], ONE * 2).run() == [
        *("read 1", "commit 1", "acknowledge 1"),
        "read 0",
        *("read 2", "commit 2", "acknowledge 2"),
    ]


NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


def test_it_is_told_until_when_the_source_was_read() -> None:
    """A backlog is as old as its newest recorded event; a source that has no more was read to its end just now.

    A failure says nothing, nor does a whole batch of events without times.
    """
    late = [Event(b"{}", since=NOON - timedelta(hours=hours)) for hours in (3, 1, 2)]
    before = datetime.now(UTC)
    script = Script(late, SourceUnavailable("gone"), ONE * 7, ONE, [], recorded=[AWAY])
    script.run()
    first, *now = script.read_to
    assert first == NOON - timedelta(hours=1)
    assert len(now) == 2
    assert before <= now[0] <= now[1] <= datetime.now(UTC)


AWAY = LedgerUnavailable("away")


def test_what_could_not_be_recorded_stays_in_hand() -> None:
    """Ten people's opt-outs were dropped by their broker: each try to record them had given them back once more.

    While the ledger is away nothing is given back and nothing is read; it is told once, and once when it is over.
    """
    assert Script(ONE, ONE, recorded=[AWAY] * 5).run() == [
        *("read 1", "told: away", "commit 1", "acknowledge 1", "told: well again"),
        *("read 1", "commit 1", "acknowledge 1"),
    ]


def test_a_connection_that_is_lost_meanwhile_gives_everything_back_once() -> None:
    """Before it is read again the ledger is asked, so that nothing is given back twice."""
    lost = SourceUnavailable("gone")

    assert Script(ONE, ONE, recorded=[AWAY], kept=[lost], checked=[AWAY, AWAY]).run() == [
        *("read 1", "told: away", "close"),
        *("checked", "read 1", "commit 1", "acknowledge 1", "told: well again"),
    ]


def test_a_batch_that_does_not_fit_is_halved() -> None:
    """A listener on a small machine ended, started again, ended at the same events, and recorded no one's opt-out."""
    script = Script(MemoryError(), ONE, recorded=[MemoryError()])
    script.steps.append(ONE)

    assert script.run() == [
        *("no source", "told: there is not enough memory: from now on at most 3 events at once", "close"),
        *("read 1", "close"),
        *("read 1", "commit 1", "acknowledge 1", "told: well again"),
    ]
    assert [most for most, _ in script.asked] == [7, 3, 1]
    assert [most_bytes * divisor for (_, most_bytes), divisor in zip(script.asked, (1, 2, 4), strict=True)] == [
        MOST_BYTES
    ] * 3


def test_an_acknowledgement_that_was_lost_is_no_end() -> None:
    """The events come again, and the ledger knows them."""
    assert Script(ONE, ONE, acknowledged=[SourceUnavailable("gone")]).run() == [
        *("read 1", "commit 1", "told: gone", "close"),
        *("read 1", "commit 1", "acknowledge 1", "told: well again"),
    ]


def test_a_source_that_stays_away_is_asked_less_and_less_often() -> None:
    """The waits grow, and never beyond half a minute."""
    few = Script(*[SourceUnavailable("gone")] * 4, ONE)
    many = Script(*[SourceUnavailable("gone")] * 30, ONE)

    assert few.run().count("told: gone") == 1
    many.run()
    assert 0.5 * (0.5 + 1 + 2 + 4) <= few.paused <= 0.5 + 1 + 2 + 4 + 0.1
    assert 24 * 15 < many.paused < 30 * 30


def test_a_signal_is_heard_while_waiting() -> None:
    """No one waits half a minute for a listener to end that can reach nothing."""
    script = Script(*[SourceUnavailable("gone")] * 20)
    script.pause = lambda _: script.steps.clear()  # the signal comes

    assert script.run() == ["no source", "told: gone", "close"]
