"""Dead letters as people and programs see them, and as a CSV file that can be fixed and imported again."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.text import Text

from consent.errors import ConfigurationError
from consent.identifiers.masking import masked, revealed
from consent.ledger.dead_letters import AuditEntry, DeadLetter, FoundDeadLetters, ReplayEffect
from consent.ledger.queue.tasks import Attempt
from consent.settings import Settings
from consent.times import from_micros
from console.ui.screen import Screen, table, visible
from console.ui.text import counted, origin_text, slot_text
from producers.files.csv_injection import escape
from producers.parsing.columns import RECORDED_AS
from worker.providers import provider_of


def as_json(letter: DeadLetter, *, reveal: bool) -> dict[str, Any]:
    """Return a letter as the object that the design fixes."""
    return {
        "id": letter.id,
        "connection": letter.connection,
        "target": target(letter, reveal=reveal),
        "slot": letter.slot,
        "action": letter.action.value,
        "code": letter.code,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "import": letter.import_id,
        "line": letter.line,
        "died_at": _iso(letter.died_at),
        "effective_at": _iso(letter.effective_at),
        "discarded": letter.discarded,
    }


def target(letter: DeadLetter, *, reveal: bool) -> str:
    """Return the target of a letter: masked unless asked otherwise."""
    return revealed(letter.address) if reveal else masked(letter.address)


def origin(letter: DeadLetter) -> str:
    """Return where a letter came from: file and line, or source and event."""
    return origin_text(letter.import_name, letter.import_kind, letter.line)


def show_groups(screen: Screen, groups: Counter[tuple[str, str, str]]) -> None:
    """Print how many letters there are for each connection and code, with the reason, most first."""
    listed = table("letters", "connection", "code", "reason", right=("letters",))
    for (connection, code, reason), count in groups.most_common():
        listed.add_row(f"{count:,}", connection, code, reason)
    screen.show(listed)


def show_letters(settings: Settings, screen: Screen, letters: Iterable[DeadLetter], *, reveal: bool) -> None:
    """Print letters one by one."""
    listed = table("id", "target", "slot", "action", "code", "tries", "from", "died (UTC)", right=("id", "tries"))
    for one in letters:
        person = target(one, reveal=reveal)
        died = f"{from_micros(one.died_at):%Y-%m-%d %H:%M}"
        put_away = " (discarded)" if one.discarded else ""
        slot = slot_text(settings, one.connection, one.slot)
        row = (person, slot, one.action.value, one.code + put_away, str(one.attempts), origin(one), died)
        listed.add_row(str(one.id), *row)
    screen.show()
    screen.show(listed)


def show_letter(settings: Settings, screen: Screen, letter: DeadLetter, *, reveal: bool) -> None:
    """Print the facts of one letter; its further columns may name a person, so only on request."""
    screen.show(Text.assemble((f"dead letter {letter.id}", "bold"), f"  {letter.action.value} on {letter.connection}"))
    lines = {
        "target": target(letter, reveal=reveal) + ("" if reveal else "  (--reveal shows it)"),
        "slot": slot_text(settings, letter.connection, letter.slot),
        "since": _iso(letter.effective_at),
        "from": f"{origin(letter)} (import {letter.import_id})",
        "died": f"{_iso(letter.died_at)} after {counted(letter.attempts, 'answer')} about it",
        "reason": f"{letter.code}: {letter.reason}",
    }
    if reveal and letter.details:
        lines["further"] = " ".join(f"{name}={value}" for name, value in letter.details.items())
    for name, text in lines.items():
        screen.show(f"  {name + ':':8} {text}")


def show_history(screen: Screen, letter: DeadLetter, made: Sequence[Attempt], done: Sequence[AuditEntry]) -> None:
    """Print every call that was made about a letter, and what people did to it."""
    calls = table("call (UTC)", "took", "why", "answer", right=("took",))
    for one in made:
        answer = f"HTTP {one.status}, code {one.code}" if one.status else one.code
        answer += f": {letter.reason}" if one.code == letter.code else ""
        calls.add_row(_iso(one.at), f"{one.milliseconds:,} ms", one.purpose, answer)
    screen.show()
    screen.show(calls if made else "  no call was made about it")
    for act in done:
        screen.show(f"  {_iso(act.at)} {act.what} by {act.who}" + (f": {act.why}" if act.why else ""))


def history_as_json(made: Sequence[Attempt], done: Sequence[AuditEntry]) -> dict[str, Any]:
    """Return the same for programs."""
    calls = [
        {"at": _iso(one.at), "milliseconds": one.milliseconds, "purpose": one.purpose}
        | {"status": one.status, "code": one.code}
        for one in made
    ]
    acts = [{"at": _iso(act.at), "who": act.who, "what": act.what, "why": act.why} for act in done]
    return {"calls": calls, "interventions": acts}


def effects_text(effects: Mapping[int, ReplayEffect]) -> str:
    """Say what replaying does, in numbers."""
    if not effects:
        return "no dead letter like that can be replayed: `optrelay dead-letters list` shows them all"
    counts = Counter(effects.values())
    return (
        f"{counts[ReplayEffect.REPLAYED]:,} would be delivered again; "
        f"{counts[ReplayEffect.SUPERSEDED]:,} would be closed, because a newer change has overtaken them"
    )


def own_effect(letter: DeadLetter, effects: Mapping[int, ReplayEffect]) -> str:
    """Say what replaying one letter does."""
    if letter.discarded:
        return "it was discarded"
    if letter.id not in effects:
        return "it cannot be delivered: the ledger keeps no register of its slot"
    if effects[letter.id] is ReplayEffect.SUPERSEDED:
        return "it would be closed, because a newer change has overtaken it"
    return "it would be delivered again"


def _iso(micros: int) -> str:
    return from_micros(micros).isoformat(timespec="seconds").replace("+00:00", "Z")


_FIRST = ("connection", "action", "effective_at")
_LAST = ("_code", "_message", RECORDED_AS)


def export(settings: Settings, letters: FoundDeadLetters, path: Path | None) -> None:
    """Write letters to a new file for its owner alone, or to standard output; raise ConfigurationError.

    They are gone through twice, because the header must name the columns of all.
    """
    between = list(dict.fromkeys(name for one in letters for name in _row(settings, one) if name not in _FIRST + _LAST))
    header = [*_FIRST, *between, *_LAST]
    if path is None:
        with _standard_output() as file:
            _write(file, header, settings, letters)
        return
    try:
        # O_EXCL: a file with other rights, or a link to elsewhere, must not receive people's data.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file, _whole(path):
            _write(file, header, settings, letters)
    except FileExistsError:
        raise ConfigurationError(f"{path} is there already: name a new file, or remove it first") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def _standard_output() -> Iterator[TextIO]:
    """Give standard output in the encoding of our files; a terminal is shown control characters, and obeys none."""
    if sys.stdout.isatty():
        shown = io.StringIO()
        yield shown
        sys.stdout.write(visible(shown.getvalue()))
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="strict")
    yield sys.stdout


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Remove a file that could not be written to its end: the next try finds its name free."""
    try:
        yield
    except BaseException:
        path.unlink()
        raise


def _write(file: TextIO, header: Sequence[str], settings: Settings, letters: FoundDeadLetters) -> None:
    writer = csv.DictWriter(file, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(settings, letter) for letter in letters)


def as_row(settings: Settings, letter: DeadLetter) -> dict[str, str]:
    """Return the columns of a row that says what a letter says; raise ConfigurationError without its connection."""
    provider = provider_of(settings.connection(letter.connection))
    own = {
        "connection": letter.connection,
        "action": letter.action.value,
        "effective_at": from_micros(letter.effective_at).isoformat().replace("+00:00", "Z"),
    }
    try:
        return own | provider.export(letter.address, letter.slot, letter.details)
    except (ValueError, TypeError, LookupError):
        raise ConfigurationError(
            f"dead letter {letter.id} is no change of {provider.name}: was the connection {letter.connection} given "
            "another PROVIDER? Give each provider a connection of its own"
        ) from None


def _row(settings: Settings, letter: DeadLetter) -> dict[str, str]:
    row = as_row(settings, letter)
    escaped = {name: cell if name in _FIRST else escape(cell) for name, cell in row.items()}
    return escaped | {"_code": letter.code, "_message": letter.reason, RECORDED_AS: letter.public_id}
