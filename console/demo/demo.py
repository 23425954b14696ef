"""The whole product on this machine: the sandbox, a file with everything in it, and a proof of the result."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from consent.errors import ConfigurationError
from consent.files import path_text
from consent.ledger.dead_letters import DeadLetterFilter
from consent.settings import TOML_FILE, Settings, load_settings
from console.commands.dead_letters.views import show_groups, show_letters
from console.commands.page.server import show_page
from console.commands.run.import_files import CommandContext, record_and_deliver
from console.commands.run.input_files import InputFiles
from console.commands.telemetry.notices import tell_at_end
from console.demo.file import Expected, write_file
from console.demo.proof import check
from console.demo.sandbox import Held, Sandbox, demo_sandbox, held, settings_text
from console.exit_codes import ExitCode
from console.ledger_access import reading_ledger
from console.local.delivery import LocalDelivery
from console.ui.screen import Screen
from producers.options import IngestOptions
from sandbox.server import running
from sandbox.settings import SandboxSettings

FILE = "consents.csv"
LEAST_ROWS = 200
_PATIENCE_SECONDS = 20.0
_PREFIX = "OPTRELAY_"
_PORT = 8090
_OURS = (FILE, f"{FILE}.rejects.csv", "optrelay.db", "optrelay.db-wal", "optrelay.db-shm", TOML_FILE)


def demo(screen: Screen, folder: Path, rows: int, *, keeps: bool) -> ExitCode:
    """Deliver a file to the sandbox, prove what became of it, and say what to try next; 0 if it is as it must be.

    With `keeps` it shows its ledger in a browser until a signal comes.
    """
    agrees = deliver_and_prove(screen, folder, rows)
    _show_next(screen, folder)
    if keeps:
        _head(screen, "optrelay ui")
        with _only(folder):
            show_page(load_settings(), screen, 0, opens=False)
    return ExitCode.WELL if agrees else ExitCode.IMPERFECT


def deliver_and_prove(screen: Screen, folder: Path, rows: int) -> bool:
    """Deliver a file to the sandbox and show what became of it; return whether everything is as it must be."""
    if rows < LEAST_ROWS:
        raise ConfigurationError(f"--rows: the demo needs at least {LEAST_ROWS}")
    sandbox = demo_sandbox()
    _clear(folder)
    with _only(folder), running(sandbox) as url:
        _write_settings(url, sandbox)
        expected, at_first = write_file(Path(FILE), rows), held(url)
        _introduce(screen, folder, expected)
        agrees = _run(screen, url, expected, at_first)
    _write_settings_in(folder, f"http://127.0.0.1:{_PORT}", sandbox)
    return agrees


def _run(screen: Screen, url: str, expected: Expected, at_first: Held) -> bool:
    settings = load_settings()
    context = CommandContext(settings, screen)
    reading = InputFiles([FILE], IngestOptions())
    _head(screen, f"optrelay run {FILE}")
    with LocalDelivery(os.cpu_count() or 2, _PATIENCE_SECONDS) as own:
        code = record_and_deliver(context, reading, own)
        tell_at_end(settings, screen, code)
    _head(screen, f"{FILE}.rejects.csv")
    _show_rejects(screen)
    return _prove(screen, settings, expected, Sandbox(url, at_first))


def _prove(screen: Screen, settings: Settings, expected: Expected, sandbox: Sandbox) -> bool:
    with reading_ledger(settings) as ledger:
        letters = ledger.dead_letters.search(DeadLetterFilter())
        _head(screen, "optrelay dead-letters list")
        show_groups(screen, letters.groups())
        show_letters(settings, screen, letters, reveal=False)
        _head(screen, "the proof")
        found = ledger.queries.report(ledger.queries.recent_imports(1)[0])
        return found is not None and check(screen, sandbox, ledger, found, expected)


def _introduce(screen: Screen, folder: Path, expected: Expected) -> None:
    people = len({place[1] for place in expected.final if place[0] == "capillary"})
    blocked = sum(place[1].startswith("blocklist/") for place in expected.final)
    hooks = len({place[1] for place in expected.final if place[0] != "capillary"}) - blocked
    screen.show(
        f"Sandboxes of Capillary, Infobip and Gupshup run on this machine. {folder / FILE} holds {expected.rows:,} "
        f"rows for all three, about {people:,} customers, {blocked} people on a blocklist and {hooks} webhooks: "
        "opt-ins and opt-outs that contradict each other, some at the very same moment, "
        f"{expected.rejected.total()} broken rows, and a customer that the provider does not know."
    )


def _show_rejects(screen: Screen) -> None:
    """Show why each row was refused, not what it says."""
    for line in Path(f"{FILE}.rejects.csv").read_text(encoding="utf-8").splitlines()[1:]:
        number, column, code, rest = line.split(",", 3)
        message = rest.split('",', 1)[0].strip('"') if rest.startswith('"') else rest.split(",", 1)[0]
        screen.show(f"  line {number:>5}  {code:16} {column:13} {message}")


def _show_next(screen: Screen, folder: Path) -> None:
    _head(screen, "try next")
    activate = Path(sys.prefix) / "bin" / "activate"
    if shutil.which("optrelay") is None and activate.exists():
        _show_step(screen, f". {_short(activate)}", "makes the command `optrelay` known to this shell")
    _show_step(screen, f"cd {folder}", f"its {TOML_FILE} configures the demo's connections")
    for command, text in (
        ("optrelay ui", "the same in a browser: what needs a person, the import, its dead letters; it prints a link"),
        ("optrelay status latest", "what became of its rows, counted"),
        ("optrelay dead-letters list", "what could not be delivered; `show ID` tells the whole story"),
        (f"optrelay run {FILE}", "the same file again: it changes nothing and makes no API call"),
        (
            f"optrelay sandbox --port {_PORT} --unknown none",
            "in another terminal: now the unknown customer exists; then `dead-letters replay --all` and `run`",
        ),
    ):
        _show_step(screen, command, text)


def _show_step(screen: Screen, command: str, text: str) -> None:
    """Print a command on a line of its own, so that it can be copied on a terminal of any width."""
    screen.show(f"  {command}")
    screen.show(Padding(Text(text, "dim"), (0, 0, 0, 6), expand=False))


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _head(screen: Screen, text: str) -> None:
    screen.show()
    screen.show(Rule(Text(text, "bold"), align="left", style="dim"))


def _clear(folder: Path) -> None:
    """Make the folder, and remove what an earlier demo left in it: nothing else is touched."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigurationError(f"--folder: {path_text(folder)} is a file: give a folder, which may be new") from None
    if (folder / TOML_FILE).exists() and "# the demo's" not in (folder / TOML_FILE).read_text(encoding="utf-8"):
        raise ConfigurationError(f"{folder} holds an {TOML_FILE} that is not the demo's: give another --folder")
    for name in _OURS:
        (folder / name).unlink(missing_ok=True)


@contextmanager
def _only(folder: Path) -> Iterator[None]:
    """Work in the folder and with its settings alone: none of the environment's connections is called by a demo."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(_PREFIX)}
    for name in kept:
        del os.environ[name]
    try:
        with chdir(folder):
            yield
    finally:
        os.environ.update(kept)


def _write_settings(url: str, sandbox: SandboxSettings) -> None:
    _write_settings_in(Path(), url, sandbox)


def _write_settings_in(folder: Path, url: str, sandbox: SandboxSettings) -> None:
    (folder / TOML_FILE).write_text(settings_text(url, sandbox), encoding="utf-8")


def run_demo(screen: Screen, folder: Path, rows: int, *, keeps: bool = False) -> ExitCode:
    """Run the demo; a folder that cannot be written is a matter of configuration."""
    try:
        return demo(screen, folder, rows, keeps=keeps)
    except PermissionError as error:
        raise ConfigurationError(f"{folder} cannot be written ({error.strerror}): give another --folder") from None
    finally:
        sys.stdout.flush()
