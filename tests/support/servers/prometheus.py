"""A real Prometheus for the tests, where one is installed."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers.rabbitmq import free_port

ABSENT = "Prometheus is not installed (apt-get install prometheus): its tests DID NOT RUN"


def program(name: str) -> str:
    """Where promtool or prometheus is; skips the test, loudly, where it is not."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(ABSENT)
    return found


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """Scrape one target every second until the block ends."""
    config = folder / "prometheus.yml"
    config.write_text(
        f"scrape_configs: [{{job_name: optrelay, scrape_interval: 1s, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    port = free_port()
    arguments = (f"--config.file={config}", f"--storage.tsdb.path={folder}", f"--web.listen-address=127.0.0.1:{port}")
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([program("prometheus"), *arguments], stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def asked(url: str, query: str, seconds: float = 30) -> list[Any]:
    """What it answers once it has something to say."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            found = httpx.get(f"{url}/api/v1/query", params={"query": query}).json()["data"]["result"]
        except (httpx.TransportError, KeyError, ValueError):
            found = []
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"no answer to {query}")
