"""Who asks about someone is told every change about him, and nothing about anybody else."""

from __future__ import annotations

from dataclasses import replace

from consent.ledger.ledger import Ledger
from consent.outcome import PermanentFailure
from consent.times import to_micros
from tests.support.ledgers import MORNING, change_of, deliver, imported


def test_every_change_about_someone_is_told(ledger: Ledger) -> None:
    """What was applied, what a newer change overtook, what died, and since when his slots say what they say."""
    first = imported(
        ledger, change_of("1", "OPTIN"), change_of("1", "OPTOUT", 5), change_of("1", slot="SMS|BULK"), change_of("2")
    )
    deliver(ledger)
    imported(ledger, change_of("1", "OPTOUT", 60))  # says again what is so
    imported(ledger, change_of("1", "OPTIN", 70, slot="SMS|BULK"))
    deliver(ledger, PermanentFailure("1012", "not known"))

    [found] = ledger.queries.histories([{"user_id": "1"}], None, 10)

    seen = [(one.slot, one.action, one.state.value, one.code) for one in found.changes]
    assert seen == [
        ("EMAIL|BULK", "OPTIN", "superseded", None),
        ("EMAIL|BULK", "OPTOUT", "applied", None),
        ("SMS|BULK", "OPTOUT", "applied", None),
        ("SMS|BULK", "OPTIN", "dead", "1012"),
    ]
    assert found.changes[0].superseded_by == found.changes[1].id
    assert found.changes[0].import_id == first
    email, sms = found.slots
    assert (email.action, email.since - to_micros(MORNING), email.confirmed) == ("OPTOUT", 3_600_000_000, "OPTOUT")
    assert (sms.action, sms.confirmed) == ("OPTIN", None)  # it was tried, so who knows


def test_only_those_are_found_who_were_named(ledger: Ledger) -> None:
    """Neither a longer number nor another case is the same person, nor is a name that looks like a pattern."""
    names = ("1", "11", "1%", "_", "ann@example.com", "Ann@example.com", 'a"b', "a\\b", '{"user_id":"1"}')
    imported(ledger, *(change_of(name) for name in names))

    found = {name: ledger.queries.histories([{"user_id": name}], None, 10) for name in (*names, "unknown", "%")}

    assert [[one.address["user_id"] for one in found[name]] for name in names] == [[name] for name in names]
    assert (found["unknown"], found["%"]) == ([], [])


def test_more_columns_narrow_it_and_other_ways_widen_it(ledger: Ledger) -> None:
    """All columns of one way must fit; several ways are several questions; a connection may be asked alone."""
    ann = {"identifier_name": "email", "identifier_value": "ann@example.com"}
    shops = [replace(change_of("1"), address=ann | {"source": source}) for source in ("INSTORE", "WECHAT")]
    imported(ledger, *shops, change_of("7"))

    def asked(*ways: dict[str, str], connection: str | None = None, limit: int = 10) -> list[str]:
        found = ledger.queries.histories(ways, connection, limit)
        return [one.address.get("source", one.address.get("user_id", "")) for one in found]

    assert asked({"identifier_value": "ann@example.com"}) == ["INSTORE", "WECHAT"]
    assert asked(ann | {"source": "WECHAT"}) == ["WECHAT"]
    assert asked(ann, {"user_id": "7"}) == ["INSTORE", "WECHAT", "7"]
    assert asked(ann, limit=1) == ["INSTORE"]
    assert asked(ann, connection="capillary") == ["INSTORE", "WECHAT"]
    assert asked(ann, connection="other") == []


def test_a_part_of_a_name_finds_all_that_have_it(ledger: Ledger) -> None:
    """An app alone finds its subscriptions, also beside whole names, and none of another connection's customers."""
    hooks = [
        replace(change_of(""), connection="gupshup", address={"app_id": app, "subscription_id": number})
        for app, number in (("shop", "1"), ("shop", "2"), ("other", "1"))
    ]
    imported(ledger, *hooks, change_of("shop"))

    def asked(*ways: dict[str, str], connection: str | None = None, limit: int = 10) -> list[str]:
        found = ledger.queries.histories(ways, connection, limit)
        return ["/".join(one.address.values()) for one in found]

    assert asked({"app_id": "shop"}) == ["shop/1", "shop/2"]
    assert asked({"subscription_id": "1"}) == ["shop/1", "other/1"]
    assert asked({"app_id": "shop", "subscription_id": "2"}, {"user_id": "shop"}) == ["shop/2", "shop"]
    assert asked({"app_id": "shop"}, limit=1) == ["shop/1"]
    assert asked({"app_id": "shop"}, connection="capillary") == []
    assert asked({"source": "INSTORE"}) == []
    assert len(ledger.queries.targets_named([{"app_id": "shop"}, {"app_id": "other"}], None)) == 3
