"""The use case behind `migrate`: the ledger's schema is brought up to date, and what that changed is told."""

from __future__ import annotations

from consent.ledger.aliases import merged
from consent.ledger.ledger import Ledger
from consent.ledger.schema import REVISION
from consent.settings import Settings
from console.screen import Screen

_ONE_PERSON_ONE_TARGET = "0011"


def migrate_ledger(settings: Settings, screen: Screen) -> None:
    """Migrate the ledger and say from where to where; raises LedgerUnavailable."""
    ledger = Ledger(settings.ledger_url)
    try:
        before, done = ledger.database.revision(), ledger.migrate()
        counts = merged(ledger.database) if done and before and before < _ONE_PERSON_ONE_TARGET else {}
    finally:
        ledger.close()
    screen.show(f"migrated from {before or 'nothing'} to {REVISION}" if done else f"nothing to do: it is at {REVISION}")
    if counts:
        screen.show(
            f"one person is one target now: {counts['targets_merged']:,} targets were merged into others of the same "
            f"person, {counts['targets_renamed']:,} have another key, {counts['changes_moved']:,} changes were moved"
        )
        screen.show(
            f"{counts['superseded']:,} pending changes were superseded by newer ones of the same person; of "
            f"{counts['delivered_again']:,} slots, what stands is delivered again"
        )
    screen.give({"migrated": done, "from": before, "to": REVISION, **({"merged": counts} if counts else {})})
