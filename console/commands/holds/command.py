"""What people decide about imports: `held` shows what waits; `approve`, `withdraw`, `undo`, and `reset-fuse`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from consent.errors import ConfigurationError
from console.options import JsonOption, as_text
from console.ui.screen import Screen

if TYPE_CHECKING:
    from consent.ledger.review.holds import Decided, Decision, NotAsExpected, NothingHeld, SamePerson
    from consent.settings import Settings

Import = Annotated[
    str,
    typer.Argument(
        metavar="IMPORT", help="An import's id, its beginning, or latest.", show_default=False, callback=as_text
    ),
]
Why = Annotated[
    str, typer.Option("--why", metavar="TEXT", help="Why; kept in the audit log.", show_default=False, callback=as_text)
]
Who = Annotated[
    str | None,
    typer.Option("--who", metavar="NAME", help="Kept in the audit log; your user name if not given.", callback=as_text),
]
Only = Annotated[str | None, typer.Option("--only", metavar="ACTIONS", help="optouts or optins; the others stay held.")]
Expect = Annotated[
    int | None,
    typer.Option("--expect", metavar="N", min=0, help="Refuse unless so many slots would change, as `held` showed."),
]

What = Annotated[
    str,
    typer.Argument(
        metavar="WHAT",
        help="An import's id or its beginning, an origin as `held` shows it, or a connection: all that it has held.",
        show_default=False,
        callback=as_text,
    ),
]


def held(*, as_json: JsonOption = False) -> None:
    """Show what waits for a person: imports that a guard holds, and what a fuse holds; why, and how to go on.

    An import that a guard holds is due nowhere, supersedes nothing and blocks no other source. A fuse holds the rest of
    an import whose customers all drew the same permanent failure. **Exit codes:** 0 nothing is held · 3 something is.
    """
    from consent.settings import load_settings
    from console.exit_codes import ExitCode
    from console.ledger_access import reading_ledger
    from console.ui.decisions import show_fuse, show_held

    settings, screen = load_settings(), Screen(as_json=as_json)
    with reading_ledger(settings) as ledger:
        found = ledger.review.held_imports()
        tripped = ledger.fuses.tripped()
    for one in found:
        show_held(screen, one)
    for fuse in tripped:
        show_fuse(screen, fuse)
    if not found and not tripped:
        screen.show("nothing is held")
    screen.print_json_list([*(one.as_json() for one in found), *(fuse.as_json() for fuse in tripped)])
    raise typer.Exit(int(ExitCode.HELD if found or tripped else ExitCode.WELL))


def approve(
    *,
    import_id: Import,
    why: Why = "",
    who: Who = None,
    only: Only = None,
    expect: Expect = None,
    as_json: JsonOption = False,
) -> None:
    """Let a held import be delivered, all of it or only its opt-outs or opt-ins; saying it twice changes nothing.

    What was said by others meanwhile counts as ever: the newest change of each slot wins.

    For example:

        optrelay held
        optrelay approve 20261129-5bdf98ee --only optouts --why "checked with CRM"
        optrelay approve 20261129-5bdf98ee --expect 412 --why "the campaign of 24 November"
    """
    from consent.settings import load_settings

    settings = load_settings()
    if settings.four_eyes:
        raise ConfigurationError(
            "OPTRELAY_FOUR_EYES is set, and a command line proves no name: approve it over HTTP, "
            "by POST /v1/imports/IMPORT/approve with a key that has the scope approve"
        )
    _decide(settings, Screen(as_json=as_json), import_id, _decision(who, why, only, expect), "approved")


def withdraw(
    *,
    import_id: Import,
    why: Why = "",
    who: Who = None,
    expect: Expect = None,
    as_json: JsonOption = False,
) -> None:
    """Give up what is held of an import for good: none of it is ever delivered. Saying it twice changes nothing.

    The same changes from another file or event are delivered as ever.
    """
    from consent.settings import load_settings

    settings, screen = load_settings(), Screen(as_json=as_json)
    _decide(settings, screen, import_id, _decision(who, why, None, expect), "withdrawn")


def undo(  # noqa: PLR0913 - one argument for each option
    *,
    import_id: Import,
    why: Why = "",
    who: Who = None,
    expect: Annotated[
        int | None, typer.Option("--expect", metavar="N", min=0, help="Refuse unless so many slots would be undone.")
    ] = None,
    opt_in_again: Annotated[
        bool, typer.Option("--opt-in-again", help="Also opt in again those that it opted out, if they were in before.")
    ] = False,
    only_say: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring back what each slot held before an import, unless something was said later; twice changes nothing.

    Each mistaken change gets one that undoes it, one microsecond later: it beats the mistake and loses to all that was
    said since. Where nothing was known before, a mistaken opt-in becomes an opt-out. What cannot be undone is
    counted and listed: those that the import opted out stay so without --opt-in-again. To correct a file in one step:
    `optrelay run FIXED --replaces IMPORT`.

    For example:

        optrelay undo 20261129-5bdf98ee --dry-run
        optrelay undo 20261129-5bdf98ee --expect 412 --why "an old export"
    """
    from consent.ledger.review.undo import NotUndone
    from consent.ledger.review.undo_plan import UndoPlan
    from consent.settings import load_settings
    from console.commands.ledger.status import find_import
    from console.commands.run.import_files import CommandContext, wake_workers
    from console.ledger_access import reading_ledger
    from console.ui.decisions import show_undo

    settings, screen = load_settings(), Screen(as_json=as_json)
    undo_id, plan = None, UndoPlan()
    if opt_in_again and settings.four_eyes and not only_say:
        raise ConfigurationError(
            "OPTRELAY_FOUR_EYES is set, and a command line proves no name: to opt people in again undo it over HTTP, "
            "by POST /v1/imports/IMPORT/undo with a key that has the scope undo"
        )
    with reading_ledger(settings) as ledger:
        found = find_import(ledger, import_id).import_id
        if only_say:
            if (refused := ledger.review.refuses_undo(found)) is not None:
                raise ConfigurationError(f"import {found} cannot be undone: {refused.reason}")
            plan = ledger.review.plan_undo(found, opt_in_again=opt_in_again)
        else:
            decision = _decision(who, why, None, expect)
            result = ledger.review.undo(found, decision, opt_in_again=opt_in_again)
            if isinstance(result, NotUndone):
                cannot = f"import {found} cannot be undone: {result.reason}"
                raise ConfigurationError(
                    cannot if result.slots is None else f"{result.reason}: look at --dry-run again"
                )
            if result is not None:
                undo_id, plan = result.undo_id, result.plan
        show_undo(screen, found, undo_id, plan)
        wake_workers(CommandContext(settings, screen), ledger)
    screen.print_json({"import": found, "dry_run": only_say, "undone_by": undo_id} | plan.as_json())


def reset_fuse(  # noqa: PLR0913 - one argument for each option
    *,
    what: What,
    why: Why = "",
    who: Who = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="ACTIONS", help="optouts: send these, and hold the opt-ins.")
    ] = None,
    let_die: Annotated[
        bool, typer.Option("--let-die", help="Make dead letters of what is held, without a call; replay them later.")
    ] = False,
    fuse_off: Annotated[
        bool, typer.Option("--fuse-off", help="Send it all, whatever is answered: it trips no more for this origin.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Go on with what a fuse holds: send it, send only its opt-outs, or let it die.

    A fuse holds the rest of an import whose customers all drew the same permanent failure. Fix what is wrong first: the
    same failures trip it again. What died before stays a dead letter: `optrelay dead-letters replay --import IMPORT`.

    For example:

        optrelay held
        optrelay reset-fuse 20261129-5bdf98ee --why "the account id is corrected"
        optrelay reset-fuse 20261129-5bdf98ee --why "the opt-ins are wrong" --only optouts
        optrelay reset-fuse 20261129-5bdf98ee --why "a file of another shop" --let-die
    """
    from consent.guards.fuse import FuseWay
    from consent.settings import load_settings
    from console.commands.run.import_files import CommandContext, wake_workers
    from console.ledger_access import reading_ledger
    from console.ui.decisions import RESET_IN_WORDS, fuse_in_words

    decision = _decision(who, why, None, None)
    if only not in (None, "optouts"):
        raise ConfigurationError(f"--only is optouts, not {only!r}: opt-ins alone are not sent where opt-outs wait")
    if (only is not None) + let_die + fuse_off > 1:
        raise ConfigurationError("give one of --only optouts, --let-die and --fuse-off")
    way = FuseWay.RESUME
    if only or let_die or fuse_off:
        way = FuseWay.OPTOUTS if only else FuseWay.LET_DIE if let_die else FuseWay.OFF
    settings, screen = load_settings(), Screen(as_json=as_json)
    with reading_ledger(settings) as ledger:
        names = {name for fuse in ledger.fuses.tripped(1) for name in fuse.names}
        alike = sorted({what} & names or {name for name in names if name.startswith(what)})
        if not what or not (alike or ledger.fuses.is_known(what)):
            raise ConfigurationError(
                f"{what!r} is nothing that a fuse holds: `optrelay held` shows what is, and what to give here"
            )
        if len(alike) > 1:
            raise ConfigurationError(f"{what!r} may be {' or '.join(alike)}: give more of it")
        name = alike[0] if alike else what
        done = ledger.fuses.reset(name, way, decision)
        customers = ledger.fuses.work_off()
        for one in done:
            screen.show(f"{fuse_in_words(one)}: {RESET_IN_WORDS[way]}")
        if not done:
            screen.show(f"{what}: no fuse holds it in another way, so nothing was done")
        wake_workers(CommandContext(settings, screen), ledger)
    screen.print_json(
        {"done": way.value if done else None, "customers": customers, "fuses": [f.as_json() for f in done]}
    )


def _decision(who: str | None, why: str, only: str | None, expect: int | None) -> Decision:
    from consent.change import Action
    from consent.files import user_name
    from consent.ledger.review.holds import Decision

    if not why.strip():
        raise ConfigurationError("--why must say why: it is all that the audit log will tell")
    actions = {None: None, "optouts": Action.OPTOUT, "optins": Action.OPTIN}
    if only not in actions:
        raise ConfigurationError(f"--only is optouts or optins, not {only!r}")
    return Decision(who or user_name(), why, actions[only], expect)


def _decide(settings: Settings, screen: Screen, name: str, decision: Decision, what: str) -> None:
    from console.commands.ledger.status import find_import
    from console.commands.run.import_files import CommandContext, wake_workers
    from console.ledger_access import reading_ledger
    from console.ui.progress import reading_display

    with reading_ledger(settings) as ledger:
        import_id = find_import(ledger, name).import_id
        decide = ledger.review.approve if what == "approved" else ledger.review.withdraw
        report = _report(import_id, decide(import_id, decision), what)
        with reading_display(screen, f"import {import_id}") as display:
            ledger.intake.publish(import_id, display.releasing)
        screen.show(report["message"])
        wake_workers(CommandContext(settings, screen), ledger)
    screen.print_json(report)


def _report(
    import_id: str, result: Decided | NotAsExpected | NothingHeld | SamePerson | None, what: str
) -> dict[str, Any]:
    """Return what came of a decision; raise ConfigurationError if it was refused."""
    from consent.ledger.review.holds import Decided, NotAsExpected
    from console.ui.text import counted

    if isinstance(result, NotAsExpected):
        raise ConfigurationError(
            f"nothing was done: it would change {counted(result.slots, 'slot')} now, which is not what --expect says; "
            "look at `optrelay held` again"
        )
    if isinstance(result, Decided):
        effect = "would have changed" if what == "withdrawn" else "change"
        changes, slots = counted(result.changes, "change"), counted(result.slots, "slot")
        message = f"import {import_id}: {changes} {what}, which {effect} {slots}"
        return {"import": import_id, "done": what, "changes": result.changes, "slots": result.slots, "message": message}
    message = f"import {import_id}: nothing of it is held, so nothing was done"
    return {"import": import_id, "done": None, "changes": 0, "slots": 0, "message": message}
