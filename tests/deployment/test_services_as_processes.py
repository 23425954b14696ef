"""What docker-compose.yml would start, started here as plain processes: its own commands, environment and flags.

Only what a container would provide is replaced: host names and ports, and the folder that is mounted.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis

from console.local.broker import broker_binary
from tests.deployment.compose import Service, env_example, services
from tests.support.company import assert_balanced
from worker.heartbeat import SILENT_SECONDS

PASSWORDS = {"POSTGRES_PASSWORD": "postgres0secret", "BROKER_PASSWORD": "broker0secret"}
FAST = {"OPTRELAY_CONNECTIONS__CAPILLARY__RATE": "200/second"}
CUSTOMERS = 80  # fewer than the sandbox takes in a minute


@dataclass
class Host:
    """A machine that runs the services of the compose file without containers."""

    folder: Path
    ledger_url: str
    dotenv: dict[str, str] = field(default_factory=lambda: env_example(demo=True) | PASSWORDS | FAST)
    ports: dict[str, int] = field(default_factory=lambda: {"broker": _free_port(), "sandbox": _free_port()})

    def __post_init__(self) -> None:
        self.services = services(self.dotenv)
        (self.folder / "files").mkdir()

    @contextmanager
    def up(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a service until the end of the block, where it must end on its signal within its grace period."""
        process = self._start(self.services[name], *self._place(name))
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(self.services[name].grace) in {0, 128 + signal.SIGTERM, -signal.SIGTERM}, name
        finally:
            _end_all(process)

    def run(self, name: str, *instead: str) -> tuple[int, str]:
        """Run a one-shot service to its end, as `docker compose run NAME …` does; return exit code and output."""
        service = self.services[name]
        if instead:
            service = Service(name, {**service.keys, "command": list(instead)})
        return self._finish(self._start(service))

    def exec(self, name: str, *command: str) -> tuple[int, str]:
        """Run a command inside a service, as `docker compose exec NAME …` does."""
        keys = self.services[name].keys
        return self._finish(self._start(Service(name, {**keys, "entrypoint": [], "command": list(command)})))

    def healthy(self, name: str) -> bool:
        """Run a service's health check once."""
        kind, *test = self.services[name].keys["healthcheck"]["test"]
        return self.exec(name, *(["sh", "-c", *test] if kind == "CMD-SHELL" else test))[0] == 0

    def log(self, name: str) -> str:
        """What a service wrote."""
        return (self.folder / f"{name}.log").read_text()

    def _start(self, service: Service, *more: str) -> subprocess.Popen[bytes]:
        arguments = [self._here(argument) for argument in [*service.command, *more]]
        with (self.folder / f"{service.name}.log").open("ab") as log:
            return subprocess.Popen(
                [_program(arguments[0]), *arguments[1:]],
                cwd=self.folder,
                env=self._environment(service),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if service.keys["restart"] == "no" or not service.keys["command"] else log,
                stderr=log,
            )

    def _finish(self, process: subprocess.Popen[bytes]) -> tuple[int, str]:
        out, _ = process.communicate(timeout=60)
        return process.returncode, (out or b"").decode()

    def _environment(self, service: Service) -> dict[str, str]:
        variables = {name: self._here(value) for name, value in service.environment(self.dotenv).items()}
        if "OPTRELAY_LEDGER_URL" in variables:
            assert "@database:5432/optrelay" in variables["OPTRELAY_LEDGER_URL"]
            variables["OPTRELAY_LEDGER_URL"] = self.ledger_url
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {"PATH": path, "HOSTNAME": socket.gethostname(), "TMPDIR": str(self.folder), **variables}

    def _here(self, argument: str) -> str:
        swaps = {
            f"{name}:{port}": f"127.0.0.1:{self.ports[name]}" for name, port in (("broker", 6379), ("sandbox", 8000))
        }
        swaps |= {"127.0.0.1:8000": swaps["sandbox:8000"], "/files/": f"{self.folder}/files/", "0.0.0.0": "127.0.0.1"}
        for theirs, ours in swaps.items():
            argument = argument.replace(theirs, ours)
        return str(self.ports["sandbox"]) if argument == "8000" else argument

    def _place(self, name: str) -> list[str]:
        return (
            ["--port", str(self.ports[name]), "--bind", "127.0.0.1", "--dir", str(self.folder)]
            if name == "broker"
            else []
        )


def _program(name: str) -> str:
    if name == "valkey-server":
        return broker_binary()
    ours = Path(sys.executable).with_name(name)
    return str(ours) if ours.exists() else shutil.which(name) or name


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end_all(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
        for one in [*children, psutil.Process(process.pid)]:
            one.kill()
        process.wait()


def _until(what: Callable[[], Any], limit: float = 30) -> Any:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        try:
            if found := what():
                return found
        except (httpx.HTTPError, redis.RedisError):
            pass
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


@pytest.fixture
def host(tmp_path: Path, postgres_database: str) -> Host:
    """A machine with a PostgreSQL and nothing else yet."""
    return Host(tmp_path, postgres_database)


@pytest.mark.takes(15)
@pytest.mark.proof
def test_an_import_goes_through_the_composed_services(host: Host) -> None:
    """Broker, migration, worker, sweep and sandbox, started as the compose file says, deliver an import.

    It is sealed in the end; the health checks pass, and a worker that hangs fails its own; each service ends on SIGTERM
    within its grace period; no password is in a log.
    """
    with ExitStack() as stack:
        stack.enter_context(host.up("broker"))
        stack.enter_context(host.up("sandbox"))
        _until(lambda: _broker(host, PASSWORDS["BROKER_PASSWORD"]).ping())
        code, output = host.run("migrate")
        assert code == 0, host.log("migrate")
        assert "migrated from nothing" in output
        worker = stack.enter_context(host.up("worker"))
        stack.enter_context(host.up("sweep"))
        _write(host.folder / "files" / "nightly.csv")
        assert host.healthy("sandbox")

        code, _ = host.run("import", "/files/nightly.csv", "--json")
        assert code == 0, host.log("import")
        found = _until(lambda: _sealed(host))

        assert_balanced(found)
        assert found["applied"] == found["rows"] == CUSTOMERS
        assert len(httpx.get(f"http://127.0.0.1:{host.ports['sandbox']}/_sandbox/state").json()["customers"]) > 0
        assert host.healthy("worker"), host.log("worker")
        assert host.healthy("sweep"), host.log("sweep")
        worker.send_signal(signal.SIGSTOP)
        _until(lambda: not host.healthy("worker"), SILENT_SECONDS + 30)
        worker.send_signal(signal.SIGCONT)
    assert _no_one_left(host)
    for name in ("broker", "worker", "sweep", "import", "migrate"):
        assert not any(secret in host.log(name) for secret in (*PASSWORDS.values(), "demo-password"))


def test_the_broker_refuses_strangers_and_remembers(host: Host) -> None:
    """Without the password the broker says nothing; what it was told before a restart it still knows afterwards."""
    with host.up("broker"):
        ours = _broker(host, PASSWORDS["BROKER_PASSWORD"])
        _until(ours.ping)
        ours.set("pace", "1")
        with pytest.raises(redis.AuthenticationError):
            _broker(host, None).get("pace")
    with host.up("broker"):
        _until(_broker(host, PASSWORDS["BROKER_PASSWORD"]).ping)
        assert _broker(host, PASSWORDS["BROKER_PASSWORD"]).get("pace") == b"1"


@pytest.mark.proof
def test_a_listener_records_the_events_of_a_stream(host: Host) -> None:
    """The listener of the compose file, told the broker's own stream, records an event and ends well."""
    secret = PASSWORDS["BROKER_PASSWORD"]
    host.dotenv["OPTRELAY_SOURCE_URL"] = f"redis://:{secret}@broker:6379/0?stream=consent&group=optrelay"
    event = {"user_id": "500000001", "channel": "EMAIL", "priority": "BULK", "action": "OPTOUT"}
    with host.up("broker"):
        _until(lambda: _broker(host, secret).ping())
        assert host.run("migrate")[0] == 0
        _broker(host, secret).xadd("consent", event)
        with host.up("listener"):
            _until(lambda: "1 accepted" in host.log("listener"))
            assert host.healthy("listener")
            assert _broker(host, secret).xpending("consent", "optrelay")["pending"] == 0
    assert secret not in host.log("listener")


def _broker(host: Host, password: str | None) -> redis.Redis:
    return redis.Redis(port=host.ports["broker"], password=password)


def _write(path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "channel", "priority", "action", "effective_at"])
        writer.writerows(
            [str(500_000_000 + n), "EMAIL", "BULK", "OPTOUT", "2026-11-20T08:00:00Z"] for n in range(CUSTOMERS)
        )
    os.utime(path, (time.time() - 60,) * 2)


def _sealed(host: Host) -> dict[str, Any] | None:
    code, output = host.exec("migrate", "optrelay", "status", "latest", "--json")
    assert code == 0, output
    found: dict[str, Any] = json.loads(output)
    return found if found["sealed"] else None


def _no_one_left(host: Host) -> bool:
    """Whether no process that was started here is still there."""
    return not [one for one in psutil.process_iter(["cwd"]) if one.info["cwd"] == str(host.folder)]
