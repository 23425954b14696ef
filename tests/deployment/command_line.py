"""The optrelay command line, as the program itself knows it."""

from __future__ import annotations

import click
import typer

from console.cli import app


def commands() -> dict[str, click.Command]:
    """Return every command by its words, such as `dead-letters list`."""
    found: dict[str, click.Command] = {}
    for name, command in getattr(typer.main.get_command(app), "commands", {}).items():
        inner = getattr(command, "commands", None)
        found |= {f"{name} {one}": made for one, made in inner.items()} if inner else {name: command}
    return found


def headings() -> dict[str, list[str]]:
    """Return the headings of `optrelay --help` and the commands under each, in its order."""
    found: dict[str, list[str]] = {}
    for name, command in getattr(typer.main.get_command(app), "commands", {}).items():
        found.setdefault(command.rich_help_panel, []).append(name)
    return found


def options(command: click.Command) -> set[str]:
    """Return every spelling of a command's options."""
    return {option for parameter in command.params for option in parameter.opts}
