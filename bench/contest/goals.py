"""The goals, as ratios within one run, and whether they are met."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from bench.contest.contestants import OURS, RIVALS, SAME_TRANSPORT
from bench.contest.measuring import Result

GROSS = 2.0
"""A goal missed by this factor is grossly missed."""

BUSY = 0.15
"""With more than this share of the machine taken by others, the clock says nothing about us."""

Say = Callable[..., "Verdict"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal for one contestant: `at_least` says on which side of the goal a value is good.

    `disturbed` means that it goes by the clock, and that others used the machine meanwhile.
    """

    key: str
    name: str
    latency_ms: float
    goal: str
    value: float
    limit: float
    at_least: bool = False
    disturbed: bool = False

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def grossly_missed(self) -> bool:
        """Whether not even half of it is."""
        return self.value < self.limit / GROSS if self.at_least else self.value > self.limit * GROSS


def verdicts(results: Iterable[Result]) -> Iterator[Verdict]:
    """Judge every result of ours against the others of the same latency; goals without a counterpart are left out."""
    found = list(results)
    for latency in sorted({one.latency_ms for one in found}):
        same = {one.key: one for one in found if one.latency_ms == latency}
        rivals = [same[key] for key in sorted(RIVALS & same.keys())]
        for key in sorted(OURS & same.keys()):
            say = partial(Verdict, key, same[key].name, latency)
            if rivals:
                yield from _beside_rivals(say, same[key], rivals)
            if SAME_TRANSPORT in same:
                yield from _beside_script(say, same[key], same[SAME_TRANSPORT])
            yield say("calls ÷ customers", same[key].calls_over_ideal, 1.02)
            yield say("most memory of a process, MB", same[key].peak_mb, 200.0)
            yield say("wrong final states", float(same[key].wrong_overtaken + same[key].wrong_by_order), 0.0)


def _beside_rivals(say: Say, ours: Result, rivals: list[Result]) -> Iterator[Verdict]:
    fastest = max(rivals, key=lambda one: one.rows_per_second)
    cheapest = min(one.cpu_us_per_row for one in rivals)
    speed = ours.rows_per_second / fastest.rows_per_second
    yield say("rows/s ÷ the fastest task queue", speed, 8.0, at_least=True, disturbed=_busy(ours, fastest))
    yield say("rows per CPU second ÷ the best task queue", cheapest / ours.cpu_us_per_row, 8.0, at_least=True)


def _beside_script(say: Say, ours: Result, script: Result) -> Iterator[Verdict]:
    speed = ours.rows_per_second / script.rows_per_second
    yield say("rows/s ÷ plain script, same transport", speed, 0.8, at_least=True, disturbed=_busy(ours, script))
    yield say("CPU per call ÷ plain script's", ours.cpu_us_per_call / script.cpu_us_per_call, 1.4)


def _busy(*results: Result) -> bool:
    return any(one.elsewhere > BUSY for one in results)
