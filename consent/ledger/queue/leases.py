"""What only one at a time may do, and who does: give out a bucket's permits, or run with a broker of its own.

Both stand in the ledger, because that is the one thing that all processes of an installation share: brokers come and
go, and a ledger may be reached by several paths, from several machines.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, bindparam, delete, select, update

from consent.ledger.database import LedgerPart
from consent.ledger.dialects.statements import NEW, bulk
from consent.ledger.queue.breakers import UPDATE_BREAKER, locked
from consent.ledger.schema import circuit_breakers, leases

LONGEST_RESERVATION_SECONDS = 40.0
"""How far ahead permits are ever given out, with what is written ahead of them; later means that a clock was set."""

_CLOCKS_SECONDS = 0.25
"""How exactly two machines are taken to know the database's time, when one goes on behind the other."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Who holds something until when (microseconds); `holder` is for people, `token` tells one process from another."""

    name: str
    holder: str
    token: str
    until: int


class Leases(LedgerPart):
    """What only one at a time may do."""

    def reserve_ahead(self, name: str, owner: str, interval: float, *, now: int, until: int) -> float:
        """Write down that a broker gives out the permits of a bucket up to `until`, before it does.

        Returns 0.0 if it may. Otherwise another broker has given out slots, and it returns the seconds after which they
        are all over and an `interval` (in seconds) has passed. Raises LedgerUnavailable.
        """

        def work(tx: Connection) -> float:
            row = locked(tx, name)
            before = min(row.reserved_until, now + int(LONGEST_RESERVATION_SECONDS * 1e6))
            if before and row.reserved_by != owner:
                wait: float = (before - now) / 1e6 + interval + _CLOCKS_SECONDS
                if wait > 0:
                    tx.execute(UPDATE_BREAKER, {"which": name, "reserved_until": before})
                    return wait
            reserved = {"reserved_until": max(before, until), "reserved_by": owner}
            tx.execute(UPDATE_BREAKER, {"which": name, **reserved})
            return 0.0

        return self.database.write(work)

    def end_reservations(self, owner: str, *, now: int) -> None:
        """Note that a broker and all who use it have ended: no call is made any more. Raises LedgerUnavailable."""
        ended = update(circuit_breakers).where(
            circuit_breakers.c.reserved_by == owner, circuit_breakers.c.reserved_until > now
        )
        self.database.write(lambda tx: tx.execute(ended.values(reserved_until=now)))

    def take_lease(self, wanted: Lease, *, now: int, dead: str = "") -> Lease | None:
        """Take something, or prolong it, if no one else holds it; return who does, or None. Raises LedgerUnavailable.

        `dead` is the token of a holder that is known to have ended without giving its lease back. A lease that ends
        later than one that is taken now was written by a clock that was set back since: it is shortened, for who still
        lives prolongs it.
        """

        def work(tx: Connection) -> Lease | None:
            columns = ("name", "holder", "token", "until")
            bulk(tx).insert(leases, columns, [(wanted.name, wanted.holder, wanted.token, wanted.until)], NEW)
            row = tx.execute(_LOCKED, {"which": wanted.name}).one()
            if row.token not in {wanted.token, dead} and row.until > now:
                if row.until > wanted.until:
                    tx.execute(_UPDATE, {"which": wanted.name, "until": wanted.until})
                return Lease(row.name, row.holder, row.token, row.until)
            values = {"holder": wanted.holder, "token": wanted.token, "until": wanted.until}
            tx.execute(_UPDATE, {"which": wanted.name, **values})
            return None

        return self.database.write(work)

    def holder_of(self, name: str, *, now: int) -> Lease | None:
        """Return who holds something now. Raises LedgerUnavailable."""
        row = self.database.read(lambda tx: tx.execute(_HELD, {"which": name, "now": now}).one_or_none())
        return None if row is None or is_dead(row.token) else Lease(row.name, row.holder, row.token, row.until)

    def give_up_lease(self, lease: Lease) -> None:
        """Let others take it, unless it was lost before. Raises LedgerUnavailable."""
        held = delete(leases).where(leases.c.name == lease.name, leases.c.token == lease.token)
        self.database.write(lambda tx: tx.execute(held))


_IS_IT = leases.c.name == bindparam("which")
_HELD = select(leases).where(_IS_IT, leases.c.until > bindparam("now"))
_LOCKED, _UPDATE = select(leases).where(_IS_IT).with_for_update(), update(leases).where(_IS_IT)
"""Made once: every process prolongs what it holds again and again."""


def process_token(pid: int | None = None) -> str:
    """Name a process, ours if none is given, so that its end can be seen on this machine; "" where /proc does not tell.

    Since the last boot, in its own namespace, a number and the clock tick of its start are one process: proc(5).
    """
    number = os.getpid() if pid is None else pid
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = Path("/proc/self/ns/pid").readlink()
        found = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if found[0] in "ZX" else f"{boot} {space} {number} {found[19]}"


def is_dead(token: str) -> bool:
    """Whether the process that a token begins with has ended; False for other machines and other namespaces."""
    parts, ours = token.split(), process_token().split()
    if len(parts) != len(ours) + 1 or not ours or parts[:2] != ours[:2]:
        return False
    return process_token(int(parts[2])).split() != parts[:4]
