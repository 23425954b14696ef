"""Arguments and help of `ui` and `user`: the operations page, and who may use the one of `optrelay serve`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from console.options import JsonOption, as_text
from console.ui.screen import Screen


def ui(
    *,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free port.")] = 0,
    opens: Annotated[bool, typer.Option("--open", help="Ask this machine's browser to open it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the ledger in a browser on this machine: what needs a person, imports, dead letters, decisions.

    It listens on 127.0.0.1 alone and prints a link that works once. You act under your account's name, with every role.
    For other people, and other machines, use the page of `optrelay serve`: see OPTRELAY_UI_USERS.

    For example:

        optrelay ui
        optrelay ui --port 8091 --open
    """
    from consent.settings import load_settings
    from console.commands.page.server import show_page

    show_page(load_settings(), Screen(as_json=as_json), port, opens=opens)


def user(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As the audit log keeps it.", callback=as_text)],
    roles: Annotated[
        str, typer.Option("--roles", metavar="ROLES", help="operator, approver, privacy; several with +.")
    ] = "viewer",
    as_json: JsonOption = False,
) -> None:
    """Make an entry of OPTRELAY_UI_USERS: ask for a password, and print its hash with name and roles.

    Every user may look. An operator replays and discards, an approver decides about imports, and privacy shows who a
    change is about. Where standard input is no terminal, the password is read from its first line.

    For example:

        optrelay user ann --roles operator+approver
    """
    from console.commands.page.users import Users, hashed, read_roles

    screen = Screen(as_json=as_json)
    has = sorted(read_roles(one for one in roles.split("+") if one.strip()))
    is_terminal = sys.stdin.isatty()
    password = (
        typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        if is_terminal
        else sys.stdin.readline().rstrip("\r\n")
    )
    entry = f"{name}[{'+'.join(has)}]={hashed(password)}"
    Users(entry)  # refuses a name that the setting could not hold
    screen.show(entry)
    screen.note("add it to OPTRELAY_UI_USERS, several with commas, and start `optrelay serve` again")
    screen.print_json({"user": name, "roles": has, "entry": entry})
