"""`optrelay listen`: what it refuses, and what it says when no one can be woken."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from consent.change import Bucket
from console.local.notifier import Notifier
from tests.support.command_line import Cli

GOOD = "redis://127.0.0.1:1/0?stream=consent"


@pytest.mark.parametrize(
    "arguments",
    [
        ("redis://me:hush@localhost/0",),
        ("kafka://me:hush@localhost/0?stream=consent",),
        ("",),
        (GOOD, "--connection", "unknown"),
        (GOOD, "--timezone", "Mars/North"),
        (GOOD, "--batch", "0"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(cli: Cli, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit code 2 with words that help, no password, and no ledger is made."""
    answer = cli("listen", *arguments)

    assert answer.code == 2
    assert "hush" not in answer.err + answer.out
    assert list(tmp_path.iterdir()) == []
    if len(arguments) == 1:
        assert "redis://localhost:6379/0?stream=consent&group=optrelay" in answer.err


def test_the_address_may_stand_in_the_environment(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """There no list of processes shows its password; what is wrong with it is said in the same way."""
    monkeypatch.setenv("OPTRELAY_SOURCE_URL", "amqp://me:hush@localhost/shop")
    answer = cli("listen")

    assert answer.code == 2
    assert "lacks its queue" in answer.err
    assert "hush" not in answer.err


def test_a_broker_that_is_down_holds_no_one_up() -> None:
    """Asking for a wake-up returns at once; it is said once that the broker is away, however often it is asked."""
    messages: list[str] = []
    waker = Notifier("redis://127.0.0.1:1/0", messages.append)
    started = time.monotonic()
    for _ in range(1000):
        waker([Bucket("capillary")])
    assert time.monotonic() - started < 1
    waker([Bucket("capillary")])
    waker.close()

    assert len(messages) == 1
    assert "sweep" in messages[0]
