"""`python -m sandbox`: run the sandbox until it is told to stop."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sandbox.server import READY, die_with, serve
from sandbox.settings import SandboxSettings

_TEXTS = ("username", "password", "oauth_key", "oauth_secret", "rate")
_NUMBERS = ("burst", "token_ttl")
_OTHERS = ("infobip", "gupshup")


def main(arguments: list[str] | None = None) -> None:
    """Serve, and print one line with the base URL when ready; arguments that make no sense end with exit code 2."""
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    host, port, parent = given.pop("host"), given.pop("port"), given.pop("parent")
    if parent is not None:
        die_with(parent)
    try:
        settings = _settings(given.pop("settings"), given)
    except ValidationError as error:
        parser.error(str(error))
    serve(settings, host, port, lambda url: print(f"{READY}{url}", flush=True))  # noqa: T201  the one line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sandbox", description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--settings", default=None, help="a JSON file of settings, - for standard input")
    parser.add_argument("--parent", type=int, default=None, help="end when this process, our parent, ends")
    _add_capillary(parser.add_argument_group("Capillary"))
    _add_infobip(parser.add_argument_group("Infobip"))
    _add_gupshup(parser.add_argument_group("Gupshup"))
    return parser


def _add_capillary(group: argparse._ArgumentGroup) -> None:
    for name in _TEXTS:
        group.add_argument(f"--{name.replace('_', '-')}")
    for name in _NUMBERS:
        group.add_argument(f"--{name.replace('_', '-')}", type=int)
    group.add_argument("--unknown", nargs="*", help="ids or patterns of customers that do not exist")
    group.add_argument("--methods", nargs="+", help="the write methods that are not answered with 405")
    group.add_argument("--latency", nargs=2, type=float, help="least and most seconds a call takes")
    group.add_argument("--retry-after", action="store_true", help="say in a 429 how long to wait")


def _add_infobip(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--infobip-api-key", help="demo-infobip-key unless given")
    group.add_argument("--infobip-blocklist-rate", help="1/second unless given, or off")
    group.add_argument("--infobip-subscription-rate", help="off unless given")
    group.add_argument("--infobip-blocklist-lag", type=float, help="seconds until the blocklist shows a change")


def _add_gupshup(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--gupshup-apps", type=json.loads, help='tokens by app as JSON: {"app": "token"}')
    group.add_argument("--gupshup-rate", help="for each app: 5/minute unless given, or off")


def _settings(source: str | None, given: dict[str, Any]) -> SandboxSettings:
    read = (SandboxSettings() if source is None else SandboxSettings.model_validate_json(_text(source))).model_dump()
    for argument, value in given.items():
        section, _, name = argument.partition("_")
        place = (section, name) if section in _OTHERS else ("capillary", argument)
        read[place[0]][place[1]] = value
    return SandboxSettings.model_validate(read)


def _text(source: str) -> str:
    return sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
