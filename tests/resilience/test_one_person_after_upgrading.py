"""A ledger of before is migrated: every person is one target from then on, and nothing that was said is lost."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from consent.change import Action, ConsentChange
from consent.errors import LedgerOutdated, LedgerUnavailable
from consent.imports import ImportSource
from consent.ledger.ledger import Ledger
from consent.ledger.migrations import merging
from consent.ledger.schema import REVISION, attempts, changes, customer_tasks, slots, targets
from consent.settings import load_settings
from console.commands.ledger.command import migrate_ledger
from console.ui.screen import Screen
from tests.resilience.old_ledger import LEASED, Old, OldLedger, fill, generated

SIZE = int(os.environ.get("PROOF_OLD_CHANGES", "50000"))


def migrated(url: str, count: int, seed: int) -> tuple[Ledger, OldLedger]:
    """A ledger of before with so many changes, migrated."""
    ledger, old = Ledger(url), generated(count, seed)
    fill(ledger, old)
    started = time.monotonic()
    assert ledger.maintenance.migrate() is True
    print(f"\n{count:,} changes, {len(old.targets):,} targets: {time.monotonic() - started:.1f} s")
    return ledger, old


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.proof)])
def test_every_person_is_one_target_and_nothing_is_lost(empty_ledger_url: str, seed: int) -> None:
    """An update loses the newest change of a person who was two targets, or the pending work of one of them."""
    ledger, old = migrated(empty_ledger_url, 1_500, seed)
    compare(ledger, old)
    ledger.intake.finish_reading("unread")
    ledger.intake.publish("unread")
    everything = [change._replace(import_id="whole") for change in old.changes]
    query = select(changes.c.id, changes.c.target_id)
    whose = dict(map(tuple, ledger.database.read(lambda tx: tx.execute(query).all())))
    _registers(ledger, replace(old, changes=everything), whose)
    ledger.close()


@pytest.mark.proof
def test_a_large_ledger_is_migrated(empty_ledger_url: str) -> None:
    """The same with many changes: 50,000, or as many as PROOF_OLD_CHANGES says."""
    ledger, old = migrated(empty_ledger_url, SIZE, 3)
    compare(ledger, old, known_again=200)
    ledger.close()


def test_a_migration_that_was_cut_short_is_run_again(empty_ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power fails while a ledger is migrated: half of a person's targets are merged, and the rest is lost."""
    ledger, old = Ledger(empty_ledger_url), generated(400, 5)
    fill(ledger, old)
    with monkeypatch.context() as cut:
        cut.setattr(merging, "tell", lambda _: (_ for _ in ()).throw(LedgerUnavailable("cut")))
        with pytest.raises(LedgerUnavailable):
            ledger.maintenance.migrate()

    assert ledger.maintenance.revision() == "0007"
    with pytest.raises(LedgerOutdated, match="optrelay migrate"):
        ledger.intake.open_import(ImportSource("csv", "a.csv", "a", 1, None))
    assert ledger.maintenance.migrate() is True
    assert ledger.maintenance.revision() == REVISION
    compare(ledger, old)
    ledger.close()


def compare(ledger: Ledger, old: OldLedger, known_again: int = 40) -> None:
    """Hold what there is against what there was; so many changes are asked for by their old ids."""
    whose = _same_changes(ledger, old)
    _registers(ledger, old, whose)
    _work(ledger, old, whose)
    for import_id in ("whole", "unread"):
        found = ledger.queries.report(import_id)
        assert found is not None
        assert found.balanced
    chosen = random.Random(7).sample(old.changes, known_again)
    _known_again(ledger, old, chosen)
    _found_by_any_spelling(ledger, old, chosen[:3])


def _same_changes(ledger: Ledger, old: OldLedger) -> dict[int, int]:
    """Every change is there as it was said, and persons are apart; return the target of each change."""
    names = ("import_id", "action", "effective_at", "details", "slot")
    query = select(changes.c.id, changes.c.target_id, changes.c.state, *(changes.c[name] for name in names))
    rows = ledger.database.read(lambda tx: tx.execute(query.order_by(changes.c.id)).all())
    assert [(row[0], *row[3:]) for row in rows] == [
        (c.id, c.import_id, c.action, c.since, c.details, c.slot) for c in old.changes
    ]
    whose = {row.id: row.target_id for row in rows}
    targets_of, persons_of = defaultdict(set), defaultdict(set)
    for change in old.changes:
        targets_of[change.person].add(whose[change.id])
        persons_of[whose[change.id]].add(change.person)
    assert {len(found) for found in targets_of.values()} == {1}
    assert {len(found) for found in persons_of.values()} == {1}
    moves = Counter((c.state, row.state) for c, row in zip(old.changes, rows, strict=True) if c.state != row.state)
    again = {(state, "pending") for state in ("applied", "unchanged", "dead")}
    assert moves.keys() <= {("pending", "superseded"), *again}
    assert moves["pending", "superseded"] > 0
    assert moves["applied", "pending"] > 0
    return whose


def _registers(ledger: Ledger, old: OldLedger, whose: dict[int, int]) -> None:
    """Of each slot of each person the newest change stands, an opt-out on a tie; what it overtook says so."""
    newest: dict[tuple[int, str], Old] = {}
    for change in (one for one in old.changes if one.import_id == "whole"):
        where = whose[change.id], change.slot
        newest[where] = max(newest.get(where, change), change, key=lambda one: one.rank)
    query = select(slots.c.target_id, slots.c.slot, slots.c.newest_id, slots.c.newest_action, slots.c.newest_at)
    rows = ledger.database.read(lambda tx: tx.execute(query).all())
    assert {(row[0], row[1]): tuple(row[2:]) for row in rows} == {
        where: (one.id, one.action, one.since) for where, one in newest.items()
    }
    lost = select(changes.c.id, changes.c.superseded_by).where(changes.c.state == "superseded")
    for number, winner in ledger.database.read(lambda tx: tx.execute(lost).all()):
        assert old.changes[number - 1].rank < old.changes[winner - 1].rank


def _work(ledger: Ledger, old: OldLedger, whose: dict[int, int]) -> None:
    """Each target with something to deliver has a task, no lease was lost, and calls stay with their person."""
    waits = (
        select(slots.c.target_id).join(changes, changes.c.id == slots.c.newest_id).where(changes.c.state == "pending")
    )
    tasks = select(customer_tasks.c.target_id, customer_tasks.c.lease_token)
    pending, held, called, places = ledger.database.read(
        lambda tx: (
            set(tx.execute(waits).scalars()),
            dict(map(tuple, tx.execute(tasks))),
            tx.execute(select(attempts.c.target_id, attempts.c.change_ids)).all(),
            set(tx.execute(select(targets.c.id)).scalars()),
        )
    )
    assert pending <= held.keys() <= places
    first = {change.target: whose[change.id] for change in old.changes}
    assert {first[number] for number in old.leased} == {number for number, token in held.items() if token == LEASED}
    assert len(called) == sum(old.changes[ids[-1] - 1].state in ("applied", "dead") for ids in old.folded.values())
    assert all(target == whose[int(ids.strip("[]"))] for target, ids in called)


def _known_again(ledger: Ledger, old: OldLedger, chosen: list[Old]) -> None:
    """Ids that were given out still find their change, and what was said before is a duplicate."""
    for change in chosen:
        found = ledger.queries.find_change(old.public_id(change))
        assert found is not None
        assert (found.import_id, found.number, found.slot) == (change.import_id, change.id, change.slot)
    changes = [_as_now(old, change) for change in chosen if not change.named and change.import_id == "whole"]
    run = ledger.intake.open_import(ImportSource("http", "run", "run", 0, None, stream=True)).import_id
    before = ledger.database.read(lambda tx: tx.execute(select(func.count()).select_from(targets)).scalar_one())
    again = ledger.intake.accept_events(run, changes, [])
    assert not any(again.fresh)
    assert list(again.ids) == ledger.queries.public_ids(changes)
    assert before == ledger.database.read(lambda tx: tx.execute(select(func.count()).select_from(targets)).scalar_one())


def _as_now(old: OldLedger, change: Old) -> ConsentChange:
    """The same row as this version reads it: what narrows a block is in its slot, and a source is a source."""
    _, connection, bucket, address = old.targets[change.target - 1]
    if "destination" in address:
        address = {"destination": address["destination"]}
    elif "source" in address:
        address = {**address, "source": "INSTORE"}
    details = {"source_name": change.details.split('"')[3]} if change.details != "{}" else {}
    moment = change.since
    return ConsentChange(connection, address, change.slot, Action(change.action), moment, details, bucket=bucket)


def _found_by_any_spelling(ledger: Ledger, old: OldLedger, chosen: list[Old]) -> None:
    for change in chosen:
        *_, address = old.targets[change.target - 1]
        asked = {name: value.upper() for name, value in address.items() if name in ("destination", "identifier_value")}
        if asked:
            assert len(ledger.queries.histories([asked], None, 10)) == 1


def test_a_source_that_came_from_its_name_is_found_by_both(empty_ledger_url: str) -> None:
    """Who was found under FACEBOOK since consent was collected there becomes a second person once that is a column."""
    ledger, old = migrated(empty_ledger_url, 1_500, 9)
    change = next(c for c in old.changes if "FACEBOOK" in c.details and c.import_id == "whole")
    *_, address = old.targets[change.target - 1]
    query = select(changes.c.target_id).where(changes.c.id == change.id)
    target = ledger.database.read(lambda tx: tx.execute(query).scalar_one())
    run = ledger.intake.open_import(ImportSource("http", "run", "run", 0, None, stream=True)).import_id
    for source in ("FACEBOOK", "INSTORE"):
        moment = change.since + 1_000_000 * len(source)
        opt_out = ConsentChange("capillary", address | {"source": source}, change.slot, Action.OPTOUT, moment)
        done = ledger.intake.accept_events(run, [opt_out], [])
        found = ledger.queries.find_change(done.ids[0])
        assert found is not None
    mine = select(changes.c.target_id).where(changes.c.import_id == run)
    assert ledger.database.read(lambda tx: tx.execute(mine).scalars().all()) == [target, target]
    ledger.close()


def test_what_was_done_is_told(empty_ledger_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Someone updates and cannot tell whether thousands of persons were merged, or none."""
    ledger, old = Ledger(empty_ledger_url), generated(400, 5)
    fill(ledger, old)
    ledger.close()

    migrate_ledger(load_settings(ledger_url=empty_ledger_url), Screen(as_json=True))

    answer = json.loads(capsys.readouterr().out)
    assert (answer["from"], answer["to"]) == ("0007", REVISION)
    left = ledger.database.read(lambda tx: tx.execute(select(func.count()).select_from(targets)).scalar_one())
    assert answer["merged"]["targets_merged"] == len(old.targets) - left > 0
    for name in ("targets_renamed", "changes_moved", "superseded", "delivered_again"):
        assert answer["merged"][name] > 0
    ledger.close()
