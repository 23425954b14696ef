"""Words that were set aside as repeats, weighed once their file has been read whole.

A repeat moves its slot's newest moment forward, so that an older word which comes late cannot win, and nothing else:
it is unchanged, as `merge.judge` says. It must still be what it was taken for: the only repeat of its slot
among those weighed together, of a slot whose newest word says the same, has been settled well, and is confirmed, and
must not be sent all the same. Any other becomes an ordinary change and is judged like one.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, literal, or_, select, update

from consent.change import Origin
from consent.ledger.bulk import insert_new_from, look_up_by_key, plain_rows
from consent.ledger.intake.reassign import take_over
from consent.ledger.merge_sql import Reasserting, keep_out_of
from consent.ledger.schema import changes, imports, repeats, slots
from consent.outcome import State

CHUNK = 20_000


def weigh(tx: Connection, row: Row[Any], *, now: int, reassert: Reasserting) -> int | None:
    """Weigh the next repeats of an import under the recording lock; return how many (None: there was none)."""
    mine = (repeats.c.import_id == row.id, repeats.c.number > row.weighed_to)
    some = select(repeats.c.number).where(*mine).order_by(repeats.c.number).limit(CHUNK).subquery()
    count, last = tx.execute(select(func.count(), func.max(some.c.number))).one()
    if not count:
        return None
    meant = (*mine, repeats.c.number <= last)
    keep_out_of(tx, select(repeats.c.target_id).where(*meant))
    look_up_by_key(tx)
    taken_out, known = 0, 0
    if not _all_move_forward(tx, meant, count, reassert=reassert):
        taken_out, known = _one_by_one(tx, row.id, meant, now=now, reassert=reassert)
    counted = {
        "weighed_to": last,
        "repeated": imports.c.repeated - taken_out,
        "recorded": imports.c.recorded - known,
        "duplicates": imports.c.duplicates + known,
        "stamped": imports.c.stamped + _stamped(tx, meant, reassert),
    }
    tx.execute(update(imports).where(imports.c.id == row.id).values(**counted))
    return int(count)


def _all_move_forward(tx: Connection, meant: tuple[Any, ...], count: int, *, reassert: Reasserting) -> bool:
    """Move the slots of all these repeats forward, or none: if each moved one of its own, all were true repeats."""
    attempt = tx.begin_nested()
    if _move_forward(tx, meant, reassert=reassert) == count:
        attempt.commit()
        return True
    attempt.rollback()
    return False


def _move_forward(tx: Connection, meant: tuple[Any, ...], *, reassert: Reasserting) -> int:
    """Move the slots of true repeats forward; return how many slots were moved."""
    newer = and_(_OWN, repeats.c.effective_at >= slots.c.newest_at)
    same = and_(slots.c.confirmed == repeats.c.action, slots.c.newest_action == repeats.c.action)
    word = (changes.c.id == slots.c.newest_id, changes.c.action == repeats.c.action, changes.c.value == "")
    well = changes.c.state.in_((State.APPLIED.value, State.UNCHANGED.value))
    new = slots.c.newest_key.is_distinct_from(repeats.c.dedupe_key)
    moved = update(slots).where(*meant, newer, same, *word, well, new, ~reassert.sends_repeat())
    return tx.execute(moved.values(newest_at=repeats.c.effective_at, newest_key=repeats.c.dedupe_key)).rowcount


def _stamped(tx: Connection, meant: tuple[Any, ...], reassert: Reasserting) -> int:
    """Return how many of the repeats that are left are opt-outs which would be sent but for the export's time."""
    if reassert.stamp is None:
        return 0
    held = select(func.count()).select_from(repeats).join(slots, _OWN)
    return tx.execute(held.where(*meant, reassert.stamped_repeat())).scalar_one()


_OWN = and_(slots.c.target_id == repeats.c.target_id, slots.c.slot == repeats.c.slot)


def _one_by_one(
    tx: Connection, import_id: str, meant: tuple[Any, ...], *, now: int, reassert: Reasserting
) -> tuple[int, int]:
    """Make ordinary changes of what is no repeat; return how many words were taken out, how many of them were known."""
    the_newest = select(literal(1)).where(_OWN, slots.c.newest_key == repeats.c.dedupe_key).correlate(repeats).exists()
    first = select(func.min(repeats.c.number)).where(*meant).group_by(repeats.c.dedupe_key)
    known = tx.execute(delete(repeats).where(*meant, or_(the_newest, repeats.c.number.not_in(first)))).rowcount
    _move_forward(tx, meant, reassert=reassert)
    fresh = _take_over(tx, import_id, (*meant, ~the_newest)) + _make_changes(tx, import_id, (*meant, ~the_newest), now)
    others = tx.execute(delete(repeats).where(*meant, ~the_newest)).rowcount
    return known + others, known + others - fresh


def _take_over(tx: Connection, import_id: str, meant: tuple[Any, ...]) -> int:
    """Take over those that an import which broke off keeps back: they would be known, and never delivered."""
    same = and_(changes.c.target_id == repeats.c.target_id, changes.c.dedupe_key == repeats.c.dedupe_key)
    recorded = select(changes.c.id, changes.c.import_id, repeats.c.line).join_from(repeats, changes, same)
    return len(take_over(tx, import_id, plain_rows(tx.execute(recorded.where(*meant)))))


def _make_changes(tx: Connection, import_id: str, meant: tuple[Any, ...], now: int) -> int:
    constant = {
        "import_id": import_id,
        "origin": Origin.BULK.value,
        "recorded_at": now,
        "state": State.PENDING.value,
        "value": "",
    }
    said = [repeats.c[name] for name in _SAID]
    values = [literal(value, changes.c[name].type) for name, value in constant.items()]
    words = select(*said, *values).where(*meant).order_by(repeats.c.target_id, repeats.c.number)
    return insert_new_from(tx, changes, [*_SAID, *constant], words)


_SAID = ("dedupe_key", "line", "target_id", "slot", "action", "effective_at", "details", "own_time")
