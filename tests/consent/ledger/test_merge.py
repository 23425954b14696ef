"""The newest change wins: the rule on its own, under every order that chance can make."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from consent.change import Action
from consent.ledger.merge import NoOp, Register, Superseded, Version, Wins, is_fresh, merge, rank
from consent.reassert import Reassert

spoken = st.tuples(st.integers(0, 5), st.sampled_from(Action))


def fold(changes: list[Version]) -> Register:
    """The register after all these words, in this order of arrival."""
    register = Register()
    for change in changes:
        register, _ = merge(register, change)
    return register


def sent(changes: list[Version], register: Register, reassert: Reassert = Reassert.FRESH) -> bool:
    """Whether the newest change is to be sent after all these, in this order of arrival."""
    is_sent = False
    for change in changes:
        register, verdict = merge(register, change, reassert=reassert)
        match verdict:
            case Wins():
                is_sent = True
            case NoOp():
                is_sent = False
            case Superseded(_, resends):
                is_sent = is_sent or resends
    return is_sent


def what_stands(register: Register) -> tuple[int, Action] | None:
    """What a register says, without the number of its arrival."""
    return None if register.newest is None else (register.newest.effective_at, register.newest.action)


@given(st.lists(spoken, min_size=1), st.randoms(use_true_random=False))
def test_any_order_of_arrival_leaves_the_same_change(changes: list[tuple[int, Action]], odds: random.Random) -> None:
    """However the words come in, the same one stands in the end."""
    shuffled = odds.sample(changes, len(changes))

    first = fold([Version(*change, n) for n, change in enumerate(changes)])
    second = fold([Version(*change, n) for n, change in enumerate(shuffled)])

    assert what_stands(first) == what_stands(second)


@given(st.lists(spoken, min_size=1), st.randoms(use_true_random=False))
def test_a_change_that_comes_again_changes_nothing(changes: list[tuple[int, Action]], odds: random.Random) -> None:
    """Words that come twice, at any time, leave the same word standing."""
    doubled = changes + odds.choices(changes, k=len(changes))
    odds.shuffle(doubled)

    first = fold([Version(*change, n) for n, change in enumerate(changes)])
    second = fold([Version(*change, n) for n, change in enumerate(doubled)])

    assert what_stands(first) == what_stands(second)


@given(st.lists(spoken, min_size=1))
def test_what_stands_is_the_latest_and_on_a_tie_the_opt_out(changes: list[tuple[int, Action]]) -> None:
    """No one who opted out at the last moment on record stays opted in."""
    latest = max(moment for moment, _ in changes)
    actions = {action for moment, action in changes if moment == latest}

    assert what_stands(fold([Version(*change, n) for n, change in enumerate(changes)])) == (
        latest,
        Action.OPTOUT if Action.OPTOUT in actions else Action.OPTIN,
    )


@given(st.lists(spoken), spoken, st.sampled_from([None, *Action]))
def test_every_outcome_of_a_merge_says_what_happens_next(
    changes: list[tuple[int, Action]], change: tuple[int, Action], confirmed: Action | None
) -> None:
    """A word is superseded by one that outranks it, or stands, or is what the provider holds already."""
    before = Register(fold([Version(*one, n) for n, one in enumerate(changes)]).newest, confirmed)
    new = Version(*change, len(changes))

    after, verdict = merge(before, new, reassert=Reassert.NEVER)

    match verdict:
        case Superseded(by):
            assert after == before
            assert before.newest is not None
            assert by == before.newest.arrival
            assert rank(before.newest) > rank(new)
        case NoOp():
            assert after.newest == new
            assert confirmed == new.slot_value
        case Wins():
            assert after.newest == new
            assert confirmed != new.slot_value


def test_reassert_lets_an_opt_out_stand_though_it_is_confirmed() -> None:
    """Who asks for it has opt-outs delivered again, but never opt-ins."""
    out, back = Version(1, Action.OPTOUT, 1), Version(1, Action.OPTIN, 1)

    assert isinstance(merge(Register(None, Action.OPTOUT), out, reassert=Reassert.ALWAYS)[1], Wins)
    assert isinstance(merge(Register(None, Action.OPTIN), back, reassert=Reassert.ALWAYS)[1], NoOp)


timed = st.tuples(st.integers(0, 9), st.booleans())


@given(st.lists(timed, min_size=1), st.integers(0, 9), st.randoms(use_true_random=False))
def test_a_fresh_opt_out_is_sent_in_whatever_order_it_comes(
    moments: list[tuple[int, bool]], confirmed_at: int, odds: random.Random
) -> None:
    """An unsubscribe click does not stay unsent because a list that names no time was read before or after it.

    It is sent, as part of the newest opt-out, if any of them is fresh; and no one is called if none of them is.
    """
    changes = [Version(moment, Action.OPTOUT, n, own_time=own) for n, (moment, own) in enumerate(moments)]
    held = Register(Version(0, Action.OPTOUT, -1), "OPTOUT", confirmed_at)

    assert sent(odds.sample(changes, len(changes)), held) == any(is_fresh(held, change) for change in changes)


@given(spoken, st.booleans(), st.sampled_from([None, 2]))
def test_a_change_is_fresh_only_with_a_time_of_its_own_since_the_confirmation(
    change: tuple[int, Action],
    own: bool,  # noqa: FBT001 - drawn
    confirmed_at: int | None,
) -> None:
    """An opt-in is never sent again, nor an opt-out that says nothing which the confirmation does not cover."""
    moment, action = change
    new = Version(moment, action, 1, own_time=own)
    later = confirmed_at is None or moment > confirmed_at

    assert is_fresh(Register(None, action, confirmed_at), new) == (own and later and action is Action.OPTOUT)


@given(spoken)
def test_who_never_wants_it_has_nothing_sent_again(change: tuple[int, Action]) -> None:
    """With `never`, what is confirmed is believed."""
    held = Register(None, change[1], None)

    assert isinstance(merge(held, Version(*change, 1), reassert=Reassert.NEVER)[1], NoOp)
