"""One person: what was said about each slot, by what, and what the provider holds; by name only for those who may.

The search comes as a form: an identifier stands in no address, no log and no history of the browser.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import Response

from consent.errors import ConfigurationError
from consent.identifiers.masking import masked, revealed
from consent.ledger.queries.history import History
from console.commands.ledger.history import find_histories, person_columns, superseded_text
from console.commands.page.visit import Mistake, Visit

_MOST = 20
_LATEST = 200
"""Changes of each match that are shown: `optrelay history` tells all."""

_LONGEST = 1_000
_PAIRS = ("", "_2")
"""What stands behind the names of the fields of the two columns that a form has."""


def ask(visit: Visit) -> Response:
    """Show the form alone."""
    return _shown(visit)


def search(visit: Visit) -> Response:
    """Show who the columns name, by the last characters only."""
    return _found(visit, reveals=False)


def reveal(visit: Visit) -> Response:
    """Show the same by name, and note who looked at what."""
    return _found(visit, reveals=True)


def _found(visit: Visit, *, reveals: bool) -> Response:
    try:
        why = visit.why() if reveals else ""
    except Mistake as error:
        return _shown(visit, _histories(visit), HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    try:
        histories = _histories(visit)
    except (Mistake, ConfigurationError) as error:
        return _shown(visit, None, HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    if reveals and histories:
        numbers = [number for one in histories for number in one.newest_ids]
        visit.ledger.review.note_reveal(numbers or [0], visit.who, why)  # a person without a slot is noted all the same
    return _shown(visit, histories, reveals=reveals)


def _histories(visit: Visit) -> list[History]:
    """Return the targets that the form means; raises Mistake and ConfigurationError."""
    typed = ((visit.form.get(f"column{end}", ""), visit.form.get(f"value{end}", "").strip()) for end in _PAIRS)
    columns = {column: value for column, value in typed if column and value}
    if not columns or any(len(value) > _LONGEST or "\0" in value for value in columns.values()):
        raise Mistake("Choose a column and type its value.")
    settings, connection = visit.parts.settings, visit.form.get("connection") or None
    return find_histories(settings, visit.ledger, [columns], connection, _MOST + 1, _LATEST)


def _shown(
    visit: Visit,
    histories: list[History] | None = None,
    status: HTTPStatus = HTTPStatus.OK,
    mistake: str = "",
    *,
    reveals: bool = False,
) -> Response:
    return visit.page(
        "person.html",
        status,
        columns=person_columns(visit.parts.settings),
        connections=sorted(visit.parts.settings.connections),
        histories=None if histories is None else histories[:_MOST],
        latest=_LATEST,
        more=histories is not None and len(histories) > _MOST,
        name_of=revealed if reveals else masked,
        superseded_text=superseded_text,
        reveals=reveals,
        mistake=mistake,
        now=visit.ledger.now(),
        form=visit.form,
    )
