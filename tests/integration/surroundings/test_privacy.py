"""No log line, broker message, task repr or error report names a person or a secret."""

from __future__ import annotations

import stat
import threading
from contextlib import suppress
from pathlib import Path

import redis

from console.local.broker import LocalBroker
from tests.support.company import PASSWORD, company


def note_commands(url: str, commands: list[str], stop: threading.Event) -> None:
    """Write down everything that anybody says to the broker."""
    client = redis.Redis(unix_socket_path=url.removeprefix("redis+socket://"), socket_timeout=None)
    with suppress(redis.ConnectionError), client.monitor() as monitor:
        while not stop.is_set():
            commands.append(str(monitor.next_command()))


def open_to_others(folder: Path) -> list[str]:
    """Name what others on this machine can read: a file and every folder above it let them."""
    found = [path for path in folder.rglob("*") if path.is_file() or path.is_socket()]
    return [str(path.relative_to(folder)) for path in found if all(map(_lets_in, [path, *_above(path, folder)]))]


def _above(path: Path, folder: Path) -> list[Path]:
    return [parent for parent in path.parents if parent.is_relative_to(folder) and parent != folder]


def _lets_in(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def test_no_one_is_named_outside_the_ledger(tmp_path: Path) -> None:
    """Everything said to the broker and every log line at DEBUG, with failures of all kinds: no identifier in it."""
    broker = LocalBroker(tmp_path / "broker")
    broker.ensure()
    header = "user_id,identifier_name,identifier_value,channel,priority,action,effective_at\n"
    rows = [f"{700_700_000 + n},,,EMAIL,BULK,OPTOUT,2026-11-20T08:00:00Z\n" for n in range(50)]
    rows += [f",email,jane.roe.{n}@example.com,EMAIL,BULK,OPTOUT,2026-11-20T08:00:00Z\n" for n in range(50)]
    rows += [f",mobile,1555010{n:04},MOBILE,BULK,OPTIN,2026-11-20T08:00:00Z\n" for n in range(50)]
    rows += ["404700700,,,EMAIL,BULK,OPTOUT,2026-11-20T08:00:00Z\n", ",mobile,1555010XX,FAX,BULK,OPTIN,\n"]
    commands: list[str] = []
    stop = threading.Event()
    threading.Thread(target=note_commands, args=(broker.url, commands, stop), daemon=True).start()
    with company(tmp_path) as shop:
        path = tmp_path / "nightly.csv"
        path.write_text(header + "".join(rows))
        shop.settings |= {"BROKER_URL": broker.url, "LOG_LEVEL": "DEBUG"}
        for order in ({"kind": "html"}, {"kind": "reset"}, {"kind": "warn"}, {"kind": "error", "code": 500}):
            shop.fault(next=3, **order)

        code, found, stderr = shop.run("run", path)

        assert code == 1, stderr
        assert found["dead"] >= 1
        _, listed, _ = shop.run("dead-letters", "list")
        shop.run("dead-letters", "export", "--all", "--output", tmp_path / "letters.csv")
    stop.set()
    broker.stop()
    logs = "".join(log.read_text() for log in tmp_path.rglob("*.log"))
    everything = {"broker": " ".join(commands), "log": logs, "console": stderr + str(found) + str(listed)}
    assert "optrelay.deliver" in everything["broker"]
    assert "optrelay.deliver" in logs
    for where, text in everything.items():
        for private in ("7007000", "404700700", "jane.roe", "example.com", "1555010", PASSWORD):
            assert private not in text, f"{private} stands in the {where}"
    assert open_to_others(tmp_path) == ["nightly.csv"]
