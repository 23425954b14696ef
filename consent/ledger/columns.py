"""What the tables of the ledger are made of: numbers that count themselves, keys as bytes, and room in a page."""

from __future__ import annotations

from sqlalchemy import BigInteger, Dialect, Integer, LargeBinary

NUMBER = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER numbers itself in SQLite


class Key(LargeBinary):
    """A key as bytes, which both drivers take and give as they are; SQLAlchemy would wrap and copy each."""

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> None:
        """Hand bytes on."""

    def result_processor(self, dialect: Dialect, coltype: object) -> None:
        """Hand bytes on."""


ROOM = {"fillfactor": 50}  # percent: room in each page for a row's next version, which then touches no index
