"""Opt-outs from before the suppression check are found by it: an upgrade notes the forms of their addresses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from consent.ledger import maintenance
from consent.ledger.keys import canonical, known_forms, note_forms, target_key
from consent.ledger.ledger import Ledger
from producers.audience import AudienceCheck, AudienceQuestion, names_of, with_check
from worker.providers import PROVIDERS
from worker.providers.capillary.row import slot_text

ROWS = {name: PROVIDERS[name].row for name in ("capillary", "infobip")}
SINCE = 1_790_000_000_000_000
ANN = {"identifier_name": "email", "identifier_value": "ann@example.com", "source": "TMALL", "source_account_id": "ä"}
OLD: tuple[tuple[str, Mapping[str, str], str], ...] = (
    ("capillary", ANN, slot_text("EMAIL", "", "BULK", -1)),
    ("capillary", {"user_id": "55"}, slot_text("EMAIL", "", "BULK", -1)),
    ("infobip", {"destination": "447700900123"}, "blocked"),
    ("infobip", {"destination": "shop.example.com"}, "blocked"),
)


def before(tx: Connection) -> None:
    """A ledger of the revision before, in which these people have opted out."""
    config = Config()
    config.set_main_option("script_location", str(Path(maintenance.__file__).parent / "migrations"))
    config.attributes["connection"] = tx
    command.upgrade(config, "0017")
    tx.execute(text("INSERT INTO ledger_info (name, value) VALUES ('hash_key', '00')"))
    for number, (connection, address, slot) in enumerate(OLD, 1):
        values = {"id": number, "connection": connection, "slot": slot, "at": SINCE, "address": canonical(address)}
        values["key"] = target_key(b"\0", connection, address)
        for statement in _ROWS:
            tx.execute(text(f"INSERT INTO {statement}"), values)


_ROWS = (
    "targets (id, target_key, connection, bucket, address) VALUES (:id, :key, :connection, '', :address)",
    """
    slots (target_id, slot, newest_id, newest_at, newest_action) VALUES (:id, :slot, :id, :at, 'OPTOUT')
    """,
    """
    changes (id, dedupe_key, import_id, target_id, slot, action, value, effective_at, details, origin,
    recorded_at, state)
    VALUES (:id, :key, 'i', :id, :slot, 'OPTOUT', '', :at, '{}', 'bulk', :at, 'applied')
    """,
)


def allowed(ledger: Ledger, *people: dict[str, str]) -> list[bool]:
    """Ask about mail."""
    found: list[bool] = []

    def work(check: AudienceCheck) -> None:
        found.extend(one is None for one in check.check([names_of(person) for person in people]))

    with_check(ledger, AudienceQuestion.read(ROWS, "EMAIL", unknown="allow"), work)
    return found


@pytest.fixture
def upgraded(empty_ledger_url: str) -> Ledger:
    """The old ledger, migrated."""
    ledger = Ledger(empty_ledger_url)
    ledger.database.write(before, checked=False)
    ledger.maintenance.migrate()
    return ledger


def test_opt_outs_from_before_are_found(upgraded: Ledger) -> None:
    """By e-mail at a source of then, by number of a customer, by telephone number, and by a blocked domain."""
    people = (
        {"email": "Ann@example.com"},
        {"user_id": "55"},
        {"mobile": "+447700900123"},
        {"email": "bob@shop.example.com"},
        {"email": "dan@example.com", "user_id": "56"},
    )

    assert allowed(upgraded, *people) == [False, False, False, False, True]
    upgraded.close()


def test_an_upgrade_notes_forms_as_recording_does(upgraded: Ledger) -> None:
    """Other people with addresses of the same forms add none when they are recorded."""
    noted = upgraded.database.read(known_forms)
    with upgraded.database.engine.begin() as tx:
        note_forms(tx, [(connection, canonical(address)) for connection, address, _ in OLD])

    assert sum(map(len, noted.values())) == len(OLD)
    assert upgraded.database.read(known_forms) == noted
    upgraded.close()
