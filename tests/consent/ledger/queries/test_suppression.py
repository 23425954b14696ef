"""An opt-out that stands stops, wherever it waits: held against an oracle, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from consent.change import Action, Bucket, ConsentChange
from consent.errors import ConfigurationError
from consent.identifiers.suppression import Question, Unknown
from consent.ledger.ledger import Ledger
from consent.ledger.review.holds import Decision
from consent.outcome import Applied, PermanentFailure
from consent.times import to_micros
from producers.audience import AudienceCheck, AudienceQuestion, MissingNames, Stopped, names_of, with_check
from tests.support.examples import POSTGRESQL_IN_PROOFS, examples
from tests.support.ledgers import guarded, imported, recorded, settlement
from worker.providers.capillary.row import CapillaryRow, read_slot, slot_text
from worker.providers.infobip.blocklist_slots import OVERLAP, Place, blocked_text, read_place
from worker.providers.infobip.row import InfobipRow

ROWS = {"capillary": CapillaryRow, "infobip": InfobipRow}
START = datetime(2026, 11, 1, tzinfo=UTC)
PEOPLE = range(2)
CAPILLARY_SLOTS = [slot_text(c, a, p, -1) for c in ("EMAIL", "MOBILE") for p in ("BULK", "TRANS") for a in ("", "01")]
INFOBIP_SLOTS = [blocked_text(Place(c, s)) for c in ("", "EMAIL", "SMS") for s in ("", "SHOP")]
Statement = tuple[str, str, str, Action, int]
"""Connection, what names the person, slot, action, minute."""


def address(kind: str, person: int) -> tuple[str, dict[str, str]]:
    """The connection, and an address by which a person is recorded."""
    email, mobile = f"Ann{person}@shop{person}.example.com", f"44770090012{person}"
    named = {
        "user": ("capillary", {"user_id": str(5000 + person)}),
        "store": ("capillary", {"identifier_name": "email", "identifier_value": email, "source": "INSTORE"}),
        "web": ("capillary", {"identifier_name": "email", "identifier_value": email.upper(), "source": "WEBSITE"}),
        "phone": ("capillary", {"identifier_name": "mobile", "identifier_value": f"+{mobile}", "source": "INSTORE"}),
        "to": ("infobip", {"destination": email}),
        "number": ("infobip", {"destination": mobile}),
        "domain": ("infobip", {"destination": f"shop{person}.example.com"}),
    }
    return named[kind]


GIVEN = {"user": "user_id", "store": "email", "web": "email", "to": "email", "domain": "email"} | dict.fromkeys(
    ("phone", "number"), "mobile"
)
"""By which kind of name an audience finds each."""

drawn = st.builds(
    lambda kind, person, action, minute, slot: (
        kind,
        person,
        (CAPILLARY_SLOTS if kind in ("user", "store", "web", "phone") else INFOBIP_SLOTS)[slot],
        action,
        minute,
    ),
    st.sampled_from(sorted(GIVEN)),
    st.sampled_from(PEOPLE),
    st.sampled_from([Action.OPTOUT, Action.OPTOUT, Action.OPTIN]),
    st.integers(1, 40),
    st.integers(0, 5),
)
steps = st.one_of(
    st.tuples(st.sampled_from(["publish", "record", "hold"]), st.lists(drawn, min_size=1, max_size=4)),
    st.tuples(st.sampled_from(["apply", "bury", "approve", "withdraw"]), st.just([])),
)
questions = st.tuples(st.sampled_from(["EMAIL", "SMS", "WHATSAPP"]), st.sampled_from(["", "BULK", "TRANS"]))


NARROW_OUT = ("to", 0, INFOBIP_SLOTS[2], Action.OPTOUT, 5)
WIDE_IN = ("to", 0, INFOBIP_SLOTS[0], Action.OPTIN)
USER = ("user", 0, CAPILLARY_SLOTS[0])
"""A narrow opt-out is lifted by a later opt-in to all, and not by an earlier one; and a row that only repeats an
opt-out stands, once read, over an opt-in from before it that comes later."""


@dataclass
class Oracle:
    """What has been said, and what of it was published, without a ledger."""

    published: list[Statement] = field(default_factory=list)
    waiting: dict[str, list[Statement]] = field(default_factory=dict)

    def stops(self, kind_of_name: str, person: int, question: Question) -> bool:
        """Whether an opt-out stands that is found by this kind of name."""
        outs = [one for one in (*self.published, *(w for some in self.waiting.values() for w in some)) if _is_out(one)]
        mine = [one for one in outs if one[1] in {f"{k} {person}" for k, g in GIVEN.items() if g == kind_of_name}]
        return any(_means(one, question) and not self._lifted(one) for one in mine)

    def _lifted(self, out: Statement) -> bool:
        return any(
            one[:2] == out[:2] and not _is_out(one) and one[4] > out[4] and _covers(out[0], one[2], out[2])
            for one in self.published
        )


def _is_out(statement: Statement) -> bool:
    return statement[3] is Action.OPTOUT


def _means(statement: Statement, question: Question) -> bool:
    """Whether a slot is about this channel and priority, by the words of the providers' pages."""
    if statement[0] == "capillary":
        slot = read_slot(statement[2])
        return {"MOBILE": "SMS"}.get(slot.channel, slot.channel) == question.channel and (
            not question.priority or slot.priority == question.priority
        )
    place = read_place(statement[2])
    assert place is not None
    return not place.channel or place.channel == question.channel


def _covers(connection: str, wide: str, narrow: str) -> bool:
    if connection == "capillary":
        return wide == narrow
    one, other = read_place(wide), read_place(narrow)
    assert one is not None
    assert other is not None
    return one.channel in ("", other.channel) and one.sender in ("", other.sender)


class World:
    """A ledger and the oracle beside it."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.oracle, self.seen = ledger, Oracle(), set()
        self.held: list[str] = []
        self.numbers = count()
        self.dummy = address("user", 9)
        imported(ledger, self._change("capillary", self.dummy[1], CAPILLARY_SLOTS[0], Action.OPTOUT, 1))

    def _change(self, connection: str, named: dict[str, str], slot: str, action: Action, minute: int) -> ConsentChange:
        bucket = "" if connection == "capillary" else "blocklist"
        return ConsentChange(
            connection, named, slot, action, to_micros(START + timedelta(minutes=minute)), bucket=bucket
        )

    def do(self, what: str, statements: list[tuple[str, int, str, Action, int]]) -> None:
        """One step, in both."""
        fresh = [one for one in dict.fromkeys(statements) if one not in self.seen]
        self.seen.update(fresh)
        changes, meant = [], []
        for kind, person, slot, action, minute in fresh:
            connection, named = address(kind, person)
            same = f"{'web' if kind == 'web' else kind} {person}"
            changes.append(self._change(connection, named, slot, action, minute))
            meant.append((connection, same, slot, action, minute))
        if what == "publish" and changes:
            imported(self.ledger, *changes)
            self.oracle.published += meant
        elif what == "record" and changes:
            self.oracle.waiting[recorded(self.ledger, *changes)] = meant
        elif what == "hold" and changes:
            wrong = self._change("capillary", self.dummy[1], CAPILLARY_SLOTS[0], Action.OPTIN, 100 + next(self.numbers))
            file = guarded(self.ledger, *changes, wrong, resurrects_most=0)
            self.held.append(file)
            self.oracle.waiting[file] = meant
        elif what in ("approve", "withdraw") and self.held:
            self._decide(what, self.held.pop())
        elif what in ("apply", "bury"):
            self._deliver(Applied() if what == "apply" else PermanentFailure("1012", "no such customer"))

    def _decide(self, what: str, file: str) -> None:
        decision = Decision("ann", "checked", Action.OPTOUT if what == "approve" else None)
        (self.ledger.review.approve if what == "approve" else self.ledger.review.withdraw)(file, decision)
        self.ledger.intake.publish(file)
        meant = self.oracle.waiting.pop(file)
        if what == "approve":
            self.oracle.published += [one for one in meant if _is_out(one)]

    def _deliver(self, outcome: object) -> None:
        for bucket, overlap in ((Bucket("capillary"), None), (Bucket("infobip", "blocklist"), OVERLAP)):
            token = f"delivery {next(self.numbers)}"
            tasks = self.ledger.queue.claim(bucket, 100, token, 60, overlap=overlap)
            self.ledger.queue.settle(token, [settlement(task, outcome, self.ledger.now()) for task in tasks])


def ask(
    ledger: Ledger, question: Question, *people: dict[str, str], unknown: Unknown | None = Unknown.ALLOW
) -> list[Stopped | None]:
    """Check some people."""
    found: list[Stopped | None] = []

    def work(check: AudienceCheck) -> None:
        found.extend(check.check([names_of(one) for one in people]))

    with_check(ledger, AudienceQuestion.read(ROWS, *question, unknown=unknown), work)
    return found


@contextmanager
def emptied(ledger: Ledger) -> Iterator[Ledger]:
    """The ledger without what an earlier example left behind."""
    tables = ("noop_changes", "pending_duplicates", "slots", "changes", "customer_tasks", "imports", "targets")
    tables += ("attempts", "dead_letters", "audit_log", "address_forms")
    ledger.database.write(lambda tx: [tx.execute(text(f"DELETE FROM {name}")) for name in tables])
    yield ledger


def names(person: int) -> dict[str, dict[str, str]]:
    """The names of a person as an audience writes them."""
    return {
        "user_id": {"user_id": f"{5000 + person}"},
        "email": {"email": f" ann{person}@SHOP{person}.example.com"},
        "mobile": {"mobile": f"+44 7700 90012{person}"},
    }


@pytest.mark.takes(20)
@POSTGRESQL_IN_PROOFS
@settings(max_examples=examples(150, share=10), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=st.lists(steps, min_size=3, max_size=9), asked=questions)
@example(script=[("publish", [NARROW_OUT]), ("publish", [(*WIDE_IN, 9)])], asked=("EMAIL", ""))
@example(script=[("publish", [NARROW_OUT]), ("publish", [(*WIDE_IN, 3)])], asked=("EMAIL", ""))
@example(
    script=[
        ("publish", [(*USER, Action.OPTOUT, 5)]),
        ("apply", []),
        ("record", [(*USER, Action.OPTOUT, 20)]),
        ("publish", [(*USER, Action.OPTIN, 9)]),
    ],
    asked=("EMAIL", "BULK"),
)
def test_who_opted_out_is_stopped_and_no_one_else(
    ledger: Ledger, script: list[tuple[str, list]], asked: tuple[str, str]
) -> None:
    """Whatever has been recorded, published, held, withdrawn, delivered or has died."""
    with emptied(ledger):
        world = World(ledger)
        for what, statements in script:
            world.do(what, statements)
        question = Question(*asked)

        for person in PEOPLE:
            each = names(person)
            expected = {kind: world.oracle.stops(kind, person, question) for kind in each}
            found = ask(ledger, question, *each.values(), {**each["email"], **each["mobile"]})
            assert [one is not None for one in found] == [
                *expected.values(),
                expected["email"] or expected["mobile"],
            ]
            assert all(one.code == "opted_out" for one in found if one is not None)


def test_a_name_that_the_audience_lacks_is_no_leave(ledger: Ledger) -> None:
    """The opt-out is by user_id, and the audience gives e-mail addresses."""
    connection, named = address("user", 1)
    moment = to_micros(START + timedelta(minutes=1))
    recorded(ledger, ConsentChange(connection, named, CAPILLARY_SLOTS[0], Action.OPTOUT, moment))
    ann = {"email": "ann@example.com"}

    with pytest.raises(MissingNames, match="1 by user_id") as refused:
        ask(ledger, Question("EMAIL", "BULK"), ann, unknown=None)
    assert refused.value.missing == {"user_id": 1}
    assert ask(ledger, Question("EMAIL", "BULK"), ann) == [None]
    [stopped] = ask(ledger, Question("EMAIL", "BULK"), ann, unknown=Unknown.STOP)
    assert stopped is not None
    assert stopped.code == "unknown"
    # No one has opted out of text messages, and who gives both names is known.
    assert ask(ledger, Question("SMS"), ann, unknown=None) == [None]
    assert ask(ledger, Question("EMAIL"), {**ann, "user_id": "77"}, unknown=None) == [None]


@POSTGRESQL_IN_PROOFS
def test_a_connection_that_is_not_configured_is_no_leave(ledger: Ledger) -> None:
    """Its opt-outs cannot be understood, so the question is refused."""
    imported(ledger, ConsentChange("former", {"user_id": "5"}, "x", Action.OPTOUT, to_micros(START)))

    with pytest.raises(ConfigurationError, match="former, which is not configured"):
        ask(ledger, Question("EMAIL"), {"user_id": "5"})
