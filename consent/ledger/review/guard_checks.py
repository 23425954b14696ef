"""What the guards say of an import that has been read whole, and what people have decided about one that is held.

What guards look at is asked of the ledger in sets; the file is not read again. Publishing carries out what they find.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, and_, exists, func, or_, select, update

from consent.change import Action
from consent.guards.findings import EarlierFile, FileFigures, Finding, findings, merged
from consent.guards.rules import REMEMBERED, Guard, ImportGuards
from consent.ledger.database import Database
from consent.ledger.dialects.statements import BEHIND, NEW, among, bulk, plain_rows, portions
from consent.ledger.queue.outcome_log import note_state
from consent.ledger.review import effects
from consent.ledger.schema import audit_log, changes, imports
from consent.outcome import State

OPTRELAY = "optrelay"
"""Who holds a file, in the audit log."""

_other = audit_log.alias("other")
_half = audit_log.c.what.startswith("approved, ")
_decided = or_(
    _other.c.what.in_(("approved", "withdrawn")),
    and_(_other.c.what.startswith("approved, "), _other.c.what != audit_log.c.what),
)
PARTLY_HELD = select(audit_log.c.import_id).where(
    *(audit_log.c.import_id > "", _half),  # by the index: what was done to dead letters has no import
    ~exists().where(_other.c.import_id == audit_log.c.import_id, _decided),
)
"""The imports of which one action was approved and the other not decided about: of these something may be held."""


HOLDING, PASSING = -2, -3
"""What `imports.merged_to` says while what the guards have found is being carried out."""


def checked(database: Database, row: Row[Any], known: Database | None = None) -> tuple[list[Finding], int]:
    """Return what the guards say of an import, and how many new opt-outs it has; a guard that fails holds it.

    `known` is the ledger that knows the connections and feeds, where it is another one.
    """
    import_id = row.id

    def ask(question: Callable[..., Any], *arguments: Any, of: Database = database) -> Any:
        return of.read(lambda tx: question(tx, *arguments))

    wide = partial(ask, of=known or database)

    try:
        guards = ImportGuards.from_text(row.guards)
        optouts, optins = ask(effects.first_look, import_id)
        returning = [*(ask(effects.returning, import_id) if optins else ())]
        if guards.overlapping:
            returning = merged(returning, ask(effects.returning_by_wider, import_id, guards.overlapping))
        figures = FileFigures(
            rows=row.records,
            rejected=row.rejected,
            optouts=optouts,
            returning=returning,
            earlier=wide(_earlier_files, row),
            standing_optouts=partial(wide, effects.standing_optouts),
            known_slots=partial(wide, effects.known_slots),
            optouts_by_connection=partial(ask, effects.new_optouts_by_connection, import_id),
        )
        return findings(figures, guards), optouts
    except (ArithmeticError, AttributeError, ValueError, LookupError, TypeError) as error:
        return [Finding(Guard.FAILED, holds=True, message=f"the guards could not check it ({type(error).__name__})")], 0


def _earlier_files(tx: Connection, row: Row[Any]) -> list[EarlierFile]:
    """Return the latest files of the same feed that were published, the newest first; rejects files are none."""
    facts = select(imports.c.records, imports.c.optouts, imports.c.guards)
    same = (imports.c.feed == row.feed, imports.c.id != row.id, imports.c.optouts.is_not(None))
    published = (
        imports.c.state.in_(("read", "merged", "released")),
        imports.c.merged_to != HOLDING,
        imports.c.started_at <= row.started_at,
    )
    query = facts.where(*same, *published).order_by(imports.c.started_at.desc(), imports.c.id)
    earlier = []
    for records, optouts, text in tx.execute(query.limit(REMEMBERED * 4)):
        guards = ImportGuards.from_text(text)
        if not guards.is_rejects:
            earlier.append(EarlierFile(records, optouts, guards.columns))
    return earlier[:REMEMBERED]


def predict(rehearsed: Database, import_id: str, real: Database | None, now: int) -> list[Finding]:
    """Return what the guards would say of a rehearsed import, beside what the real ledger knows; hold nothing."""
    row = rehearsed.read(lambda tx: tx.execute(select(imports).where(imports.c.id == import_id)).one())
    found = [] if row.guards is None else checked(rehearsed, row, real)[0]
    passed = update(imports).where(imports.c.id == import_id).values(checked_at=now)
    rehearsed.write(lambda tx: tx.execute(passed))
    return found


MOVED_AT_ONCE = 10_000
MOVING = -1
"""What `imports.merged_to` says while a person has decided about changes that are still to be brought into their state.

Nothing of the import is merged then. The first step is part of the decision, so that a small one is done with it.
"""


class Moved(NamedTuple):
    """How far what was `decided` has been carried out: up to the change with the number `last`."""

    decided: Mapping[Action, State]
    last: int


FROM_START = Moved({}, 0)


def move_decided(tx: Connection, import_id: str, done: Moved, now: int) -> Moved | None:
    """Do with the next held changes what was decided; return how far that is done, None if it is over.

    It begins anew where more has been decided since: of what was passed, other changes are to be moved then.
    """
    mine = imports.c.id == import_id
    if tx.execute(select(imports.c.merged_to).where(mine).with_for_update()).scalar() != MOVING:
        return None
    decided = decided_states(tx, import_id)
    after = done.last if done.decided == decided else 0
    held = (changes.c.state == State.HELD.value, changes.c.action.in_([action.value for action in decided]))
    query = select(changes.c.id, changes.c.action).where(*BEHIND, *held)
    query = query.order_by(changes.c.import_id, changes.c.id).limit(MOVED_AT_ONCE)
    rows = plain_rows(tx.execute(query, {"its": import_id, "after": after}))
    for action, state in decided.items():
        ids = [number for number, its in rows if its == action.value]
        settled = {} if state is State.PENDING else {"settled_at": now}
        for some in portions(ids):
            tx.execute(update(changes).where(among(changes.c.id, some)).values(state=state.value, **settled))
        if state is State.WITHDRAWN:
            note_state(tx, state, ids, now)
    is_over = len(rows) < MOVED_AT_ONCE
    place = {"merged_to": _new_start(tx, import_id)} if is_over else {}
    tx.execute(update(imports).where(mine).values(steps=imports.c.steps + 1, **place))
    return None if is_over else Moved(decided, int(rows[-1][0]))


def _new_start(tx: Connection, import_id: str) -> int:
    """Return where merging begins after the latest decision: before all changes, and where it has never begun before.

    So that a process which took its block of changes before the decision sees that it is another one now.
    """
    latest = select(func.max(audit_log.c.id)).where(audit_log.c.import_id == import_id)
    return PASSING - int(tx.execute(latest).scalar_one())


def decided_states(tx: Connection, import_id: str) -> dict[Action, State]:
    """Return what held changes become by what people have decided about an import, as the audit log has it."""
    decisions = set(tx.execute(select(audit_log.c.what).where(audit_log.c.import_id == import_id)).scalars())
    found = {one: State.PENDING for one in Action if decisions & {"approved", approved_in_words(one)}}
    return dict.fromkeys(Action, State.WITHDRAWN) | found if "withdrawn" in decisions else found


def approved_in_words(only: Action | None) -> str:
    """Say in the audit log what was approved."""
    return "approved" if only is None else f"approved, {only.value.lower()}s only"


def note_decision(tx: Connection, import_id: str, who: str, what: str, why: str, now: int) -> None:
    """Write into the audit log what was done to an import."""
    columns = ("at", "who", "what", "why", "change_id", "import_id")
    bulk(tx).insert(audit_log, columns, [(now, who, what, why, 0, import_id)], NEW)
