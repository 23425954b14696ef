"""The newest word wins: the rule on its own, under every order that chance can make."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from consent.change import Action
from consent.newest import Register, Stands, Superseded, Unchanged, Word, judge, rank

spoken = st.tuples(st.integers(0, 5), st.sampled_from(Action))


def fold(words: list[Word]) -> Register:
    """The register after all these words, in this order of arrival."""
    register = Register()
    for word in words:
        register, _ = judge(register, word)
    return register


def what_stands(register: Register) -> tuple[int, Action] | None:
    """What a register says, without the number of its arrival."""
    return None if register.newest is None else (register.newest.effective_at, register.newest.action)


@given(st.lists(spoken, min_size=1), st.randoms(use_true_random=False))
def test_any_order_of_arrival_leaves_the_same_word(words: list[tuple[int, Action]], odds: random.Random) -> None:
    """However the words come in, the same one stands in the end."""
    shuffled = odds.sample(words, len(words))

    first = fold([Word(*word, n) for n, word in enumerate(words)])
    second = fold([Word(*word, n) for n, word in enumerate(shuffled)])

    assert what_stands(first) == what_stands(second)


@given(st.lists(spoken, min_size=1), st.randoms(use_true_random=False))
def test_hearing_a_word_again_changes_nothing(words: list[tuple[int, Action]], odds: random.Random) -> None:
    """Words that come twice, at any time, leave the same word standing."""
    doubled = words + odds.choices(words, k=len(words))
    odds.shuffle(doubled)

    first = fold([Word(*word, n) for n, word in enumerate(words)])
    second = fold([Word(*word, n) for n, word in enumerate(doubled)])

    assert what_stands(first) == what_stands(second)


@given(st.lists(spoken, min_size=1))
def test_what_stands_is_the_latest_and_on_a_tie_the_opt_out(words: list[tuple[int, Action]]) -> None:
    """Nobody who opted out at the last moment on record stays opted in."""
    latest = max(moment for moment, _ in words)
    said = {action for moment, action in words if moment == latest}

    assert what_stands(fold([Word(*word, n) for n, word in enumerate(words)])) == (
        latest,
        Action.OPTOUT if Action.OPTOUT in said else Action.OPTIN,
    )


@given(st.lists(spoken), spoken, st.sampled_from([None, *Action]))
def test_every_verdict_says_what_happens_next(
    words: list[tuple[int, Action]], word: tuple[int, Action], confirmed: Action | None
) -> None:
    """A word is superseded by one that outranks it, or stands, or is what the provider holds already."""
    before = Register(fold([Word(*one, n) for n, one in enumerate(words)]).newest, confirmed)
    new = Word(*word, len(words))

    after, verdict = judge(before, new)

    match verdict:
        case Superseded(by):
            assert after == before
            assert before.newest is not None
            assert by == before.newest.arrival
            assert rank(before.newest) > rank(new)
        case Unchanged():
            assert after.newest == new
            assert confirmed == new.says
        case Stands():
            assert after.newest == new
            assert confirmed != new.says


def test_reassert_lets_an_opt_out_stand_though_it_is_confirmed() -> None:
    """Who asks for it has opt-outs delivered again, but never opt-ins."""
    out, back = Word(1, Action.OPTOUT, 1), Word(1, Action.OPTIN, 1)

    assert isinstance(judge(Register(None, Action.OPTOUT), out, reassert=True)[1], Stands)
    assert isinstance(judge(Register(None, Action.OPTIN), back, reassert=True)[1], Unchanged)
