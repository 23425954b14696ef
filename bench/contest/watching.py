"""What processes cost: seconds of CPU of whole families, and the most memory that any one process had."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

EVERY_SECONDS = 0.2
OPENED_EVERY_SECONDS = 0.005
_MEGABYTE = 1024


class Processor:
    """Seconds of CPU from now on: of the processes named with all that they start, and of the producer.

    A process that has ended counts for its parent, so nothing is lost as long as those named live on.
    """

    def __init__(self, living: Iterable[int]) -> None:
        self._living = [psutil.Process(pid) for pid in living]
        self._before = self._now()

    def seconds(self, seen: dict[str, float]) -> dict[str, float]:
        """Return what each role has used since; `seen` is what `Watch` saw of the producer's family, now ended."""
        found = {role: used - self._before[role] for role, used in self._now().items()}
        if found["producer"] < sum(seen.values()):
            del found["producer"]
            found = {role: found.get(role, 0.0) + seen.get(role, 0.0) for role in {*found, *seen}}
        return {role: round(used, 3) for role, used in sorted(found.items())}

    def _now(self) -> dict[str, float]:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = {"producer": ended.ru_utime + ended.ru_stime}
        for one in self._living:
            role = role_of(one)
            found[role] = found.get(role, 0.0) + _seconds(one)
        return found


def _seconds(process: psutil.Process) -> float:
    found = 0.0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            found += sum(one.cpu_times()[:4])
    return found


def spent_before_opening(pid: int, path: Path) -> float:
    """Wait until a process has opened a file; return the seconds of CPU that it had used by then (0: it never did)."""
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            if str(path) in (one.path for one in process.open_files()):
                return float(sum(process.cpu_times()[:2]))
            time.sleep(OPENED_EVERY_SECONDS)
    return 0.0


class Surroundings:
    """How busy the provider and the rest of the machine are, from now on."""

    def __init__(self, server: int) -> None:
        self._server = psutil.Process(server)
        self._before, self._outside = self._now(), _outside()

    def idle(self) -> float:
        """Return the share of the time in which the provider did nothing."""
        now = self._now()
        return 1 - (now[1] - self._before[1]) / (now[0] - self._before[0])

    def elsewhere(self, used: float) -> float:
        """Return the share of all cores that others had; `used` are the measured processes' seconds of CPU."""
        wall, server, own, machine = (now - before for now, before in zip(self._now(), self._before, strict=True))
        return max(0.0, (machine - server - own - used) / (wall * (psutil.cpu_count() or 1)))

    def describe(self, longest_gap: float) -> str:
        """Say what of a pause may be the machine's; `longest_gap` is that of the `Watch`."""
        disk, clock = (now - before for now, before in zip(_outside(), self._outside, strict=True))
        return (
            f"this machine waited {disk:.1f} s for its disk, its clock was set by {clock:.1f} s, "
            f"and the bench itself stood still for {longest_gap:.1f} s"
        )

    def _now(self) -> tuple[float, float, float, float]:
        machine = psutil.cpu_times()
        busy = machine.user + machine.system + getattr(machine, "steal", 0.0)
        return time.monotonic(), float(sum(self._server.cpu_times()[:2])), time.process_time(), busy


def _outside() -> tuple[float, float]:
    """Return for how many seconds programs have waited for the disk (Linux tells), and how far clocks are apart."""
    waited = 0.0
    with suppress(OSError, ValueError):
        waited = int(Path("/proc/pressure/io").read_text().split("total=")[1].split()[0]) / 1e6
    return waited, time.time() - time.monotonic()


class Watch:
    """Looks at processes a few times a second: the most megabytes of each role, and what the producer's family used.

    `longest_gap` are the most seconds between two looks: if that is long, nothing could run on this machine. What
    `optrelay run` starts is killed in the end, and then counts for no one who waited; so it is seen in time here.
    """

    def __init__(self, standing: Iterable[int]) -> None:
        self.peaks: dict[str, float] = {}
        self.longest_gap = 0.0
        self._standing = tuple(standing)
        self._producer: int | None = None
        self._used: dict[int, tuple[str, float]] = {}
        self._ended = threading.Event()

    def follow(self, producer: int) -> None:
        """Look at the producer, and all that it starts, from now on."""
        self._producer = producer

    def seconds(self) -> dict[str, float]:
        """Return the seconds of CPU that each role of the producer's family was seen to have used."""
        found: dict[str, float] = {}
        for role, used in self._used.values():
            found[role] = found.get(role, 0.0) + used
        return found

    def watch(self) -> None:
        """Look until told to end."""
        before = time.monotonic()
        while not self._ended.wait(EVERY_SECONDS):
            now = time.monotonic()
            before, self.longest_gap = now, max(self.longest_gap, now - before)
            for root in self._standing:
                self._look(root, producing=False)
            if self._producer is not None:
                self._look(self._producer, producing=True)

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()

    def _look(self, root: int, *, producing: bool) -> None:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(root)
            for one in (process, *process.children(recursive=True)):
                self._note(one, producing=producing)

    def _note(self, process: psutil.Process, *, producing: bool) -> None:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            known = self._used.get(process.pid)  # one that has ended, and is not waited for yet, has lost its name
            role = known[0] if known and process.status() == psutil.STATUS_ZOMBIE else role_of(process)
            self.peaks[role] = max(self.peaks.get(role, 0.0), _peak(process))
            if producing:
                self._used[process.pid] = (role, float(sum(process.cpu_times()[:2])))


def _peak(process: psutil.Process) -> float:
    """Return the most memory that a process had so far, in megabytes; what it has now where no system tells that."""
    with suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / _MEGABYTE
    return float(process.memory_info().rss) / _MEGABYTE**2


def role_of(process: psutil.Process) -> str:
    """Say what a process is: database, broker, worker, sweep, or producer (whatever reads the file)."""
    name = process.name()
    if "postgres" in name:
        return "database"
    if "valkey" in name or "redis" in name:
        return "broker"
    if name == "optrelay-worker":
        return "worker"
    arguments = process.cmdline()
    return next(
        (role for role in ("worker", "sweep") if role in arguments), "worker" if "arq" in str(arguments) else "producer"
    )


@contextmanager
def watching(standing: Iterable[int]) -> Iterator[Watch]:
    """Watch processes and all that they start, until the end of the block."""
    watch = Watch(standing)
    thread = threading.Thread(target=watch.watch, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.end()
        thread.join()
