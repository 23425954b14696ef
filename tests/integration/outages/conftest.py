"""A broker that does not belong to a run, and a company that uses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from consent.broker.address import read_broker_address
from console.local.broker import LocalBroker
from tests.support.company import Company, company


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    """A broker that does not belong to a run."""
    broker = LocalBroker(tmp_path / "broker")
    broker.ensure()
    yield broker
    broker.stop()


@pytest.fixture
def shop(tmp_path: Path, broker: LocalBroker) -> Iterator[Company]:
    """A company whose workers are started by the test."""
    with company(tmp_path) as one:
        one.settings["BROKER_URL"] = broker.url
        yield one


@pytest.fixture
def store(broker: LocalBroker) -> Iterator[redis.Redis]:
    """Someone who can write to the broker."""
    with read_broker_address(broker.url).client() as client:
        yield client
