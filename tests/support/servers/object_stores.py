"""Object stores on this machine: S3 by moto, which is always there, and Google's and Azure's where a person put them.

Google's needs `pip install gcsfs gcp-storage-emulator`, Azure's `pip install adlfs` and `npm install -g azurite`.
"""

from __future__ import annotations

import base64
import importlib.util
import logging
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.support.watched import FOLDERS

BUCKET = "drop"
_Running = tuple[dict[str, str], Callable[[], object]]
_KEY = base64.b64encode(b"a key of the tests' own").decode()


@dataclass
class Store:
    """A bucket; `files` reaches it past the product."""

    scheme: str
    files: Any
    stop: Callable[[], object]
    folder: str = "night/in"

    @property
    def url(self) -> str:
        """The address of what is watched in it."""
        return f"{self.scheme}://{BUCKET}/{self.folder}"

    def put(self, files: dict[str, bytes]) -> None:
        """Bring files."""
        for name, content in files.items():
            self.files.pipe_file(f"{BUCKET}/{self.folder}/{name}", content)

    def read(self, name: str) -> str:
        """Return a file as text."""
        return self.files.cat_file(f"{BUCKET}/{self.folder}/{name}").decode()

    def names(self) -> set[str]:
        """What it holds, without the folder's name."""
        return {one.removeprefix(f"{BUCKET}/{self.folder}/") for one in self.files.find(BUCKET)}

    def where(self) -> dict[str, set[str]]:
        """What it holds, by folder."""
        names = [name.rpartition("/") for name in self.names()]
        return {sub: {name for folder, _, name in names if (folder or ".") == sub} for sub in FOLDERS}


@contextmanager
def store(scheme: str) -> Iterator[Store]:
    """Run an object store until the test ends; the environment leads there. Skips the test if there is none."""
    with _SERVERS[scheme]() as (environment, stop), pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        import fsspec

        patch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
        files = fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False)
        files.mkdir(BUCKET)
        yield Store(scheme, files, stop)


@contextmanager
def _s3() -> Iterator[_Running]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", _free_port(), verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        httpx.post(f"{url}/moto-api/reset").raise_for_status()  # its buckets belong to the process
        keys = {"AWS_ACCESS_KEY_ID": "till", "AWS_SECRET_ACCESS_KEY": "hush-hush-7"}
        yield {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1", **keys}, server.stop
    finally:
        server.stop()


@contextmanager
def _google() -> Iterator[_Running]:
    _needs("gcsfs", "gcp_storage_emulator")
    from gcp_storage_emulator import server as emulator

    # It knows no move within a bucket; refused, gcsfs would ask again for half a minute before it copies.
    move = r"/b/(?P<bucket_name>[-.\w]+)/o/(?P<object_id>.*[^/]+)/moveTo/o/(?P<dest_object_id>.*[^/]+)$"
    emulator.HANDLERS = ((f"^{emulator.settings.API_ENDPOINT}{move}", {"POST": _move}), *emulator.HANDLERS)
    port = _free_port()
    server = emulator.create_server("127.0.0.1", port, in_memory=True)
    server.start()
    try:
        no_grpc = {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
        yield {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}", **no_grpc}, server.stop
    finally:
        server.stop()


def _move(request: Any, response: Any, storage: Any) -> None:
    from gcp_storage_emulator.handlers import objects

    request.params["dest_bucket_name"] = request.params["bucket_name"]
    objects.copy(request, response, storage)
    storage.delete_file(request.params["bucket_name"], request.params["object_id"])


@contextmanager
def _azure() -> Iterator[_Running]:
    _needs("adlfs")
    if (program := shutil.which("azurite-blob")) is None:
        pytest.skip("azurite is not installed: the tests with Azure's store DID NOT RUN")
    port = _free_port()
    quiet = ["--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--disableTelemetry"]
    process = subprocess.Popen(
        [program, "--blobPort", str(port), *quiet], env=os.environ | {"AZURITE_ACCOUNTS": f"till:{_KEY}"}
    )
    try:
        _wait_for(port)
        parts = f"DefaultEndpointsProtocol=http;AccountName=till;AccountKey={_KEY}"
        yield (
            {"AZURE_STORAGE_CONNECTION_STRING": f"{parts};BlobEndpoint=http://127.0.0.1:{port}/till;"},
            process.terminate,
        )
    finally:
        process.terminate()
        process.wait(20)


_SERVERS: dict[str, Callable[[], Any]] = {"s3": _s3, "gs": _google, "az": _azure}


def _needs(*modules: str) -> None:
    for one in modules:
        if importlib.util.find_spec(one) is None:
            pytest.skip(f"{one} is not installed: the tests with this store DID NOT RUN")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    until = time.monotonic() + 30
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.1)
