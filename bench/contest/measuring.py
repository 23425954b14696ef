"""Have one contestant do the work once, and say how fast, at what cost, and how well."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.contest.contestants import Contestant
from bench.contest.stage import Stage, a_stage
from bench.contest.watching import Processor, Surroundings, spent_before_opening, watching
from bench.contest.work import WARM_UP_CUSTOMER, Work, write_work
from bench.worker.fast_server import fast_server
from bench.yardstick import yardstick
from chaos.verdict import own_errors

WARM_UP_ROWS = 40
STALLED_SECONDS = 30.0
SLOWEST_ROWS_PER_SECOND = 50
STOOD_STILL_SECONDS = 3.0
"""A pause so long is not the machine's: what the programs wrote meanwhile is shown."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one contestant needed for one file; memory in megabytes, `peaks` and `cpu_by_role` by role.

    `seconds` go from the producer's start to the last answer, or to its own end where it waits for that.
    `calls_per_second` goes by the provider's clock, from the first call to the last; `longest_pause` are the most
    seconds between one call and the next, which tell a run that was slow from one that stood still. `wrong_overtaken`
    are slots that end wrong although the file's order was right; `wrong_by_order` those where only `effective_at` tells
    the newest. `ledger_mb` is what the ledger grew by on disk. `elsewhere` is the share of the machine that others used
    meanwhile: what goes by the clock is not to be trusted if it is large. `yardstick_us` is what the yardstick cost
    meanwhile, and `cpu_starting` what the producer's own start cost, until it opened the file; it is part of
    `cpu_seconds`.
    """

    key: str
    name: str
    latency_ms: float
    rows: int
    seconds: float
    rows_per_second: float
    calls: int
    calls_per_second: float
    longest_pause: float
    calls_over_ideal: float
    cpu_seconds: float
    cpu_by_role: dict[str, float]
    cpu_us_per_call: float
    cpu_us_per_row: float
    peak_mb: float
    peaks: dict[str, float]
    ledger_mb: float
    wrong_overtaken: int
    wrong_by_order: int
    server_idle: float
    elsewhere: float
    yardstick_us: float
    cpu_starting: float

    def as_json(self) -> dict[str, Any]:
        """Return it as it is written down."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


@dataclass(slots=True)
class Attempt:
    """A contestant on its stage."""

    contestant: Contestant
    stage: Stage
    python: str

    def command(self, arguments: tuple[str, ...]) -> list[str]:
        """Put the interpreter in its place."""
        return [argument.format(python=self.python, bin=str(Path(self.python).parent)) for argument in arguments]

    def prepare(self) -> None:
        """Run what must be run once."""
        if self.contestant.before:
            process = self.stage.start(self.command(self.contestant.before), "before.log")
            assert process.wait(60) == 0, self.stage.read_log("before.log")

    def deliver(self, work: Work, process: subprocess.Popen[bytes], calls_before: int) -> float:
        """Wait until the work is done; return that moment, on the monotonic clock."""
        code = process.wait(STALLED_SECONDS * 10 + work.rows / SLOWEST_ROWS_PER_SECOND)
        assert code == 0, f"{self.contestant.name} ended with {code}: {self.stage.read_log('producing.log')[-3000:]}"
        if self.contestant.finishes_alone:
            return time.monotonic()
        return self._last_call(work, calls_before)

    def start(self, work: Work) -> subprocess.Popen[bytes]:
        """Start what reads the file."""
        return self.stage.start([*self.command(self.contestant.producing), str(work.path)], "producing.log")

    def _last_call(self, work: Work, calls_before: int) -> float:
        """Wait for as many calls as the work needs, or until none comes any more."""
        seen, moved = -1, time.monotonic()
        while True:
            moments = self.stage.server.stats()["moments"]
            if len(moments) != seen:
                seen, moved = len(moments), time.monotonic()
            if seen - calls_before >= work.rows or time.monotonic() - moved > STALLED_SECONDS:
                return float(moments[-1])
            time.sleep(max(0.5, seen / 25_000))


def measure(
    contestant: Contestant, rows: int, latency: float, python: str = sys.executable, *, apart: bool = True
) -> Result:
    """Have a contestant deliver a file of `rows` rows to a server that answers after `latency` seconds.

    `apart` is whether customers' rows stand far from each other.
    """
    with tempfile.TemporaryDirectory(prefix="bench") as name, fast_server(latency) as server:
        folder = Path(name)
        work = write_work(folder / "nightly.csv", rows, apart=apart)
        with a_stage(folder, server, broker=contestant.needs_broker, ledger=contestant.ledger) as stage:
            attempt = Attempt(contestant, stage, python)
            attempt.prepare()
            standing = [attempt.command(arguments) for arguments in contestant.standing]
            pids = stage.stand(standing, contestant.ready)
            if standing:
                _warm_up(attempt)
            return _measured(attempt, work, latency, (*stage.pids, *pids))


def _warm_up(attempt: Attempt) -> None:
    work = write_work(attempt.stage.folder / "warm.csv", WARM_UP_ROWS, WARM_UP_CUSTOMER)
    attempt.deliver(work, attempt.start(work), 0)


def _measured(attempt: Attempt, work: Work, latency: float, pids: tuple[int, ...]) -> Result:
    server, contestant = attempt.stage.server, attempt.contestant
    before = len(server.stats()["moments"])
    megabytes = attempt.stage.ledger_megabytes()
    around, processor = Surroundings(server.pid), Processor(pids)
    with yardstick() as speed, watching(pids) as watch:
        started = time.monotonic()
        process = attempt.start(work)
        watch.follow(process.pid)
        starting = spent_before_opening(process.pid, work.path)
        ended = attempt.deliver(work, process, before)
    cpu = processor.seconds(watch.seconds())
    used = sum(cpu.values())
    idle, elsewhere = around.idle(), around.elsewhere(used)
    moments = server.stats()["moments"][before:]
    overtaken, by_order = work.wrong(server.held())
    calls, seconds = len(moments), ended - started
    longest_pause = max((later - earlier for earlier, later in pairwise(moments)), default=0.0)
    if longest_pause >= STOOD_STILL_SECONDS:
        why = around.describe(watch.longest_gap)
        print(f"{contestant.name} made no call for {longest_pause:.1f} s: {why}; its programs wrote:", file=sys.stderr)
        print(attempt.stage.read_logs(), file=sys.stderr)
    for line in own_errors(attempt.stage.folder):
        print(f"{contestant.name}: {line}", file=sys.stderr)
    return Result(
        key=contestant.key,
        name=contestant.name,
        latency_ms=latency * 1000,
        rows=work.rows,
        seconds=seconds,
        rows_per_second=work.rows / seconds,
        calls=calls,
        calls_per_second=calls / (moments[-1] - moments[0]),
        longest_pause=longest_pause,
        calls_over_ideal=calls / work.customers,
        cpu_seconds=used,
        cpu_by_role=cpu,
        cpu_us_per_call=used / calls * 1e6,
        cpu_us_per_row=used / work.rows * 1e6,
        peak_mb=max(most for role, most in watch.peaks.items() if role != "database"),
        peaks=watch.peaks,
        ledger_mb=attempt.stage.ledger_megabytes() - megabytes,
        wrong_overtaken=overtaken,
        wrong_by_order=by_order,
        server_idle=idle,
        elsewhere=elsewhere,
        yardstick_us=speed.microseconds,
        cpu_starting=starting,
    )
