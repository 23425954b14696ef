"""Exit codes, how a run ended, and the messages about errors that end a command."""

from __future__ import annotations

import errno
import os
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from consent.errors import (
    Bounds,
    BrokerUnavailable,
    ConfigurationError,
    ImportUnderWay,
    LedgerOutdated,
    LedgerUnavailable,
    OptrelayError,
    RunUnderWay,
    UnusableInput,
    wrong_value,
)
from consent.files import path_text
from console.ui.screen import Screen

if TYPE_CHECKING:
    from consent.ledger.queries.imports import ImportReport


class ExitCode(IntEnum):
    """What a command's exit code means."""

    WELL = 0
    IMPERFECT = 1
    USAGE = 2
    HELD = 3
    UNFINISHED = 4
    UNABLE = 5
    UNEXPECTED = 70
    INTERRUPTED = 130
    TERMINATED = 143


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a delivery ended: 0 everything is settled, 4 or 5 it is unfinished for these reasons."""

    exit_code: int
    reasons: tuple[str, ...] = ()


EXIT_CODES = (
    "**Exit codes:** 0 everything settled well · 1 finished, but in this run rows were rejected, changes died or files "
    "could not be used · 2 usage or configuration, nothing was recorded · 3 held: a person must approve a file or "
    "reset a fuse · 4 unfinished: a connection is paused, refuses our credentials or stayed down, all stays pending · "
    "5 ledger or broker cannot be used now, run it again · 130 interrupted, safe to run again."
)

_ARGUMENT_SHOWN = 60
"""Characters of an argument that are shown to who has typed it."""

_TOO_MANY = re.compile(r"^Got unexpected extra argument(?:\(s\)|s?) \((.*)\)$", re.DOTALL)

_KEPT = "Nothing that was recorded is lost."

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}

_REMEDIES: dict[type[OptrelayError], str] = {
    LedgerUnavailable: f"{_KEPT} See OPTRELAY_LEDGER_URL and `optrelay doctor`, then run it again.",
    BrokerUnavailable: f"{_KEPT} See OPTRELAY_BROKER_URL and `optrelay doctor`, then run it again.",
    ImportUnderWay: "Wait until it has finished, then run this again: it changes nothing twice.",
    RunUnderWay: "It delivers what you have recorded, too.",
}


def explain(error: Exception) -> ExitCode:
    """Say on standard error what went wrong and what to do; return the exit code."""
    match error:
        case ConfigurationError() | UnusableInput() | LedgerOutdated():
            Screen().error(str(error))
            return ExitCode.USAGE
        case OptrelayError():
            Screen().error(str(error), _REMEDIES.get(type(error), ""))
            return ExitCode.UNABLE
        case OSError(filename=str(place), strerror=str(reason)):
            Screen().error(f"{path_text(place)}: {reason}", _KEPT)
            return ExitCode.UNABLE
        case OSError(errno=int(number)) if number in _NO_ROOM:
            Screen().error(
                f"the output cannot be written: {os.strerror(number)}", f"{_KEPT} Make room, and run it again."
            )
            return ExitCode.UNABLE
        case _:
            _report_unexpected(error)
            return ExitCode.UNEXPECTED


USAGE_ERROR: type[Exception] = cast("type[Exception]", typer.BadParameter.__base__)
"""What Typer raises for arguments that it cannot use; it has no public name of its own."""


def explain_usage(error: Exception) -> ExitCode:
    """Say on standard error which arguments cannot be used, and how the command is used; return the exit code."""
    context, message = getattr(error, "ctx", None), _usage_fault(error)
    if type(error).__name__ != "NoArgsIsHelpError":  # that one has printed the help already
        name = "" if context is None else f"{context.get_usage()}\n`{context.command_path} --help` tells more."
        Screen().error(message, name)
    return ExitCode.USAGE


def _usage_fault(error: Exception) -> str:
    """Return what is wrong with arguments: of a wrong value which option it is, what it is, and what to give."""
    cause, param = error.__cause__, getattr(error, "param", None)
    if param is not None and type(error).__name__ == "MissingParameter":
        what = f"{param.help[0].lower()}{param.help[1:]}".rstrip(".") if param.help else "it must be given"
        return f"{_name_of(param)} is missing: {what}"
    if cause is None or param is None or not hasattr(cause, "errors"):
        message = str(getattr(error, "format_message", lambda: str(error))())
        return _TOO_MANY.sub(r"too many arguments: \1", message)
    return f"{_name_of(param)}: {wrong_value(cause.errors()[0], Bounds(param.min, param.max), longest=_ARGUMENT_SHOWN)}"


def _name_of(param: Any) -> str:
    return next((one for one in param.opts if one.startswith("--")), str(param.display_name_raw))


def interrupted() -> ExitCode:
    """Say that nothing is lost; return the exit code."""
    Screen().note("interrupted: what was recorded is kept, and it is safe to run the same command again")
    return ExitCode.INTERRUPTED


def code_of(reports: Sequence[ImportReport]) -> ExitCode:
    """Return 3 if something is held, else 1 if a row was rejected or is dead, else 0."""
    if any(is_held(one) for one in reports):
        return ExitCode.HELD
    return ExitCode.IMPERFECT if any(one.rejected or one.dead for one in reports) else ExitCode.WELL


def is_held(report: ImportReport) -> bool:
    """Whether an import waits for a person, or a part of it does, once it has been read whole."""
    return report.state == "held" or (report.held > 0 and report.state == "released") or report.fused > 0


def _report_unexpected(error: Exception) -> None:
    """Show where an error came from, but neither its message nor any value: both may name a person."""
    places = [
        f"  {Path(frame.filename).parent.name}/{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    remedy = f"{_KEPT} Please report these lines; they hold no personal data."
    Screen().error(f"an unexpected error ({kind}) at", "\n".join([*places, remedy]))
