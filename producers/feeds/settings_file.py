"""Writing a feed into optrelay.toml: everything else that stands there stays as it is, comments and order, too."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from consent.errors import ConfigurationError
from consent.feed import Feed
from consent.files import path_text


def feed_as_toml(name: str, feed: Feed) -> str:
    """Return a feed as it stands in optrelay.toml."""
    return tomlkit.dumps({"feeds": {name: feed.stated()}})


def write_feed(path: Path, name: str, feed: Feed, *, replace: bool = False) -> None:
    """Add a feed to a file of settings, or put it in place of the one of its name.

    The file is written anew beside the old one and takes its place at once, for its owner's eyes only (mode 0600): a
    process that dies in between leaves the old one. Raises ConfigurationError if the file cannot be read or written, or
    has a feed of this name already and `replace` is not said.
    """
    if path.exists() and not path.is_file():
        raise ConfigurationError(f"{path_text(path)} is no file: unset OPTRELAY_CONFIG, or name a file")
    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else tomlkit.document()
    except (TOMLKitError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f"{path_text(path)} cannot be read: {error}") from None
    feeds = document.setdefault("feeds", tomlkit.table(is_super_table=True))
    if name in feeds and not replace:
        raise ConfigurationError(
            f"{path_text(path)} has a feed {name!r} already: give another --name, or --replace to put this in its place"
        )
    feeds[name] = _table(feed.stated())
    _put_in_place(path, tomlkit.dumps(document).encode())


def _table(values: Mapping[str, Any]) -> Any:
    table = tomlkit.table()
    for key, value in values.items():
        table[key] = _table(value) if isinstance(value, Mapping) else value
    return table


def _put_in_place(path: Path, content: bytes) -> None:
    target = path.resolve()
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as beside:
            try:
                os.fchmod(beside.fileno(), 0o600)
                beside.write(content)
                beside.flush()
                os.fsync(beside.fileno())
                Path(beside.name).replace(target)
            except BaseException:
                Path(beside.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ConfigurationError(f"{path_text(path)} cannot be written: {error.strerror}") from None
