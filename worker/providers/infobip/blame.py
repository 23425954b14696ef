"""Which changes Infobip's violations name: by a path into the body that we sent, and words from our own list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from consent.change import Action
from consent.ledger.queue.tasks import ClaimedChange
from consent.outcome import Outcome, Rejected
from worker.providers.contract import Request
from worker.providers.infobip.body import Violation
from worker.providers.infobip.document import key_of, listed
from worker.providers.infobip.slots import FIELD, SETS, slot_text

_MEMBER = re.compile(rf"({'|'.join(SETS)})(?:\[(\d{{1,6}})\])?(?:\..*)?", re.ASCII)
_FIELDS = {"name": "name", "profile": "profile_id", "profileId": "profile_id", "profile.profileId": "profile_id"}
_KINDS = (
    (re.compile(r"size must be between (\d{1,6}) and (\d{1,6})"), "its length must be between {} and {}"),
    (re.compile(r"unsupported"), "it is not supported"),
    (re.compile(r"must not be (?:empty|blank|null)"), "it must not be empty"),
    (re.compile(r"invalid|not valid|must be a valid|malformed"), "it is not valid"),
)
"""Words of violations that are known, and ours for them: what Infobip writes may repeat a person's data."""


def rejection(path: str, words: str) -> Rejected:
    """Return the rejection of what stands at a path of ours."""
    for pattern, sentence in _KINDS:
        if found := pattern.search(words.lower()):
            return Rejected(
                "invalid_" + path, f"Infobip does not accept the {path}: {sentence.format(*found.groups())}"
            )
    return Rejected("invalid_" + path, f"Infobip does not accept the {path}")


def blamed(request: Request, violations: Iterable[Violation]) -> dict[int, Outcome]:
    """Return a rejection for each change that a violation surely names; empty if none does."""
    found: dict[int, Outcome] = {}
    for violation in violations:
        slot, kind = _slot(request, violation.path)
        for change in _owners(request, slot, kind):
            found[change.id] = rejection(kind, violation.words)
    return found


def _slot(request: Request, path: str) -> tuple[str, str]:
    """Return the slot that a path leads to ("" for a set as a whole), and our name for that part of the body."""
    if path in _FIELDS:
        return slot_text(FIELD, _FIELDS[path]), _FIELDS[path]
    match = _MEMBER.fullmatch(path)
    if match is None:
        return "", ""
    kind, members = match[1], listed(request.json, match[1])
    if match[2] is None or int(match[2]) >= len(members):
        return "", kind
    return slot_text(kind, key_of(kind, members[int(match[2])])), kind


def _owners(request: Request, slot: str, kind: str) -> Iterator[ClaimedChange]:
    """Yield the changes behind a slot; a set as a whole is surely meant for one change only if it is the only one."""
    if slot:
        yield from (one for one in request.changes if one.slot == slot and _puts_in(one))
        return
    mine = [one for one in request.changes if kind and one.slot.startswith(f"{kind}:")]
    if len(mine) == 1:
        yield from mine


def _puts_in(change: ClaimedChange) -> bool:
    return change.action is Action.OPTIN or change.slot.startswith(f"{FIELD}:")
