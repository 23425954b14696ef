"""What guards say of a file, by its figures alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from consent.guards.findings import EarlierFile, FileFigures, Returning, findings
from consent.guards.rules import Guard, GuardRules, ImportGuards, feed_of, without_addresses

COLUMNS = ("action", "user_id")


def figures(rows: int = 1_000, **more: object) -> FileFigures:
    """A file of which nothing is remarkable, in a connection with 20,000 slots, half of them opted out."""
    plain = FileFigures(
        rows=rows,
        rejected=0,
        optouts=0,
        returning=(),
        earlier=(),
        standing_optouts=lambda _, enough: min(10_000, enough),
        known_slots=lambda _, enough: min(20_000, enough),
        optouts_by_connection=lambda: {"crm": (int(str(more.get("optouts", 0))), ())},
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def held_by(file: FileFigures, guards: ImportGuards | None = None, **rules: object) -> list[Guard]:
    """The guards that hold a file."""
    rules_of_import = guards or ImportGuards("nightly", GuardRules.model_validate(rules), columns=COLUMNS)
    return [one.guard for one in findings(file, rules_of_import) if one.holds]


def noticed_by(file: FileFigures, **rules: object) -> list[Guard]:
    """The guards that give notice, and hold nothing."""
    found = findings(file, ImportGuards("nightly", GuardRules.model_validate(rules), columns=COLUMNS))
    return [one.guard for one in found if not one.holds]


def earlier(*rows: int, optouts: int = 100, columns: tuple[str, ...] = COLUMNS) -> tuple[EarlierFile, ...]:
    """Earlier files of a feed."""
    return tuple(EarlierFile(count, optouts, columns) for count in rows)


@pytest.mark.parametrize(
    ("count", "undated", "held"),
    [
        (24, 0, []),
        (100, 0, []),  # one in a hundred, and not more
        (101, 0, [Guard.RESURRECTS]),
        (501, 0, [Guard.RESURRECTS]),
        (1, 1, [Guard.UNDATED_OPTINS]),
        (101, 1, [Guard.UNDATED_OPTINS, Guard.RESURRECTS]),
    ],
)
def test_optins_over_optouts(count: int, undated: int, held: list[Guard]) -> None:
    """They hold a file if they are many, or if none of its rows says since when."""
    assert held_by(figures(returning=[Returning("crm", count, undated)])) == held


def test_the_share_of_what_is_opted_out_is_said_whole() -> None:
    """It said "more than 1.0% of all that are"."""
    [found] = findings(figures(returning=[Returning("crm", 101, 0)]), ImportGuards("nightly", columns=COLUMNS))
    assert found.message == (
        "would opt in again 101 slots in crm that were opted out: more than 1.0% of its opted-out slots"
    )


def test_a_connection_may_have_limits_of_its_own() -> None:
    """What is few for one connection is too many for another; the other settings stay."""
    rules = GuardRules(resurrects_from=1).overruled_by(GuardRules(resurrects_most=10))
    guards = ImportGuards("nightly", by_connection={"strict": rules})
    two = [Returning("crm", 11, 0), Returning("strict", 11, 0)]

    found = findings(figures(returning=two), guards)

    assert [(one.guard, "in strict" in one.message) for one in found] == [(Guard.RESURRECTS, True)]
    assert (rules.resurrects_from, rules.resurrects_most) == (1, 10)


def test_many_optouts_hold_only_what_can_be_compared() -> None:
    """A held opt-out is a late opt-out: a first file, and one of a young connection, only gives notice."""
    usual = earlier(1, 1, 1, 1)
    many = figures(rows=1, optouts=5_000)

    assert held_by(many) == []
    assert noticed_by(many) == [Guard.MASS_OPTOUT]
    assert held_by(replace(many, earlier=usual[:3])) == []
    assert held_by(replace(many, earlier=usual)) == [Guard.MASS_OPTOUT]
    assert held_by(replace(many, earlier=usual, known_slots=lambda _, enough: min(9_999, enough))) == []
    assert held_by(replace(many, earlier=earlier(1, 1, 1, 1, optouts=1_000))) == []  # five times as many, not more
    assert held_by(figures(rows=1, optouts=4_000, earlier=usual)) == []  # a fifth of all slots, not more


def test_why_many_optouts_are_not_held_is_said() -> None:
    """A notice gave no reason why it did not hold a file, and spoke of a share of slots where none was known."""
    usual = earlier(1, 1, 1, 1)
    many, guards = figures(rows=1, optouts=5_000), ImportGuards("nightly", columns=COLUMNS)

    messages = [
        next(found.message for found in findings(one, guards) if found.guard is Guard.MASS_OPTOUT)
        for one in (
            replace(many, known_slots=lambda *_: 0),
            replace(many, earlier=usual[:3]),
            replace(many, earlier=usual, known_slots=lambda _, enough: min(9_999, enough)),
            replace(many, earlier=usual),
        )
    ]

    assert [("20.0%" in one, "held for that" in one) for one in messages] == [
        (False, True),
        (True, True),
        (True, True),
        (True, False),
    ]
    assert "first file of its kind" in messages[0]
    assert "fewer than 4 files of its kind" in messages[1]
    assert "fewer than 10,000 slots" in messages[2]


@pytest.mark.parametrize(
    ("file", "rules", "held", "noticed"),
    [
        (figures(0), {}, [], [Guard.EMPTY]),
        (figures(0, earlier=earlier(5, 5, 5, 5)), {}, [Guard.EMPTY], []),
        (figures(0, earlier=earlier(5, 5, 5, 0)), {}, [], [Guard.EMPTY]),
        (figures(0, earlier=earlier(5)), {"full": True}, [Guard.EMPTY], []),
        (figures(499, earlier=earlier(*[1_000] * 4)), {"full": True}, [Guard.SHRUNKEN], []),
        (figures(500, earlier=earlier(*[1_000] * 4)), {"full": True}, [], []),
        (figures(49, earlier=earlier(*[1_000] * 4)), {}, [], [Guard.SHRUNKEN]),
        (figures(499, earlier=earlier(*[1_000] * 3)), {"full": True}, [], []),
        (figures(10_001, earlier=earlier(*[2_000] * 4)), {}, [Guard.SWOLLEN], []),
        (figures(10_000, earlier=earlier(*[1_000] * 4)), {}, [], []),
        (figures(400, rejected=21), {}, [], [Guard.REJECTS]),
        (figures(400, rejected=21, earlier=earlier(400)), {}, [Guard.REJECTS], []),
        (figures(400, rejected=20, earlier=earlier(400)), {}, [], []),
        (figures(earlier=earlier(1_000, columns=(*COLUMNS, "reason"))), {}, [Guard.HEADER], []),
        (figures(earlier=earlier(1_000, columns=(*COLUMNS, "reason"))), {"off": "header"}, [], [Guard.HEADER]),
    ],
)
def test_a_file_beside_the_earlier_ones(
    file: FileFigures, rules: dict[str, object], held: list[Guard], noticed: list[Guard]
) -> None:
    """Its rows, its rejected rows and its columns are compared with those of its feed."""
    assert (held_by(file, **rules), noticed_by(file, **rules)) == (held, noticed)


def test_the_size_of_a_rejects_file_says_nothing() -> None:
    """It is of the feed of its parent, and holds only what was rejected there."""
    guards = ImportGuards("nightly", GuardRules(full=True), columns=COLUMNS, is_rejects=True)

    assert held_by(figures(1, earlier=earlier(*[1_000] * 8)), guards) == []
    assert (
        feed_of("drop/nightly-2026-11-29.csv.rejects.csv")
        == feed_of("nightly-2026-11-29.csv.1.again-2.rejects.csv")
        == feed_of("nightly-2026-11-30.csv")
        == "nightly-#-#-#.csv"
    )


def test_a_long_name_is_read_in_a_moment() -> None:
    """A stranger's file, whose name ends almost like that of a rejects file, kept a watcher busy for hours."""
    assert feed_of(f"x{'.1.again' * 31}.csv") == f"x{'.#.again' * 31}.csv"


def test_a_manifest_names_the_rows() -> None:
    """Fewer or more rows than it says hold the file."""
    assert held_by(figures(9), ImportGuards("nightly", manifest_rows=10)) == [Guard.MANIFEST]
    assert held_by(figures(10), ImportGuards("nightly", manifest_rows=10)) == []


def test_rules_are_kept_as_text() -> None:
    """An import keeps the rules that its command gave."""
    guards = ImportGuards("a", GuardRules(full=True), {"crm": GuardRules(off="header")}, COLUMNS, manifest_rows=12)

    assert ImportGuards.from_text(guards.as_text()) == guards


def test_a_guard_that_does_not_exist_is_refused() -> None:
    """A misspelt guard must not stay on unnoticed."""
    with pytest.raises(ValidationError, match="there is no guard 'hedaer'"):
        GuardRules(off="rejects, hedaer")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("optouts-ann@example.com.csv", "…@….csv"),
        ("maria_lopez@example.com.csv", "…@….csv"),
        ("Maria Lopez maria@example.com.csv", "…@….csv"),
        ("maria_lopez\uff20example.com.csv", "…@….csv"),
        ("maria_lopez%2540example.com.csv", "…@….csv"),
        ("drop/ann.smith+news@mail.example.com", "…@….com"),
        ("export_ann%40example.com_2026-11-29.csv", "…@….csv"),
        ("of ann@example.com and bob@example.com.xlsx", "…@….xlsx"),
        ("ann@example.com@example.org.csv.rejects.csv", "…@….csv"),
        ("ann@example", "…@…"),
        ("nightly-2026.csv", "nightly-#.csv"),
    ],
)
def test_a_feed_names_no_address(name: str, label: str) -> None:
    """The metrics of a file that is called after a person told the address to everyone who reads graphs."""
    assert feed_of(name) == label
    assert without_addresses(label) == label
