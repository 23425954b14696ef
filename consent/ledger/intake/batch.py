"""What a chunk says, as rows of the ledger, and how each word stands to its slot before it is recorded.

Most of a nightly dump says again what is so already. Such words are told apart by one look at their slots: the very
word that is the slot's newest is a duplicate; one that says again what the newest word says and the provider is
confirmed to hold is a repeat. A repeat is only set aside: whether it still is one is decided when the file has been
read whole (`consent.ledger.intake.noops`). Everything else is an ordinary change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import itemgetter
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from consent.change import Action, ConsentChange, Origin, to_micros
from consent.ledger.aliases import under_main_keys
from consent.ledger.bulk import Row, insert_all, select_by_key
from consent.ledger.keys import KEY_BYTES, Keys, action_text, canonical, parse_public_id, public_id, timed_key
from consent.ledger.recorded import select_recorded, select_registers
from consent.ledger.schema import changes, repeats, targets
from consent.outcome import State
from consent.reassert import Reassert, ReassertRules

_TARGET_COLUMNS = ("target_key", "connection", "bucket", "address")
_WORD_COLUMNS = (
    *("dedupe_key", "line", "target_id", "slot", "action", "value", "effective_at", "details", "own_time"),
)
_CHANGE_COLUMNS = (*_WORD_COLUMNS, "recorded_at", "import_id", "origin", "state")
_OUT = Action.OPTOUT.value
_REPEAT_COLUMNS = (
    *("import_id", "number", "target_id", "line", "dedupe_key", "slot", "action", "effective_at", "details"),
    "own_time",
)
_KEY, _LINE, _TARGET, _SLOT, _ACTION, _VALUE, _SINCE, _DETAILS, _OWN_TIME = range(9)


class _Alias(NamedTuple):
    """Another key of a word; with `exactly`, only if the change that has it says all the same."""

    key: bytes
    exactly: bool


@dataclass(slots=True)
class Heard:
    """A chunk's words in the order of arrival, and the targets that they are about by their keys.

    A word names its target by its key. `numbers` holds those of the targets that the ledger knows, and `known` the keys
    of the changes that it knows, so this belongs to one transaction: the numbers that it adds are gone if it fails.
    `named` holds the keys of words with a change id: that is the producer's own word for sameness, so the key must be
    looked up among all changes and such a word is never set aside. `aliases` holds for some words another key under
    which the ledger may have them, if it has them at the same time (and, if so asked, exactly as they are). After
    `set_repeats_aside`, `words` are the ordinary ones and `repeated` the repeats, as rows of `repeats`; duplicates of
    newest words are in neither.
    """

    words: list[Row]
    targets: Mapping[bytes, Row]
    named: frozenset[bytes] = frozenset()
    aliases: Mapping[bytes, _Alias] = field(default_factory=dict)
    numbers: dict[bytes, int] = field(default_factory=dict)
    known: set[bytes] = field(default_factory=set)
    repeated: list[Row] = field(default_factory=list)

    @property
    def keys(self) -> list[bytes]:
        """The dedupe keys of `words`."""
        return [word[_KEY] for word in self.words]

    @property
    def public_ids(self) -> tuple[str, ...]:
        """The ids under which outsiders know `words`."""
        return tuple(public_id(word[_TARGET], word[_KEY]) for word in self.words)

    @property
    def whose(self) -> dict[bytes, int]:
        """The dedupe keys of those words whose targets the ledger knows, each with its target's number."""
        return {word[_KEY]: self.numbers[word[_TARGET]] for word in self.words if word[_TARGET] in self.numbers}

    @property
    def whose_aliases(self) -> list[tuple[bytes, int]]:
        """The other keys of those words whose targets the ledger knows, each with its target's number."""
        return [(self.aliases[key].key, number) for key, number in self.whose.items() if key in self.aliases]

    @property
    def lines(self) -> list[int | None]:
        """Where `words` stand in their source."""
        return [word[_LINE] for word in self.words]

    def own_times(self, rows: int) -> list[int]:
        """Since when the rows hold that say so themselves, so many rows in all; one may make several changes."""
        if rows >= len(self.words):
            return [word[_SINCE] for word in self.words if word[_OWN_TIME]]
        first_of_rows = {word[_LINE]: word for word in reversed(self.words)}.values()
        return [word[_SINCE] for word in first_of_rows if word[_OWN_TIME]]


def hear(secret: bytes, wishes: Sequence[ConsentChange], now: int) -> Heard:
    """Return what a chunk says."""
    keys, words = Keys(secret), []
    named: set[bytes] = set()
    aliases: dict[bytes, _Alias] = {}
    who: dict[bytes, Row] = {}
    for change in wishes:
        address = canonical(change.address)
        target = keys.target(change.connection, change.address, address)
        if target not in who:
            who[target] = (target, change.connection, change.bucket, address)
        details, since = keys.details(change), to_micros(change.effective_at)
        what = (change.slot, action_text(change), change.value, since, details, int(change.own_time), now)
        key = keys.change(target, change, details, since)
        if change.change_id is not None or change.recorded_as is not None:
            named.add(key)
            if (alias := _alias(keys, target, change)) is not None:
                aliases[key] = alias
        words.append((key, change.line, target, *what))
    return Heard(words, who, frozenset(named), aliases)


def _alias(keys: Keys, target: bytes, change: ConsentChange) -> _Alias | None:
    if change.recorded_as is not None:
        said = parse_public_id(change.recorded_as)
        return None if said is None else _Alias(said[1], exactly=True)
    return _Alias(keys.without_sender(target, change), exactly=False) if change.sender else None


def recognise(tx: Connection, heard: Heard) -> None:
    """Find the targets and the changes that the ledger knows."""
    recognise_targets(tx, heard)
    _recognise_changes(tx, heard)


def recognise_targets(tx: Connection, heard: Heard) -> None:
    """Find the targets that the ledger knows."""
    heard.words, heard.targets = under_main_keys(tx, heard.words, heard.targets, _TARGET)
    heard.numbers = dict(select_by_key(tx, "target_key, id FROM targets WHERE target_key", list(heard.targets)))


def _recognise_changes(tx: Connection, heard: Heard) -> None:
    if not heard.named:
        heard.known = {key for (key,) in select_recorded(tx, "dedupe_key", heard.whose)}
        return
    since_of: dict[bytes, int] = dict(select_recorded(tx, "dedupe_key, effective_at", heard.whose))
    heard.known = set(since_of)
    if heard.aliases and (others := select_recorded(tx, _FACTS, heard.whose_aliases)):
        recorded = {(key, target): tuple(said) for key, target, *said in others}
        heard.words = [_by_its_alias(word, heard, recorded) for word in heard.words]
        since_of |= {key: said[3] for (key, _), said in recorded.items()}
    _tell_apart(tx, heard, since_of)


_FACTS = "dedupe_key, target_id, slot, action, changes.value, effective_at, details"


def _by_its_alias(word: Row, heard: Heard, recorded: Mapping[tuple[bytes, int | None], Row]) -> Row:
    """Return a word under the key that the ledger has it by, if that is its alias."""
    alias = heard.aliases.get(word[_KEY])
    if alias is None or word[_KEY] in heard.known:
        return word
    said = recorded.get((alias.key, heard.numbers.get(word[_TARGET])))
    if said is None:
        return word
    if said != word[_SLOT:_OWN_TIME] if alias.exactly else said[3] != word[_SINCE]:
        return word
    heard.known.add(alias.key)
    return (alias.key, *word[1:])


def _tell_apart(tx: Connection, heard: Heard, since_of: dict[bytes, int]) -> None:
    """Make another change of a word whose id is known with another time, if its own time is its sender's word.

    So a retry, which says the same time, is a duplicate, and a number that is used twice loses nothing.
    """
    apart: dict[bytes, int] = {}
    for place, word in enumerate(heard.words):
        key, since = word[_KEY], word[_SINCE]
        if key in heard.named and since_of.setdefault(key, since) != since and word[_OWN_TIME]:
            own = timed_key(key, since)
            heard.words[place] = (own, *word[1:])
            if (number := heard.numbers.get(word[_TARGET])) is not None:
                apart[own] = number
    heard.known.update(key for (key,) in select_recorded(tx, "dedupe_key", apart))


def set_repeats_aside(tx: Connection, heard: Heard, import_id: str, first: int, *, rules: ReassertRules) -> None:
    """Recognise targets and changes; tell repeats, which are numbered from `first`, and duplicates from ordinary words.

    No opt-out is a repeat where they are always sent. For words without a value this is `merge.judge`, as far
    as the slot can tell: its newest word may have had one, or may still be pending; and whether an opt-out is fresh can
    be said only once the file has been read whole.
    """
    heard.words, heard.targets = under_main_keys(tx, heard.words, heard.targets, _TARGET)
    aside: list[Row] = []
    again: list[int] = []
    always = _always(heard, rules)
    words, heard.words = heard.words, []
    registers = select_registers(tx, [word[_TARGET] for word in words], [word[_SLOT] for word in words])
    for word, held in zip(words, registers, strict=True):
        if held is None:
            heard.words.append(word)
            continue
        key, line, target, slot, action, value, since, details, own, _ = word
        whose, newest_at, newest_action, newest_key, confirmed = held
        heard.numbers[target] = whose
        if action == _OUT and target in always:
            if _holds(word, *held[1:]):
                again.append(len(heard.words))
            heard.words.append(word)
            continue
        if newest_key == key:
            continue
        if action == confirmed == newest_action and since >= newest_at and not value and key not in heard.named:
            aside.append((whose, line, key, slot, action, since, details, own))
        else:
            heard.words.append(word)
    aside.sort(key=itemgetter(0))  # by target, as in `record`
    heard.repeated = [(import_id, number, *repeat) for number, repeat in enumerate(aside, first)]
    _recognise_changes(tx, heard)
    _say_again(tx, heard, again, import_id)


def _always(heard: Heard, rules: ReassertRules) -> set[bytes]:
    """Return the targets whose opt-outs are sent whatever is confirmed."""
    if Reassert.ALWAYS not in (rules.default, *rules.by_connection.values()):
        return set()
    return {key for key, (_, connection, *_) in heard.targets.items() if rules.of(connection) is Reassert.ALWAYS}


def say_again(tx: Connection, heard: Heard, import_id: str, rules: ReassertRules) -> None:
    """Do for a file that is told as it is read what `set_repeats_aside` does where opt-outs are always sent.

    To be called after `recognise`.
    """
    always = _always(heard, rules)
    places = [
        place
        for place, word in enumerate(heard.words)
        if word[_ACTION] == _OUT and word[_TARGET] in always and word[_KEY] in heard.known
    ]
    words = [heard.words[place] for place in places]
    if not words:
        return
    registers = select_registers(tx, [word[_TARGET] for word in words], [word[_SLOT] for word in words])
    asked = zip(places, words, registers, strict=True)
    _say_again(tx, heard, [place for place, word, held in asked if held and _holds(word, *held[1:])], import_id)


def _holds(word: Row, newest_at: int, newest_action: str, _newest_key: bytes, confirmed: str | None) -> bool:
    """Whether a word is as new as its slot's newest, says the same, and the provider is confirmed to hold it."""
    says = word[_ACTION] + word[_VALUE]
    return bool(word[_SINCE] == newest_at and newest_action == word[_ACTION] and confirmed == says)


def _say_again(tx: Connection, heard: Heard, places: Sequence[int], import_id: str) -> None:
    """Make new changes of those of these words that are known: the file says them to have them sent once more.

    Each has a key of its own in this import, so that the same row further down is a duplicate.
    """
    known = [place for place in places if heard.words[place][_KEY] in heard.known]
    if not known:
        return
    for place in known:
        key, *rest = heard.words[place]
        own = blake2b(key + import_id.encode(), digest_size=KEY_BYTES).digest()
        heard.words[place] = (own, *rest)
    _recognise_changes(tx, heard)


def record(tx: Connection, heard: Heard, import_id: str, origin: Origin) -> int:
    """Record the ordinary words as changes, with their targets, and keep the repeats; return how many changes are new.

    They are laid down target by target, so that neighbours, which are weighed, claimed and settled together, lie
    together. To be called under the recording lock, after `recognise` or `set_repeats_aside`.
    """
    insert_all(tx, repeats, _REPEAT_COLUMNS, heard.repeated)
    _introduce(tx, heard)
    fresh: dict[bytes, Row] = {}
    for word in heard.words:
        if word[_KEY] not in heard.known:
            fresh.setdefault(word[_KEY], word)
    constant, numbers = (import_id, origin.value, State.PENDING.value), heard.numbers
    rows = [(key, line, numbers[target], *said, *constant) for key, line, target, *said in fresh.values()]
    rows.sort(key=itemgetter(_TARGET))  # of one target they stay as they arrived: that decides ties
    insert_all(tx, changes, _CHANGE_COLUMNS, rows)
    return len(rows)


def _introduce(tx: Connection, heard: Heard) -> None:
    """Make the targets that the ledger does not know, numbered in the order of arrival."""
    new = [key for key in dict.fromkeys(word[_TARGET] for word in heard.words) if key not in heard.numbers]
    if not new:
        return
    known = tx.execute(select(func.coalesce(func.max(targets.c.id), 0))).scalar_one()
    insert_all(tx, targets, _TARGET_COLUMNS, [heard.targets[key] for key in new])
    added = tx.execute(select(targets.c.target_key, targets.c.id).where(targets.c.id > known))
    heard.numbers.update((key, number) for key, number in added.all())
