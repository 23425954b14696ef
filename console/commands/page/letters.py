"""Dead letters: by reason, one by one, one in full; replayed or discarded after their effect was shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from http import HTTPStatus

from starlette.responses import Response

from consent.errors import ConfigurationError
from consent.ledger.dead_letters import DeadLetter, DeadLetterFilter, FoundDeadLetters, LettersGoneError, ReplayEffect
from consent.ledger.queries.pages import PAGE
from consent.ledger.review.corrections import Corrected
from console.commands.dead_letters.correction import FixableColumn, corrected_columns, fixable_columns, result_words
from console.commands.dead_letters.correction import correct as correct_letter
from console.commands.dead_letters.views import origin, own_effect
from console.commands.page.users import Role
from console.commands.page.visit import Mistake, Visit, key_of, not_found
from console.ui.text import counted
from producers.parsing.error_messages import RowError

_FILTERS = ("connection", "code", "import_id")
_FIELD = "set-"
_LONGEST = 10_000


def show_all(visit: Visit) -> Response:
    """Count the letters by reason, or show those that a filter means, the latest changes first, a page at a time."""
    which = {name: visit.query.get(name, "") for name in _FILTERS}
    is_filtered, before = any(which.values()), key_of(visit.query.get("before"))
    ids = visit.ledger.queries.letters_page(**which, before=before, limit=PAGE + 1)
    return visit.page(
        "letters.html",
        groups=[] if is_filtered or before is not None else visit.ledger.queries.letter_groups(),
        letters=_by_number(visit, ids[:PAGE]),
        last=ids[:PAGE][-1] if ids else None,
        more=len(ids) > PAGE,
        which=which,
        is_filtered=is_filtered,
        is_first=before is None,
        origin=origin,
    )


def _by_number(visit: Visit, ids: list[int]) -> list[DeadLetter]:
    found = visit.ledger.dead_letters.find(DeadLetterFilter(ids=tuple(ids), discarded=True)) if ids else []
    return sorted(found, key=lambda one: -one.id)


def show(visit: Visit) -> Response:
    """Show one letter: its reason and origin, every call, what people did."""
    return _shown(visit, _letter(visit))


def reveal(visit: Visit) -> Response:
    """Show one letter with who it is about, and note who looked."""
    letter = _letter(visit)
    try:
        why = visit.why()
    except Mistake as error:
        return _shown(visit, letter, HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    visit.ledger.review.note_reveal([letter.id], visit.who, why)
    return _shown(visit, letter, reveals=True)


def correct(visit: Visit) -> Response:
    """Record what one letter should have said, and close it as replaced by that; its time and action stay."""
    letter, settings = _letter(visit), visit.parts.settings
    try:
        corrections = _corrections(visit, letter)
        result = correct_letter(settings, visit.ledger, letter, corrections, who=visit.who, why=visit.why())
    except (Mistake, ConfigurationError) as error:
        return _shown(visit, letter, HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    message = result_words(letter, result)
    message = message[0].upper() + message[1:] + "."
    if not isinstance(result, Corrected):
        is_row = isinstance(result, RowError)
        return _shown(visit, letter, HTTPStatus.UNPROCESSABLE_ENTITY if is_row else HTTPStatus.CONFLICT, message)
    return visit.go(f"/imports/{result.import_id}", f"{message} {visit.parts.wake(visit.ledger)}".strip())


def _corrections(visit: Visit, letter: DeadLetter) -> dict[str, str]:
    """Return what is to stand in which column; raises Mistake and ConfigurationError."""
    fields = ((name.removeprefix(_FIELD), text) for name, text in visit.form.items() if name.startswith(_FIELD))
    pairs = [(name, text) for name, text in fields if text.strip()]
    if cleared := visit.form.get("clear", ""):
        pairs.append((cleared, ""))
    corrections = corrected_columns(visit.parts.settings, letter, pairs)
    if not corrections:
        raise Mistake("Type what is to stand in a column instead.")
    if any(len(text) > _LONGEST or "\0" in text for text in corrections.values()):
        raise Mistake(f"A value has at most {_LONGEST:,} characters.")
    return corrections


def _letter(visit: Visit) -> DeadLetter:
    number = key_of(visit.path["id"])
    found = _by_number(visit, [number]) if number is not None else []
    if not found:
        raise not_found("dead letter")
    return found[0]


def _shown(
    visit: Visit, letter: DeadLetter, status: HTTPStatus = HTTPStatus.OK, mistake: str = "", *, reveals: bool = False
) -> Response:
    letters = visit.ledger.dead_letters
    return visit.page(
        "letter.html",
        status,
        letter=letter,
        columns=_columns(visit, letter),
        field=_FIELD,
        form=visit.form,
        origin=origin(letter),
        effect=own_effect(letter, letters.plan_replay([letter])),
        calls=letters.attempts_for(letter),
        entries=letters.audit_log_of(letter.id),
        reveals=reveals,
        mistake=mistake,
    )


def _columns(visit: Visit, letter: DeadLetter) -> list[FixableColumn]:
    """Return the columns that this user may correct: none without the role, or if its connection is another one now."""
    if not visit.user.may(Role.OPERATOR) or letter.discarded:
        return []
    try:
        return fixable_columns(visit.parts.settings, letter)
    except ConfigurationError:
        return []


def plan(visit: Visit) -> Response:
    """Show what replaying or discarding the letters of a group, a filter or one letter would do, and do nothing."""
    return _plan(visit, visit.form.get("what", ""))


def replay(visit: Visit) -> Response:
    """Deliver letters again, if the number that was typed is right."""
    return _done(visit, "replay", _replay)


def discard(visit: Visit) -> Response:
    """Put letters away for good, if the number that was typed is right."""
    return _done(visit, "discard", _discard)


def _replay(visit: Visit, found: FoundDeadLetters, why: str) -> str:
    effects = Counter(visit.ledger.dead_letters.replay(found, who=visit.who, why=why, whole=True).values())
    message = f"{counted(effects[ReplayEffect.REPLAYED], 'letter')} will be delivered again"
    closed = effects[ReplayEffect.SUPERSEDED]
    return f"{message}; {closed:,} closed, because a newer change has overtaken them." if closed else f"{message}."


def _discard(visit: Visit, found: FoundDeadLetters, why: str) -> str:
    count = visit.ledger.dead_letters.discard(found, who=visit.who, why=why, whole=True)
    return f"{counted(count, 'letter')} discarded."


def _meant(visit: Visit) -> FoundDeadLetters:
    """Return the letters that a form means; raise Refused for a number or a text that is none."""
    number = visit.form.get("id", "")
    if number and key_of(number) is None:
        raise not_found("dead letter")
    filters = {name: visit.form.get(name) or None for name in _FILTERS}
    if any("\0" in text for text in filters.values() if text):
        raise not_found("dead letter")
    return visit.ledger.dead_letters.search(DeadLetterFilter(ids=(int(number),) if number else (), **filters))  # type: ignore[arg-type]


def _plan(
    visit: Visit,
    what: str,
    found: FoundDeadLetters | None = None,
    status: HTTPStatus = HTTPStatus.OK,
    mistake: str = "",
) -> Response:
    if what not in {"replay", "discard"}:
        raise not_found("way to deal with dead letters")
    found = _meant(visit) if found is None else found
    effects = Counter(visit.ledger.dead_letters.plan_replay(found).values()) if what == "replay" else Counter()
    return visit.page(
        "letters_plan.html",
        status,
        what=what,
        count=len(found),
        again=effects[ReplayEffect.REPLAYED],
        overtaken=effects[ReplayEffect.SUPERSEDED],
        filters={name: visit.form.get(name, "") for name in (*_FILTERS, "id")},
        form=visit.form,
        mistake=mistake,
    )


def _done(visit: Visit, what: str, work: Callable[[Visit, FoundDeadLetters, str], str]) -> Response:
    found = _meant(visit)
    try:
        why, expect = visit.why(), visit.number("expect")
    except Mistake as error:
        return _plan(visit, what, found, HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    if expect != len(found):
        message = f"Nothing was done: it is about {counted(len(found), 'letter')} now, and you typed {expect:,}."
        return _plan(visit, what, found, HTTPStatus.CONFLICT, message)
    try:
        done = work(visit, found, why)
    except LettersGoneError:
        message = "Nothing was done: others have decided about some of these letters in this moment."
        return _plan(visit, what, None, HTTPStatus.CONFLICT, message)
    note = visit.parts.wake(visit.ledger) if what == "replay" else ""
    return visit.go("/dead-letters", f"{done} {note}".strip())
