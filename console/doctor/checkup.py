"""Whether everything that optrelay needs is there and well: what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from consent.errors import ConfigurationError, OptrelayError
from consent.settings import Settings, load_settings
from console.doctor import broker, ledger
from console.doctor.finding import Finding
from console.doctor.settings import look_at_connections, look_at_machine, settings_found, settings_unknown
from console.exit_codes import ExitCode
from console.ui.screen import Screen


@dataclass(frozen=True, slots=True)
class _Check:
    name: str
    look: Callable[[Settings], Iterator[Finding]]


_CHECKS = (
    _Check("machine", look_at_machine),
    _Check("ledger", ledger.look),
    _Check("broker", broker.look),
    _Check("connections", look_at_connections),
)
_WORKER = _Check("worker", broker.look_at_worker)


def _look_live(settings: Settings) -> Iterator[Finding]:
    from console.doctor.live import look_live  # noqa: PLC0415 - it loads all that a worker needs

    yield from look_live(settings)


_LIVE = _Check("live reads", _look_live)


def doctor(screen: Screen, *, only_worker: bool = False, live: bool = False) -> ExitCode:
    """Look at everything, or at this machine's worker only; say what was found; return 1 if there is a problem.

    With `live` also one harmless call is made at each connection.
    """
    checks = (_WORKER,) if only_worker else (*_CHECKS, *((_LIVE,) if live else ()))
    findings = list(_findings(checks))
    for one in findings:
        style, mark = _MARKS[one.ok]
        screen.show(Text.assemble((f"{mark:8}", style), (f"{one.what}: ", "bold"), one.message))
        if one.remedy:
            screen.show(Text(f"        {one.remedy}"))
    well = all(one.ok is not False for one in findings)
    screen.show(_conclusion(findings))
    screen.print_json({"ok": well, "checks": [one.as_json() for one in findings]})
    return ExitCode.WELL if well else ExitCode.IMPERFECT


_MARKS = {True: ("green", "ok"), False: ("bold red", "problem"), None: ("yellow", "hint")}


def _conclusion(findings: Sequence[Finding]) -> str:
    if any(one.ok is False for one in findings):
        return "fix the problems above, then run doctor again"
    return "no problem found; see the hints above" if any(one.ok is None for one in findings) else "no problem found"


def _findings(checks: tuple[_Check, ...]) -> Iterator[Finding]:
    try:
        settings = load_settings()
    except ConfigurationError as error:
        yield Finding(
            "settings", ok=False, message=str(error), remedy="correct them in the environment or optrelay.toml"
        )
        return
    yield settings_found()
    yield from settings_unknown()
    for check in checks:
        try:
            yield from check.look(settings)
        except (ConfigurationError, OptrelayError) as error:
            yield Finding(check.name, ok=False, message=str(error))
