"""The pool of connections to PostgreSQL: how they are made and lent to transactions, and when they are given up."""

from __future__ import annotations

import time
from functools import partial
from select import POLLIN, poll
from typing import Any

from psycopg import Error, IsolationLevel
from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.exc import InvalidatePoolError

from consent.ledger.dialects.url import connect_options

READ_ONLY = "25006"
_DEPOSED = {READ_ONLY, "57P01", "57P02", "57P03"}  # takes reads only, is shut down, crashed, starts up

_BELIEVED_SECONDS = 1.0
"""How long after its last use a connection is taken to be well if nothing has come from the server since."""

ONE_VIEW = {"optrelay_isolation": IsolationLevel.REPEATABLE_READ}
"""The execution option of a transaction that reads: else each statement sees what was committed before it."""


def open_engine(url: URL) -> Engine:
    """Return an engine with a few connections, which leaves a server that takes writes no more."""
    address, options = connect_options(url)
    engine = create_engine(address, pool_size=4, connect_args=options)
    event.listen(engine, "handle_error", _forget_deposed_server)
    event.listen(engine, "checkout", partial(_give_up_lost, engine))
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "begin", _begin)
    if "prepare_threshold" not in options:
        event.listen(engine, "connect", _prepare_nothing_behind_pooler)
    return engine


def _give_up_lost(engine: Engine, connection: Any, record: Any, _lent: object) -> None:
    """Have another connection made if the server is gone; ask it, unless it was heard a moment ago.

    A server that ends says so: then its connection can be read, though nothing was asked.
    """
    used = record.info.get("used")
    if used is None or (time.monotonic() - used < _BELIEVED_SECONDS and not _can_be_read(connection)):
        return
    try:
        engine.dialect.do_ping(connection)
    except Error as error:
        raise InvalidatePoolError from error


def _can_be_read(connection: Any) -> bool:
    """Whether the server has sent something that was not asked for, or has closed the connection."""
    if connection.closed:
        return True
    waiting = poll()
    waiting.register(connection.fileno(), POLLIN)
    return bool(waiting.poll(0))


def _note_use(_connection: object, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _begin(connection: Connection) -> None:
    """Set what a transaction may see. By SQLAlchemy's own option it would be set and set back each time."""
    driver: Any = connection.connection.dbapi_connection
    level = connection.get_execution_options().get("optrelay_isolation")
    if driver.isolation_level != level:
        driver.isolation_level = level


def _forget_deposed_server(context: ExceptionContext) -> None:
    """Close every connection to a server that takes writes no more: a new one may lead to the server that does."""
    if getattr(context.original_exception, "sqlstate", None) in _DEPOSED:
        context.is_disconnect = True


def _prepare_nothing_behind_pooler(connection: Any, _record: object) -> None:
    """Prepare no statements where the server's session may be another one in the next transaction.

    A pooler hands out a number of its own instead of the server process's: so it is known without a setting.
    Source: PgBouncer, "Features" (transaction pooling) and its cancel keys.
    """
    with connection.cursor() as cursor:
        (number,) = cursor.execute("SELECT pg_backend_pid()").fetchone()
    connection.rollback()
    if number != connection.info.backend_pid:
        connection.prepare_threshold = None
