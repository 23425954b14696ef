"""The doorway of `optrelay history`."""

from __future__ import annotations

from typing import Annotated

import typer

from consent.settings import load_settings
from console.options import JsonOption
from console.screen import Screen


def history(
    *,
    columns: Annotated[
        list[str],
        typer.Argument(metavar="COLUMN=VALUE…", help="What names them, or - for JSON objects, one a line."),
    ],
    connection: Annotated[
        str | None, typer.Option("--connection", metavar="NAME", help="Look at this connection only.")
    ] = None,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show who it is about; otherwise only the last characters.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show every change of one person, what it came from, and what became of it, slot by slot, oldest first.

    Name a person as the rows do: by user_id, say, or identifier_value. Several columns together narrow it. Changes that
    only repeated what was so are not listed; they move the slot's date forward. Other users of the machine can see the
    names on a command line: - reads them from standard input. All targets of the ledger are read for it: some seconds
    where there are ten million.

    **Exit codes:** 0 there are changes · 1 there are none · 2 usage or configuration.

    For example:

        optrelay history user_id=387006417
        optrelay history identifier_value=ann@example.com --json
        echo '{"destination": "+447700900123"}' | optrelay history -
    """
    from console.history import show_histories

    code = show_histories(load_settings(), Screen(as_json=as_json), columns, connection, reveal=reveal)
    raise typer.Exit(int(code))
