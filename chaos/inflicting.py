"""Inflicting the faults of a plan on an estate, and timing how long each one was felt."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
import psutil

from chaos.estate import Estate
from chaos.plan import STOPS, Fault, order
from consent.errors import OptrelayError


@dataclass
class Inflicting:
    """What was done to an estate: how often, and when (monotonic seconds)."""

    estate: Estate
    client: httpx.Client
    done: Counter[str] = field(default_factory=Counter)
    moments: list[tuple[float, str]] = field(default_factory=list)
    later: list[threading.Timer] = field(default_factory=list)

    def inflict(self, fault: Fault) -> bool:
        """Do one fault now; return False if there is no one to do it to."""
        acts: dict[str, Callable[[], object]] = {
            "flushall": self.estate.flush,
            "postgresql restarts": self.estate.restart_database,
            "disk full": lambda: self._fill(fault.lasts),
        }
        if fault.kills:
            happened = self._signal(fault, signal.SIGKILL)
        elif fault.kind in STOPS:
            happened = self._stop(fault)
        else:
            acts.get(fault.kind, lambda: self._order(fault))()
            happened = True
        if happened:
            self.done[fault.kind] += 1
            self.moments.append((time.monotonic() + fault.lasts, fault.kind))
        return happened

    def wait(self) -> None:
        """Wait until whatever lasts is over."""
        for timer in self.later:
            timer.join()

    def _victim(self, fault: Fault) -> psutil.Process | None:
        with suppress(psutil.NoSuchProcess):
            found = self.estate.victims(fault.kind)
            return found[int(fault.draw * len(found))] if found else None
        return None

    def _signal(self, fault: Fault, number: int) -> bool:
        with suppress(psutil.NoSuchProcess):
            if (victim := self._victim(fault)) is not None:
                victim.send_signal(number)
                return True
        return False

    def _stop(self, fault: Fault) -> bool:
        with suppress(psutil.NoSuchProcess):
            if (victim := self._victim(fault)) is not None:
                group = [victim, *(victim.children() if fault.kind == "stop worker" else [])]
                for process in group:
                    process.send_signal(signal.SIGSTOP)
                self._afterwards(fault.lasts, lambda: _go_on(group))
                return True
        return False

    def _fill(self, seconds: float) -> None:
        self.estate.fill_disk()
        self._afterwards(seconds, self.estate.free_disk)

    def _order(self, fault: Fault) -> None:
        self.client.post("/_sandbox/faults", json=order(fault.kind, fault.lasts)).raise_for_status()

    def _afterwards(self, seconds: float, act: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, act)
        timer.daemon = True
        self.later.append(timer)
        timer.start()


def _go_on(group: list[psutil.Process]) -> None:
    for process in group:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)


@dataclass
class Pulse:
    """How many calls the provider had answered well, and whether there was anything to do, every quarter second."""

    client: httpx.Client
    busy: Callable[[], bool]
    beats: list[tuple[float, int, bool]] = field(default_factory=list)

    def feel(self) -> None:
        """Take the pulse once."""
        found = self.client.get("/_sandbox/stats", params={"users": 0}).json()
        busy = self.beats[-1][2] if self.beats else False
        with suppress(OptrelayError):
            busy = self.busy()
        self.beats.append((time.monotonic(), int(found["by_status"].get("200", 0)), busy))

    def usual(self) -> float:
        """Return how many calls a second were answered well while there was something to do."""
        pairs = [(one, two) for one, two in zip(self.beats, self.beats[1:], strict=False) if one[2] and two[2]]
        seconds = sum(two[0] - one[0] for one, two in pairs)
        return sum(two[1] - one[1] for one, two in pairs) / seconds if seconds else 0.0

    def recovery(self, moment: float, usual: float) -> float:
        """Return the seconds from a fault's end until a third of the usual calls, or nothing more to do."""
        after = [beat for beat in self.beats if beat[0] >= moment]
        for first, last in zip(after, after[4:], strict=False):
            idle = not first[2]
            if idle or last[1] - first[1] >= usual / 3 * (last[0] - first[0]):
                return first[0] - moment
        return 0.0 if len(after) < 5 else after[-1][0] - moment
