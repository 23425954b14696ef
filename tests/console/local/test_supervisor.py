"""A part of `optrelay up` is started again when it ends, after longer and longer waits, and its lines name it."""

from __future__ import annotations

import os
import time

import pytest

from console.local import supervisor
from console.local.supervisor import Part


def test_a_part_that_ends_is_started_again_later_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one that cannot start would take the whole machine, and its log the disk."""
    monkeypatch.setattr(supervisor, "_FIRST_WAIT", 0.05)
    said: list[tuple[str, str]] = []
    part = Part("odd", ("no-such-command",), lambda name, line: said.append((name, line)), _wait=0.05)
    until = time.monotonic() + 60
    while len([name for name, _ in said if name == "up"]) < 3 and time.monotonic() < until:
        part.ensure(os.environ)
        time.sleep(0.02)
    part.end(time.monotonic())

    endings = [line for name, line in said if name == "up"]
    assert endings == [f"odd ended with exit code 2; it is started again in {wait} s" for wait in ("0.1", "0.2", "0.4")]
    assert any("no-such-command" in line for name, line in said if name == "odd")
