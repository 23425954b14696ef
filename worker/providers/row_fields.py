"""Types of columns that any provider's row may use: names, lists, flags, words in any spelling.

Each type validates a cell, gives its JSON Schema for events, and raises an error that says how to fix the cell.
`error_at` is for a model's own check of several columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from consent.identifiers.normalize import UNSEEN_PATTERN
from consent.row import NAME_FORM, named, or_whole_number, text_schema, undamaged

LONGEST = 255
SEPARATOR = "|"

_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")


def _text(value: object) -> object:
    text = str(value) if type(value) is int else value
    return undamaged(text.strip()) if isinstance(text, str) else text


def _members(value: object) -> object:
    """Read a list, as a cell like `a|b` or as an event's own list; each member once, in the order given."""
    listed = value if isinstance(value, list) else [value]
    texts = [_text(one) for one in listed]
    if not all(isinstance(text, str) for text in texts):
        return value
    split = (part.strip() for text in texts for part in str(text).split(SEPARATOR))
    return tuple(dict.fromkeys(str(named(part)) for part in split if part))


def _url_safe(text: str) -> str:
    if not text.isascii() or not text.isprintable() or set(text) & set(" /?#%\\") or text in (".", ".."):
        raise PydanticCustomError("unusable_value", "an id holds letters, digits, - and _ only")
    return text


def _flag(value: object) -> object:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in (*_TRUE, *_FALSE):
        raise PydanticCustomError("unknown_value", "write true or false")
    return word in _TRUE


Text = Annotated[str, BeforeValidator(_text), WithJsonSchema(or_whole_number(text_schema()))]
"""Text kept to the letter; an event may write it as a number."""

Name = Annotated[
    str,
    BeforeValidator(named),
    Field(min_length=1, max_length=LONGEST),
    WithJsonSchema(or_whole_number(text_schema(form=NAME_FORM))),
]
"""Text that names something, without invisible characters; an event may write it as a number."""

PathName = Annotated[
    Name, AfterValidator(_url_safe), WithJsonSchema(or_whole_number(text_schema(form="^[A-Za-z0-9_-]+$"), least=0))
]
"""Text that names something in the path of a call, where it must not lead elsewhere."""

_ONE_MEMBER = rf"(?!['=])[^|\s{UNSEEN_PATTERN}]+"
_MEMBER_SCHEMA = text_schema(form=f"^{_ONE_MEMBER}$")
_MEMBERS_SCHEMA = {
    "anyOf": [
        {"type": "array", "items": _MEMBER_SCHEMA, "minItems": 1, "maxItems": LONGEST},
        text_schema(form=rf"^{_ONE_MEMBER}(\|{_ONE_MEMBER}){{0,{LONGEST - 1}}}$"),
    ]
}
Members = Annotated[
    tuple[Name, ...],
    BeforeValidator(_members),
    Field(min_length=1, max_length=LONGEST),
    WithJsonSchema(_MEMBERS_SCHEMA),
]
"""Members of a set, written `a|b|c` in a cell and as a list in an event; no provider keeps more in one list."""

Flag = Annotated[bool, BeforeValidator(_flag), WithJsonSchema({"type": "boolean"})]
"""True or false."""


def error_at(column: str, kind: str, message: str, **context: Any) -> ValidationError:
    """Return the error that a row model's own check raises, placed at the column that must be fixed.

    `message` is a template: `{known}` stands for the value of `known` in the context.
    """
    error = PydanticCustomError(kind, message, context)
    return ValidationError.from_exception_data("row", [{"type": error, "loc": (column,), "input": None}])


def digest(text: str) -> str:
    """Return a short digest that tells apart what a slot is to hold, where the text itself is long or private."""
    return blake2b(text.encode(), digest_size=6).hexdigest()


class Spellings(dict[str, str]):
    """The words that a column may hold, in the vendor's own spelling, found by any letter case and by aliases.

    As a validator, its lookup costs no Python call when a word is already spelled as the vendor spells it.
    """

    def __init__(self, values: Iterable[str], **aliases: str) -> None:
        super().__init__({word: word for word in values} | aliases)
        self._folded = {word.casefold(): spelling for word, spelling in self.items()}
        self._known = ", ".join(word for word in self if word not in aliases)

    def schema(self) -> dict[str, Any]:
        """Return the words as a JSON Schema."""
        return {"type": "string", "enum": list(self)}

    def __missing__(self, word: str) -> str:
        if word.casefold() not in self._folded:
            raise PydanticCustomError("unknown_value", "write one of {known}", {"known": self._known})
        return self._folded[word.casefold()]
