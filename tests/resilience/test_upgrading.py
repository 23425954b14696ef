"""A ledger that is migrated under those who use it: the old version stops in words, and writes nothing."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, select, text

from consent.change import Action, Bucket, ConsentChange
from consent.errors import LedgerOutdated
from consent.imports import ImportSource
from consent.ledger import maintenance
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.keys import dedupe_key, target_key
from consent.ledger.ledger import Ledger
from consent.ledger.schema import REVISION, changes, metadata, noop_changes


def test_an_older_ledger_is_not_written_before_it_is_migrated(empty_ledger_url: str) -> None:
    """A ledger of the first revision is refused with the remedy; migrated, it keeps what it held and goes on."""
    ledger = Ledger(empty_ledger_url)
    ledger.database.write(lambda tx: _old(tx, "0001"), checked=False)
    source = ImportSource("csv", "a.csv", "a", 1, None)

    with pytest.raises(LedgerOutdated, match="optrelay migrate"):
        ledger.intake.open_import(source)

    assert ledger.maintenance.migrate() is True
    assert ledger.maintenance.revision() == REVISION
    assert ledger.intake.open_import(source).state == "reading"
    assert ledger.database.hash_key == b"\0"
    ledger.close()


def test_what_an_older_ledger_held_goes_on_under_its_number(empty_ledger_url: str) -> None:
    """An update changes how customers are referred to: what waited is still delivered to the right ones, once."""
    ledger = Ledger(empty_ledger_url)
    ledger.database.write(_old_changes, checked=False)

    assert ledger.maintenance.migrate() is True

    (task,) = ledger.queue.claim(Bucket("capillary"), 10, "token", 60.0)
    assert task.address == {"user_id": "2"}
    assert [(change.slot, change.action) for change in task.changes] == [("EMAIL", Action.OPTOUT)]
    assert task.tries == 3
    assert [one.at for one in ledger.queries.earlier_tries(task)] == [7]
    standing = {value.address["user_id"]: value.action for value in ledger.queries.current_values()}
    assert standing == {"1": Action.OPTIN, "2": Action.OPTOUT}
    (repeated,) = ledger.database.read(lambda tx: tx.execute(select(noop_changes.c.target_id)).scalars().all())
    assert repeated != task.target_id
    ledger.intake.accept_events("run", [ConsentChange("capillary", {"user_id": "2"}, "SMS", Action.OPTOUT, 8)], [])
    query = select(changes.c.target_id).where(changes.c.slot == "SMS")
    assert ledger.database.read(lambda tx: tx.execute(query).scalar_one()) == task.target_id
    ledger.close()


def test_dead_letters_of_an_older_ledger_are_found(empty_ledger_url: str) -> None:
    """An update changes how dead letters are found: those of before are still there to be understood and replayed."""
    ledger = Ledger(empty_ledger_url)
    ledger.database.write(_old_dead_letter, checked=False)

    assert ledger.maintenance.migrate() is True

    (letter,) = ledger.dead_letters.find(DeadLetterFilter())
    assert (letter.address, letter.code, letter.died_at) == ({"user_id": "9"}, "404", 5)
    found = ledger.queries.report("i")
    assert found is not None
    assert found.dead_codes == {"404": 1}
    ledger.close()


def test_changes_of_an_older_ledger_are_known_again(empty_ledger_url: str) -> None:
    """An update changes how a change is known: what was said is a duplicate, and its former id finds it."""
    ledger = Ledger(empty_ledger_url)
    change = ConsentChange("capillary", {"user_id": "9"}, "EMAIL", Action.OPTOUT, 1)
    target = target_key(b"\0", "capillary", change.address)
    former = dedupe_key(b"\0", target, change)
    ledger.database.write(lambda tx: _old_change(tx, target, former), checked=False)

    assert ledger.maintenance.migrate() is True

    run = ledger.intake.open_import(ImportSource("http", "run", "run", 0, None, stream=True)).import_id
    again = ledger.intake.accept_events(run, [change, replace(change, slot="MOBILE")], [])
    assert again.fresh == (False, True)
    found = ledger.queries.find_change(former.hex())
    assert found is not None
    assert (found.id, found.code) == (again.ids[0], "404")
    assert ledger.queries.find_change(again.ids[0]) == found
    assert ledger.queries.find_change(again.ids[1][8:]) is None  # what came later never had such an id
    ledger.close()


def test_what_was_confirmed_before_moments_were_kept_is_as_old_as_its_call(empty_ledger_url: str) -> None:
    """A fresh opt-out is sent after the update, too: only a call proves when the provider held something."""
    ledger = Ledger(empty_ledger_url)

    def old(tx: Connection) -> None:
        _old(tx, "0007")
        for number, tried in ((1, 1), (2, 0)):
            tx.execute(text(_APPLIED_AT_0007), {"n": number, "tried": tried, "key": bytes([number])})
            tx.execute(text(_SLOT_AT_0007), {"n": number})

    ledger.database.write(old, checked=False)
    ledger.maintenance.migrate()

    query = text("SELECT confirmed_at FROM slots ORDER BY newest_id")
    assert ledger.database.read(lambda tx: tx.execute(query).scalars().all()) == [77, None]
    ledger.close()


_APPLIED_AT_0007 = """
    INSERT INTO changes (id, dedupe_key, import_id, target_id, slot, action, value, effective_at, details, origin,
        recorded_at, state, attempts, settled_at)
    VALUES (:n, :key, 'old', :n, 'EMAIL', 'OPTOUT', '', 1, '{}', 'bulk', 2, 'unchanged', :tried, 77)
"""
_SLOT_AT_0007 = """
    INSERT INTO slots (target_id, slot, newest_id, newest_at, newest_action, confirmed)
    VALUES (:n, 'EMAIL', :n, 1, 'OPTOUT', 'OPTOUT')
"""


def test_what_dies_while_its_ledger_is_migrated_is_found(empty_ledger_url: str) -> None:
    """A worker of the version before is writing down a refusal when the update begins: the update waits for it."""
    ledger = Ledger(empty_ledger_url)
    ledger.database.write(_old_dead_letter, checked=False)
    ledger.database.write(lambda tx: tx.execute(text("UPDATE changes SET state = 'pending'")), checked=False)
    updating = threading.Thread(target=ledger.maintenance.migrate)

    def bury(tx: Connection) -> None:
        assert tx.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0004"
        updating.start()
        updating.join(0.5)
        assert updating.is_alive()
        tx.execute(text("UPDATE changes SET state = 'dead'"))

    ledger.database.write(bury, checked=False)
    updating.join(30)

    assert [letter.code for letter in ledger.dead_letters.find(DeadLetterFilter())] == ["404"]
    ledger.close()


def _old_dead_letter(tx: Connection) -> None:
    _old(tx, "0004")
    _bury(tx, b"key", b"key")


def _old_change(tx: Connection, target: bytes, key: bytes) -> None:
    _old(tx, "0005")
    _bury(tx, target, key)


def _bury(tx: Connection, target: bytes, key: bytes) -> None:
    for statement in _DEAD_ROWS:
        tx.execute(text(f"INSERT INTO {statement}"), {"target": target, "key": key})


_DEAD_ROWS = (
    """
    imports (id, kind, name, fingerprint, size, stream, state, started_at)
    VALUES ('i', 'csv', 'a.csv', 'a', 1, 0, 'released', 1)
    """,
    "targets (id, target_key, connection, bucket, address) VALUES (1, :target, 'capillary', '', '{\"user_id\":\"9\"}')",
    """
    changes (dedupe_key, import_id, target_id, slot, action, value, effective_at, details, origin, recorded_at, state,
    code, reason, settled_at)
    VALUES (:key, 'i', 1, 'EMAIL', 'OPTOUT', '', 1, '{}', 'bulk', 1, 'dead', '404', 'no such customer', 5)
    """,
)


def test_a_migrated_ledger_is_the_one_that_the_code_describes(ledger: Ledger) -> None:
    """An updated ledger has the same tables as a new one: no index and no bound is missing."""

    def differences(tx: Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(tx, opts=options), metadata))

    assert ledger.database.read(differences) == []


def _old_changes(tx: Connection) -> None:
    """Fill a ledger as the version before numbered targets did: 1 stands and was said again, 2 waits."""
    _old(tx, "0003")
    for number in range(3):
        values = {
            "key": target_key(b"\0", "capillary", {"user_id": str(number)}),
            "address": f'{{"user_id":"{number}"}}',
        }
        values |= {"number": number, "state": "pending" if number == 2 else "applied"}
        values |= {"action": "OPTOUT" if number == 2 else "OPTIN", "dedupe": bytes([number])}
        for statement in _OLD_ROWS[: (1, 3, 5)[number]]:
            tx.execute(text(f"INSERT INTO {statement}"), values)
    repeated = "dedupe_key, target_key, slot, action, 2, '{}' FROM changes WHERE id = 1"
    tx.execute(text(f"INSERT INTO repeats SELECT 'i', 1, 9, {repeated}"))


_OLD_ROWS = (
    "targets VALUES (:key, 'capillary', '', :address)",
    """
    changes (dedupe_key, import_id, target_key, slot, action, value, effective_at, details, origin, recorded_at, state)
    VALUES (:dedupe, 'i', :key, 'EMAIL', :action, '', 1, '{}', 'bulk', 1, :state)
    """,
    "slots VALUES (:key, 'EMAIL', :number, 1, :action, NULL, :dedupe)",
    "customer_tasks VALUES (:key, 'capillary', '', 1, 5, 1, 5, 3, 0, NULL)",
    """
    attempts (target_key, at, milliseconds, purpose, status, code, change_ids)
    VALUES (:key, 7, 1, 'write', 500, '500', '[2]')
    """,
)


def _old(tx: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(maintenance.__file__).parent / "migrations"))
    config.attributes["connection"] = tx
    command.upgrade(config, revision)
    tx.execute(text("INSERT INTO ledger_info (name, value) VALUES ('hash_key', '00')"))
