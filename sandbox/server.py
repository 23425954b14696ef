"""The sandbox as one application and one server: in this process, or in one of its own that ends with its parent."""

import ctypes
import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route
from typing_extensions import override

from sandbox import control
from sandbox.capillary import service as capillary
from sandbox.disconnects import CuttableConnection
from sandbox.gupshup import service as gupshup
from sandbox.infobip import service as infobip
from sandbox.settings import SandboxSettings

PREFIX = "/_sandbox"


def create_app(settings: SandboxSettings) -> Starlette:
    """Return the application, holding nothing but what the settings say is there from the start.

    Another provider is a package beside `capillary`, a section in the settings, and here its own routes and its own
    control routes under another prefix; Capillary's have the plain one, because it was there first.
    """
    service = capillary.Capillary(settings.capillary)
    return Starlette(
        routes=[
            *capillary.routes(service),
            *control.routes(service, PREFIX),
            *_infobip(settings, f"{PREFIX}/infobip"),
            *_gupshup(settings, f"{PREFIX}/gupshup"),
        ]
    )


def _infobip(settings: SandboxSettings, prefix: str) -> list[Route]:
    service = infobip.Infobip(settings.infobip)
    return [*infobip.routes(service), *control.routes(service, prefix), control.seeding(service.seed, prefix)]


def _gupshup(settings: SandboxSettings, prefix: str) -> list[Route]:
    service = gupshup.Gupshup(settings.gupshup)
    return [*gupshup.routes(service), *control.routes(service, prefix), control.seeding(service.seed, prefix)]


READY = "sandbox listening on "
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def serve(settings: SandboxSettings, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; port 0 takes a free one; `on_ready` gets the base URL once calls are answered."""
    # 100,000 customers are a million objects that live on: looked at too often, they cost a fifth of the speed.
    gc.set_threshold(50_000, 20, 100)
    with _listener(host, port) as listener:
        url = f"http://{host}:{listener.getsockname()[1]}"
        _Announcing(_configuration(settings), lambda: on_ready(url)).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    # asyncio turns Nagle's algorithm off only on sockets whose protocol number is TCP, and socket.create_server
    # leaves it 0: every reply then waits 40 ms for a delayed acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def _configuration(settings: SandboxSettings) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(settings),
        http=CuttableConnection,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="critical",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=0,
    )


class _Announcing(uvicorn.Server):
    """A server that says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


@contextmanager
def running(settings: SandboxSettings | None = None, port: int = 0) -> Iterator[str]:
    """Run the sandbox in a process of its own, and yield its base URL.

    Linux ends that process when the *thread* that entered here ends, so enter from a thread that stays.
    """
    with _process(port) as process:
        try:
            yield _url(process, settings or SandboxSettings())
        finally:
            _end(process)


def _process(port: int) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-P",
        "-m",
        "sandbox",
        "--settings",
        "-",
        "--port",
        str(port),
        "--parent",
        str(os.getpid()),
    ]
    here = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(  # noqa: S603  the command is our own
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the parent, which may still have calls to finish
        env=os.environ | {"PYTHONPATH": path},
    )


def _url(process: subprocess.Popen[str], settings: SandboxSettings) -> str:
    stdin, stdout = _pipes(process)
    with stdin:
        stdin.write(settings.model_dump_json())
    line = stdout.readline()
    if not line.startswith(READY):
        raise RuntimeError(f"the sandbox did not start: {line or 'it ended without any output'}")
    return line.removeprefix(READY).strip()


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the sandbox process has no pipes")
    return process.stdin, process.stdout


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()


def die_with(parent: int) -> None:
    """Have the kernel end this process with SIGKILL when its parent ends; elsewhere than on Linux, do nothing.

    A parent that ended before we asked is noticed by its process id.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent of the sandbox has ended")
