"""One limit of one connection: what pace, claims and wake-ups are kept for."""

from __future__ import annotations

from typing import NamedTuple


class Bucket(NamedTuple):
    """A connection, and the name of the limit within it ("" where the connection has only one)."""

    connection: str
    name: str = ""

    def __str__(self) -> str:
        """Write it as it is written in keys and messages."""
        return f"{self.connection}/{self.name}" if self.name else self.connection


def read_bucket(text: str) -> Bucket:
    """Read what `str` of a bucket wrote."""
    connection, _, name = text.partition("/")
    return Bucket(connection, name)
