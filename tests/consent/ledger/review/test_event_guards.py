"""A sender whose opt-ins overrule too many opt-outs is held until a person decides; opt-outs never are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consent.change import ConsentChange
from consent.guards.rules import GuardRules
from consent.imports import EventsAccepted, ImportSource
from consent.ledger.ledger import Ledger
from consent.ledger.review.event_guards import MOST_OPTOUTS, Burst
from consent.ledger.review.holds import Decided, Decision
from tests.support.clock import Clock
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import change_of, counts, deliver, imported, run_of

MOST_OVERRULED = GuardRules().overruling_from
MANY = MOST_OVERRULED + 1
OTHER = "key other"


def opted_out(ledger: Ledger, number: int = MANY) -> list[str]:
    """So many people who have opted out, as the provider knows."""
    people = [f"{10_000 + one}" for one in range(number)]
    imported(ledger, *(change_of(who) for who in people))
    deliver(ledger, limit=number)
    return people


def tell(ledger: Ledger, run: str, *changes: ConsentChange, by: str = "key crm") -> EventsAccepted:
    """Events of one key, in one transaction."""
    return ledger.intake.accept_events(run, [replace(one, sent_by=by) for one in changes], [])


def optins(people: list[str], minute: int = 5) -> list[ConsentChange]:
    """They are opted in again."""
    return [change_of(who, "OPTIN", minute) for who in people]


def decision() -> Decision:
    """A person's."""
    return Decision("ann", "checked with CRM")


@POSTGRESQL_IN_PROOFS
def test_opt_ins_over_many_opt_outs_are_held_and_approved(ledger: Ledger) -> None:
    """The batch that is too much waits with all that follow from this key; others, and its opt-outs, go on."""
    people, run = opted_out(ledger), run_of(ledger)

    accepted = tell(ledger, run, *optins(people), change_of("7", "OPTOUT"))
    assert accepted.fresh == (True,) * (MANY + 1)
    tell(ledger, run, change_of("8", "OPTIN"), change_of("9", "OPTOUT"))
    tell(ledger, run, change_of("11", "OPTIN"), by=OTHER)

    assert sorted(deliver(ledger)) == [
        ("11", "EMAIL|BULK OPTIN"),
        ("7", "EMAIL|BULK OPTOUT"),
        ("9", "EMAIL|BULK OPTOUT"),
    ]
    [held] = ledger.review.held_imports()
    assert (held.name, held.optins, held.optouts) == ("opt-ins of key crm at capillary", MANY + 1, 0)
    assert held.slots["all"] == MANY + 1
    [found] = held.findings
    assert (found["guard"], found["holds"], len(found["examples"])) == ("overruling_optins", True, 3)
    assert counts(ledger, run) == {"applied": 3}
    assert counts(ledger, held.import_id) == {"pending": MANY + 1}

    assert ledger.review.approve(held.import_id, decision()) == Decided(MANY + 1, MANY + 1)
    ledger.intake.publish(held.import_id)

    assert len(deliver(ledger)) == MANY + 1
    assert counts(ledger, held.import_id) == {"applied": MANY + 1}
    assert ledger.review.held_imports() == []
    tell(ledger, run, change_of("12", "OPTIN"))
    assert deliver(ledger) == [("12", "EMAIL|BULK OPTIN")]


@POSTGRESQL_IN_PROOFS
def test_what_is_withdrawn_is_never_delivered(ledger: Ledger) -> None:
    """Those who opted out stay so, and the key is free again: the next burst is held anew."""
    people, run = opted_out(ledger), run_of(ledger)
    tell(ledger, run, *optins(people))
    [held] = ledger.review.held_imports()
    ledger.review.withdraw(held.import_id, decision())
    ledger.intake.publish(held.import_id)

    assert counts(ledger, held.import_id) == {"withdrawn": MANY}
    assert deliver(ledger) == []

    tell(ledger, run, *optins(people, 9))
    [again] = ledger.review.held_imports()
    assert again.import_id != held.import_id
    assert deliver(ledger) == []


@POSTGRESQL_IN_PROOFS
def test_an_approved_opt_in_loses_to_a_later_opt_out(ledger: Ledger) -> None:
    """What was said while it was held counts."""
    people, run = opted_out(ledger), run_of(ledger)
    tell(ledger, run, *optins(people))
    [held] = ledger.review.held_imports()
    tell(ledger, run, change_of(people[0], "OPTOUT", 7))
    deliver(ledger)
    ledger.review.approve(held.import_id, decision())
    ledger.intake.publish(held.import_id)

    assert {who for who, _ in deliver(ledger)} == set(people[1:])
    assert counts(ledger, held.import_id) == {"applied": MANY - 1, "superseded": 1}


@POSTGRESQL_IN_PROOFS
def test_one_at_a_time_and_not_too_many_within_an_hour_pass(ledger: Ledger, clock: Clock) -> None:
    """The twenty-sixth within an hour is held, and not what is spread over more than one."""
    people, run = opted_out(ledger, 2 * MOST_OVERRULED + 1), run_of(ledger)
    for who in people[:MOST_OVERRULED]:
        tell(ledger, run, *optins([who]))
    clock.forward(3601)
    for who in people[MOST_OVERRULED:-1]:
        tell(ledger, run, *optins([who]))
    assert ledger.review.held_imports() == []

    tell(ledger, run, *optins(people[-1:]))
    [held] = ledger.review.held_imports()
    assert held.optins == 1
    assert len(deliver(ledger)) == 2 * MOST_OVERRULED


@POSTGRESQL_IN_PROOFS
def test_few_of_many_standing_opt_outs_pass(ledger: Ledger) -> None:
    """Twenty-six of 2,600 and more that stand are not more than one of a hundred."""
    people, run = opted_out(ledger, 100 * MANY), run_of(ledger)
    tell(ledger, run, *optins(people[:MANY]))

    assert ledger.review.held_imports() == []

    tell(ledger, run, *optins(people[MANY : 2 * MANY]))
    assert [one.optins for one in ledger.review.held_imports()] == [MANY]


@POSTGRESQL_IN_PROOFS
def test_a_retry_of_what_is_held_is_a_duplicate(ledger: Ledger) -> None:
    """The answer may have been lost: the same events again change nothing, and are still held."""
    people, run = opted_out(ledger), run_of(ledger)
    first = tell(ledger, run, *optins(people))
    again = tell(ledger, run, *optins(people))

    assert (again.ids, again.fresh) == (first.ids, (False,) * MANY)
    [held] = ledger.review.held_imports()
    assert (held.optins, deliver(ledger)) == (MANY, [])
    report = ledger.queries.report(held.import_id)
    assert report is not None
    assert (report.rows, report.accepted, report.duplicates, report.balanced) == (2 * MANY, MANY, MANY, True)


@POSTGRESQL_IN_PROOFS
def test_the_same_from_another_sender_is_delivered(ledger: Ledger) -> None:
    """What is held blocks no other source, not even in the same transaction."""
    people, run = opted_out(ledger), run_of(ledger)
    changes = [replace(one, sent_by="key crm") for one in optins(people)]
    ledger.intake.accept_events(run, [*changes, replace(changes[0], sent_by=OTHER)], [])

    assert [who for who, _ in deliver(ledger)] == [people[0]]
    [held] = ledger.review.held_imports()
    assert held.optins == MANY - 1
    assert counts(ledger, run) == {"applied": 1}
    assert counts(ledger, held.import_id) == {"pending": MANY - 1, "duplicates": 1}


def test_what_was_withdrawn_stays_so_when_it_is_told_again(ledger: Ledger) -> None:
    """A stream that is read again from its beginning, or a client that tries again, opts no one in after all."""
    people, run = opted_out(ledger), run_of(ledger)
    tell(ledger, run, *optins(people))
    [held] = ledger.review.held_imports()
    ledger.review.withdraw(held.import_id, decision())

    again = tell(ledger, run_of(ledger, "a later run"), *optins(people), change_of("9", "OPTOUT"))

    assert again.fresh == (*((False,) * MANY), True)
    assert deliver(ledger) == [("9", "EMAIL|BULK OPTOUT")]
    assert counts(ledger, held.import_id) == {"withdrawn": MANY}
    tell(ledger, run, *optins(people[:1]), by=OTHER)
    assert deliver(ledger) == [(people[0], "EMAIL|BULK OPTIN")]


@POSTGRESQL_IN_PROOFS
def test_the_consumers_of_a_source_are_one_sender(ledger: Ledger) -> None:
    """Else each restart, and each process, would have a limit of its own."""
    people = opted_out(ledger)
    for number, who in enumerate(people):
        source = ImportSource("redis stream", f"consent, as worker-{number}", f"run {number}", 0, None, stream=True)
        tell(ledger, ledger.intake.open_import(source).import_id, *optins([who]), by="")

    [held] = ledger.review.held_imports()
    assert (held.name, held.optins) == ("opt-ins of redis stream consent at capillary", 1)


def test_an_opt_in_that_lifts_narrower_opt_outs_counts_each(ledger: Ledger) -> None:
    """Of nine people three slots each are blocked: who opts them in everywhere lifts 27 opt-outs, with nine events."""
    people, run = [f"{one}" for one in range(1, 10)], run_of(ledger)
    parts = ['blocked:["SMS","A"]', 'blocked:["SMS","B"]', 'blocked:["EMAIL",""]']
    imported(ledger, *(change_of(who, slot=slot) for who in people for slot in parts))
    deliver(ledger)
    wide = [replace(change_of(who, "OPTIN", 5, slot="blocked"), overlaps=True) for who in people]

    tell(ledger, run, *(replace(one, overlaps=False) for one in wide[:1]), by=OTHER)
    tell(ledger, run, *(replace(one, slot='blocked:["SMS",""]') for one in wide[1:]))
    assert ledger.review.held_imports() == []
    tell(ledger, run, *wide[1:6])

    [held] = ledger.review.held_imports()
    [found] = held.findings
    assert (held.optins, found["guard"], len(found["examples"])) == (5, "overruling_optins", 3)


@POSTGRESQL_IN_PROOFS
def test_an_opt_out_that_is_overruled_twice_counts_once(ledger: Ledger) -> None:
    """A customer may have said it several times."""
    people, run = opted_out(ledger, 2), run_of(ledger)
    tell(ledger, run, *(one for minute in range(1, MANY) for one in optins(people, minute)))

    assert ledger.review.held_imports() == []


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize(
    ("rules", "held"),
    [
        ({"off": "overruling_optins"}, 0),
        ({"overruling_from": MANY}, 0),
        ({"overruling_share": 1.0}, 0),
        ({"overruling_from": 0, "overruling_share": 0.0}, 1),
    ],
)
def test_limits_are_settings(ledger_url: str, ledger: Ledger, rules: dict[str, object], held: int) -> None:
    """The guard can be switched off, or have other limits."""
    people = opted_out(ledger)
    own = Ledger(ledger_url, clock=ledger.now, guards_of=lambda _: GuardRules.model_validate(rules))
    tell(own, run_of(own), *optins(people))

    assert len(ledger.review.held_imports()) == held
    own.close()


@POSTGRESQL_IN_PROOFS
def test_opt_outs_are_never_held(ledger: Ledger) -> None:
    """However many there are."""
    run = run_of(ledger)
    tell(ledger, run, *(change_of(str(one)) for one in range(2_000)))

    assert len(deliver(ledger, limit=3_000)) == 2_000


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize(("usual", "noticed"), [(0, True), (20, False)])
def test_a_burst_of_opt_outs_is_told(ledger: Ledger, clock: Clock, usual: int, *, noticed: bool) -> None:
    """More than 200 within ten minutes, and more than 20 times what the busiest hours have: then it is over."""
    run = run_of(ledger)
    assert ledger.event_guards.bursts() == []  # what was before is not looked at
    for hour in range(24):
        tell(ledger, run, *(change_of(f"{hour}{one:03}") for one in range(usual)))
        clock.forward(3600)
        ledger.event_guards.bursts()
    tell(
        ledger,
        run,
        *(replace(change_of(f"9{one:05}"), effective_at=clock()) for one in range(MOST_OPTOUTS + 1)),
    )

    assert ledger.event_guards.bursts() == ([Burst("capillary", MOST_OPTOUTS + 1, usual)] if noticed else [])

    clock.forward(601)
    assert ledger.event_guards.bursts() == []
