"""`pause` and `resume`: what is not to be delivered for now, and by when its opt-outs have to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from consent.errors import ConfigurationError
from console.commands.holds.command import Who, Why
from console.options import JsonOption, as_text
from console.ui.screen import Screen

if TYPE_CHECKING:
    from consent.ledger.ledger import Ledger
    from consent.ledger.review.pauses import Pause
    from consent.settings import Settings

Connection = Annotated[
    str, typer.Argument(metavar="CONNECTION", help="A connection's name.", show_default=False, callback=as_text)
]
BucketName = Annotated[
    str | None,
    typer.Option(
        "--bucket", metavar="NAME", help="Only this rate limit of it, as `status` names it.", callback=as_text
    ),
]


def pause(
    *,
    connection: Connection,
    bucket: BucketName = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="ACTIONS", help="optins; opt-outs go on.", show_default=False)
    ] = None,
    why: Why = "",
    who: Who = None,
    as_json: JsonOption = False,
) -> None:
    """Deliver nothing of a connection, or none of its opt-ins, until it is resumed; what is paused stays pending.

    Workers settle what is under way and stop within seconds. It holds over restarts, and the newest change of each slot
    wins as ever. A paused opt-out is a late opt-out: without --only optins, it says until when the pause may last.

    For example:

        optrelay pause crm --only optins --why "the provider sends a welcome mail to each"
        optrelay pause crm --why "maintenance until noon"
    """
    from consent.settings import load_settings
    from console.ledger_access import writing_ledger
    from console.ui.outlook import pause_warning, paused_outlooks

    if only not in {None, "optins"}:
        raise ConfigurationError(
            f"--only is optins, not {only!r}: opt-outs are paused with all the rest, or not at all"
        )
    settings, screen = load_settings(), Screen(as_json=as_json)
    with writing_ledger(settings) as ledger:
        connection, bucket = _known(settings, ledger, connection, bucket)
        found, is_new = ledger.pauses.pause(
            connection, bucket, only_optins=only is not None, who=_who(who), why=_reason(why)
        )
        late = paused_outlooks(settings, ledger, found)
    screen.show(f"{_place(found)}: {'' if is_new else 'as before, '}{found.message}")
    if not found.only_optins:
        screen.note("\n".join(pause_warning(late)))
    report = {"paused": is_new, "pause": found.as_json(), "deadlines": [one.as_json() for one in late]}
    screen.print_json(report)


def resume(
    *,
    connection: Connection,
    bucket: BucketName = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="ACTIONS", help="optouts; opt-ins stay paused.", show_default=False)
    ] = None,
    why: Why = "",
    who: Who = None,
    as_json: JsonOption = False,
) -> None:
    """Let what was paused be delivered: all of a connection, one of its buckets, or its opt-outs alone.

    Saying it twice changes nothing. Workers go on within a second or so; without any, `optrelay run` delivers it.

    For example:

        optrelay resume crm --why "they are ready"
    """
    from consent.settings import load_settings
    from console.commands.run.import_files import CommandContext, wake_workers
    from console.ledger_access import writing_ledger

    if only not in {None, "optouts"}:
        raise ConfigurationError(f"--only is optouts, not {only!r}: opt-ins are resumed with all the rest")
    settings, screen = load_settings(), Screen(as_json=as_json)
    with writing_ledger(settings) as ledger:
        connection, bucket = _known(settings, ledger, connection, bucket)
        ended = ledger.pauses.resume(connection, bucket, only_optouts=only is not None, who=_who(who), why=_reason(why))
        left = [one for one in ledger.pauses.current() if one.connection == connection]
        for one in ended:
            screen.show(f"{_place(one)}: resumed" + (", opt-ins stay paused" if only else ""))
        if not ended:
            screen.show(f"connection {connection}: nothing of what you name is paused, so nothing was done")
        for one in left:
            screen.show(f"{_place(one)}: {one.message}")
        wake_workers(CommandContext(settings, screen), ledger)
    screen.print_json({"resumed": [one.as_json() for one in ended], "still_paused": [one.as_json() for one in left]})


def _who(who: str | None) -> str:
    from consent.files import user_name

    return who or user_name()


def _reason(why: str) -> str:
    if not why.strip():
        raise ConfigurationError("--why must say why: others see it in `status`, and the audit log keeps it")
    return why


def _place(one: Pause) -> str:
    return f"connection {one.connection}" + ("" if one.bucket is None else f", bucket {one.bucket!r}")


def _known(settings: Settings, ledger: Ledger, connection: str, bucket: str | None) -> tuple[str, str | None]:
    """Return the connection and bucket that are meant; raise ConfigurationError, with the choice, for unknown ones."""
    from console.ui.limits import bucket_label

    names = {*settings.connections, *(one.connection for one in ledger.pauses.current())}
    if connection not in names:
        known = ", ".join(sorted(names)) or "none"
        raise ConfigurationError(f"there is no connection {connection!r}: those that are configured are {known}")
    if bucket is None:
        return connection, None
    found = sorted({*ledger.pauses.known_buckets(connection), *ledger.queries.buckets(connection)})
    for one in found:
        if bucket in {one.name, bucket_label(settings, one), bucket_label(settings, one).rpartition("(")[2][:-1]}:
            return connection, one.name
    known = ", ".join(repr(one.name) for one in found) or "none yet"
    raise ConfigurationError(f"connection {connection} has no bucket {bucket!r}; those with customers are {known}")
