"""What each kind of reply leads to, at every provider."""

from __future__ import annotations

import pytest

from consent.outcome import Healthy, PermanentFailure, Retry, Throttled, Unauthorized, Unavailable
from tests.support.providers.capillary import change, written
from worker.providers.classify import (
    BRIEF_TRIES,
    Classification,
    ReplyKind,
    answer_for,
    foreign,
    json_object,
    pause,
    statuses,
    undocumented,
)
from worker.providers.contract import Answer, Reply


def answered(kind: ReplyKind, retry_after: float | None = None, attempts: int = 0) -> Answer:
    """Return what becomes of one change on a reply of this kind."""
    request = written(change(1, attempts=attempts))
    return answer_for(Classification(kind, "7", "why"), request, Reply(200, "", retry_after), usual_pause=30)


def test_throttled() -> None:
    """A 429 slows the bucket for as long as it says, else for the usual pause, and counts against no change."""
    usual, asked, at_once = (answered(ReplyKind.THROTTLED, after) for after in (None, 7, 0))

    assert [one.health for one in (usual, asked, at_once)] == [Throttled(30), Throttled(7), Throttled(1)]
    assert usual.outcomes == {1: Retry("7", "why", counts=False, after=30)}


def test_unauthorized() -> None:
    """What a person must fix stops the bucket; the change waits, uncounted, and goes on as soon as it is fixed."""
    answer = answered(ReplyKind.UNAUTHORIZED, retry_after=3600)

    assert answer.health == Unauthorized("why")
    assert answer.outcomes == {1: Retry("7", "why", counts=False)}


def test_unavailable() -> None:
    """A provider that is down counts against no change; where it names a time, it is left alone for so long."""
    assert answered(ReplyKind.UNAVAILABLE).health == Unavailable("why")
    assert answered(ReplyKind.UNAVAILABLE, 5).health == Throttled(5)
    assert answered(ReplyKind.UNAVAILABLE, 5).outcomes == {1: Retry("7", "why", counts=False, after=5)}


@pytest.mark.parametrize("kind", [ReplyKind.PERMANENT, ReplyKind.NOT_FOUND, ReplyKind.INVALID])
def test_permanent(kind: ReplyKind) -> None:
    """What will never be taken is a dead letter, and says nothing about the bucket."""
    answer = answered(kind)

    assert (answer.health, answer.outcomes, answer.code) == (Healthy(), {1: PermanentFailure("7", "why")}, "7")


@pytest.mark.parametrize("kind", [ReplyKind.RETRY, ReplyKind.RETRY_BRIEFLY, ReplyKind.INSPECT])
def test_retry(kind: ReplyKind) -> None:
    """What may pass is tried again, and counts."""
    answer = answered(kind, retry_after=5)

    assert (answer.health, answer.outcomes) == (Healthy(), {1: Retry("7", "why", counts=True, after=5)})


def test_brief_retries_end() -> None:
    """What may pass but not for long is a dead letter after a few answers."""
    last = answered(ReplyKind.RETRY_BRIEFLY, attempts=BRIEF_TRIES - 1)

    assert last.outcomes == {1: PermanentFailure("7", "why")}


def test_own_statuses_come_before_the_common_ones() -> None:
    """A provider's table has the common statuses, in its name, and its own meaning where it has one."""
    table = statuses("Postbird", {503: (ReplyKind.RETRY, "Postbird is being updated")})

    assert table[429] == Classification(ReplyKind.THROTTLED, "429", "Postbird asked us to slow down")
    assert table[503].kind is ReplyKind.RETRY
    assert 404 not in table


@pytest.mark.parametrize(
    ("status", "is_own", "is_json", "kind"),
    [
        (302, True, True, ReplyKind.UNAUTHORIZED),
        (502, False, False, ReplyKind.UNAVAILABLE),
        (500, True, True, None),
        (400, False, False, ReplyKind.RETRY),
        (400, False, True, None),
        (401, False, False, None),
    ],
)
def test_foreign(status: int, is_own: bool, is_json: bool, kind: ReplyKind | None) -> None:  # noqa: FBT001
    """Redirects, gateway failures and foreign 400s are told from what the provider itself answers."""
    found = foreign("Postbird", status, is_own=is_own, is_json=is_json)

    assert (found.kind if found else None) is kind


def test_undocumented() -> None:
    """A status that no page documents is tried again, under its own number."""
    assert undocumented("Postbird", 418).kind is ReplyKind.RETRY
    assert "418" in undocumented("Postbird", 418).reason


@pytest.mark.parametrize("text", ["", "[]", "17", "null", "{", '{"a": NaN}', '{"a": "\\ud800"}', "[" * 100_000])
def test_what_is_no_json_object(text: str) -> None:
    """Only an object that could be sent back counts as JSON."""
    assert json_object(text) is None
    assert json_object('{"a": 1}') == {"a": 1}


def test_pause() -> None:
    """What a provider asks for is waited, and a second at least."""
    assert (pause(None, 60), pause(5, 60), pause(0, 60)) == (60, 5, 1)
