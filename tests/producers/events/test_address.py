"""The address of an event source: what is understood, what is refused, and what is never shown."""

from __future__ import annotations

import pytest

from consent.errors import ConfigurationError
from producers.events.sources import open_source


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://host:6379/0?stream=consent&group=optrelay", "redis://host:6379/0 stream consent"),
        ("redis://:hush@host/3?stream=consent", "redis://host/3 stream consent"),
        ("rediss://me:hush@host:6380/0?stream=a%20b&ssl_cert_reqs=required", "rediss://host:6380/0 stream a b"),
        ("redis+socket:///run/valkey.sock?stream=consent", "redis+socket:///run/valkey.sock stream consent"),
        ("unix://me:hush@/run/valkey.sock?stream=consent&db=2", "unix:///run/valkey.sock stream consent"),
        ("amqp://me:hush@host:5672/shop?queue=consent", "amqp://host:5672/shop queue consent"),
        ("amqps://me:hush@host?queue=consent&ca=/etc/ca.pem", "amqps://host queue consent"),
    ],
)
def test_a_source_is_named_without_its_password(url: str, name: str) -> None:
    """What is shown and logged names server and stream or queue, never a user or password."""
    assert open_source(url, "web-1").name == name


@pytest.mark.parametrize(
    "url",
    [
        "consent",
        "redis://me:hush@host:6379/0",
        "redis://me:hush@host:port/0?stream=consent",
        "redis://me:hush@host/0?stream=consent&claim_after=soon",
        "redis://me:hush@host/0?stream=consent&claim_after=-1",
        "redis://me:hush@host/0?stream=consent&retry_on_timeout=hush&nonsense=hush",
        "redis://[me:hush@host/0?stream=consent",
        "amqp://me:hush@host/shop",
        "amqp://me:hush@host/shop?queue=consent&heartbeat=often",
        "sqs://me:hush@host?queue=consent",
        "kafka://me:hush@host?stream=consent",
    ],
)
def test_an_address_that_cannot_be_used_is_explained(url: str) -> None:
    """The error shows how an address is written, and not the one that held a password."""
    with pytest.raises(ConfigurationError) as refused:
        open_source(url, "web-1").read(1, 0.01)
    assert "hush" not in str(refused.value)
    assert "://" in str(refused.value) or "number of seconds" in str(refused.value) or "brackets" in str(refused.value)


@pytest.mark.parametrize("odd", ["@/", "/", "#", "?", "[", "%", ";"])
@pytest.mark.parametrize("server", ["redis://:{}@host/0?stream=consent", "amqp://me:{}@host/shop?queue=consent"])
def test_a_password_that_is_not_encoded_is_told_how_to_be_written(server: str, odd: str) -> None:
    """The listener asks another host, and shows a part of the password as that host's name."""
    for password in (f"63{odd}hush", f"hush{odd}hush"):
        with pytest.raises(ConfigurationError, match="%40 for @") as refused:
            open_source(server.format(password), "web-1")
        assert "hush" not in str(refused.value)


def test_an_address_that_would_verify_less_is_refused() -> None:
    """The events, and our password, go to a server that no one has vouched for."""
    with pytest.raises(ConfigurationError, match="always verified"):
        open_source("rediss://:hush@host/0?stream=consent&ssl_cert_reqs=none", "web-1")
