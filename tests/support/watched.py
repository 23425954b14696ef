"""A dozen files as they come to a watched place, and where each belongs in the end."""

from __future__ import annotations

import io
import os
import time
import zipfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from consent.ledger.ledger import Ledger
from producers.ingest_file import ImportResult
from producers.options import IngestOptions
from producers.watch.address import read_watch_address
from producers.watch.place import LocalFolder
from producers.watch.preparation import Reading
from producers.watch.watcher import Watcher
from tests.support.command_line import HEADER
from tests.support.files.workbooks import workbook
from worker.providers.capillary.row import CapillaryRow

_GOOD = "EMAIL,BULK,OPTOUT,2026-01-02T00:00:00Z"


def dozen(large: int = 2000) -> dict[str, bytes]:
    """The files by name: good, empty, header only, a sheet, a bomb, half-written, and so on."""
    return dict(_dozen(large))


@cache
def _dozen(large: int) -> dict[str, bytes]:
    rows = [f"{500_000_000 + number},{_GOOD}" for number in range(large)]
    bad = [
        f"{600_000_000 + n},{_GOOD if n % 10 >= 3 else 'PIGEON,BULK,OPTOUT,2026-01-02T00:00:00Z'}" for n in range(50)
    ]
    good = _csv("1001417," + _GOOD)
    return {
        "good.csv": good,
        "empty.csv": b"",
        "header-only.csv": _csv(),
        "sheet.xlsx": workbook([HEADER.split(","), [1004777, *_GOOD.split(",")]]),
        "bomb.zip": zipped({f"{n}.csv": b"0" * 5_000_000 for n in range(3)}),
        "half.csv.part": good[:40],
        "wrong-header.csv": b"a,b\n1,2\n",
        "twice.csv": good,
        "lines.ndjson": b'{"user_id": "1002888", "channel": "EMAIL", "priority": "BULK", "action": "OPTOUT", '
        b'"effective_at": "2026-01-02T00:00:00Z"}\n',
        "windows.csv": f"{HEADER},reason\n1003999,{_GOOD},Abmeldung f\u00fcr Gr\u00fc\u00dfe\n".encode("cp1252"),
        "bad-rows.csv": _csv(*bad),
        "large.csv": _csv(*rows),
    }


DONE = {
    *("good.csv", "header-only.csv", "twice.csv", "lines.ndjson", "windows.csv", "bad-rows.csv", "large.csv"),
    "sheet.xlsx",
    "bad-rows.csv.rejects.csv",
}
FAILED = {"empty.csv", "wrong-header.csv", "bomb.zip"}
STAYS = {"half.csv.part"}
FOLDERS = (".", "done", "failed")


@dataclass
class Notes:
    """What a watcher noted."""

    messages: list[str] = field(default_factory=list)
    results: list[ImportResult] = field(default_factory=list)

    def recorded(self, _file: str, result: ImportResult) -> None:
        """Keep it."""
        self.results.append(result)

    def failed(self, file: str, reason: str) -> None:
        """Keep it."""
        self.messages.append(f"{file}: {reason}")

    def note(self, message: str) -> None:
        """Keep it."""
        self.messages.append(message)


def watcher(ledger: Ledger, folder: Path, options: str = "") -> Watcher:
    """A watcher of a folder."""
    address = read_watch_address(f"{folder}?{options}")
    reading = Reading({"capillary": CapillaryRow}, {}, IngestOptions())
    return Watcher(address, LocalFolder(folder), ledger, reading, Notes())


def put(folder: Path, files: dict[str, bytes]) -> None:
    """Put them into a folder; their writers were done a while ago."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
        os.utime(folder / name, (time.time() - 300,) * 2)


def where(folder: Path) -> dict[str, set[str]]:
    """What a folder and those below it hold."""
    names = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {sub: {path.name for path in names if str(path.parent) == sub} for sub in FOLDERS}


def settled(*, remote: bool = False) -> dict[str, set[str]]:
    """Where each file belongs in the end; rejected rows of another machine's files stay on this one."""
    reasons = {f"{name}.reason.txt" for name in FAILED}
    done = {name for name in DONE if not (remote and name.endswith(".rejects.csv"))}
    return {".": STAYS, "done": done, "failed": FAILED | reasons}


def _csv(*rows: str) -> bytes:
    return "".join(f"{line}\n" for line in (HEADER, *rows)).encode()


def zipped(members: dict[str, bytes]) -> bytes:
    """Pack members into an archive."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()
