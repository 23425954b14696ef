"""Who an address names, whatever the spelling: one person is one target.

An address is sent to the provider as it was first recorded. Whether two addresses name the same person is decided here,
and nowhere else: when a change is recorded, when someone asks for a person's history, and when a ledger is migrated.

Folded are letter case and Unicode form of e-mail addresses, invisible characters, and the ornaments of telephone
numbers. By the letter of RFC 5321 the part before @ may depend on case; no large provider lets it, and two spellings of
one person are far commoner than two persons with one spelling. `str.lower` and not `casefold`: that would make one of
weiß@ and weiss@, who are two.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping

_NUMBER = re.compile(r"[0-9]{4,}")
_UNSEEN = {"Cf", "Cc", "Zs", "Zl", "Zp"}
_ORNAMENTS = _UNSEEN | {"Pd"}  # and the dashes
_MARKS = frozenset("+().,/·")


def identity_of(address: Mapping[str, str]) -> Mapping[str, str]:
    """Return an address in the one spelling that all spellings of it share; the same object if it is in that already.

    Doing it again changes nothing. The columns stay the same, so what else narrows an address still does.
    """
    if (value := address.get("destination")) is not None:
        column, folded = "destination", fold_destination(value)
    elif (value := address.get("identifier_value")) is not None:
        column, folded = "identifier_value", _FOLDS.get(address.get("identifier_name", ""), fold_text)(value)
    else:
        return address
    return address if folded == value else {**address, column: folded}


def is_same(address: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Say whether an address has all of these columns and names the same with their spelling."""
    if not wanted.keys() <= address.keys():
        return False
    return wanted.items() <= address.items() or identity_of({**address, **wanted}) == identity_of(address)


def fold_destination(text: str) -> str:
    """Return a number as its digits, and anything else like an e-mail address."""
    digits = "" if "@" in text else _digits(text)
    return digits if _NUMBER.fullmatch(digits) else fold_email(text)


def fold_number(text: str) -> str:
    """Return a telephone number as its digits; what is none is only freed from what cannot be seen."""
    digits = _digits(text)
    return digits if _NUMBER.fullmatch(digits) else fold_text(text)


def fold_email(text: str) -> str:
    """Return an e-mail address or domain in lower case, composed (NFC), without what cannot be seen."""
    if text.isascii():
        return text.strip().lower()
    seen = "".join(letter for letter in text if unicodedata.category(letter) not in _UNSEEN)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", seen).lower())


def fold_text(text: str) -> str:
    """Return any other name composed (NFC), without what cannot be seen at its ends; case may matter in it."""
    if text.isascii():
        return text.strip()
    first, last = 0, len(text)
    while first < last and unicodedata.category(text[first]) in _UNSEEN:
        first += 1
    while first < last and unicodedata.category(text[last - 1]) in _UNSEEN:
        last -= 1
    return unicodedata.normalize("NFC", text[first:last])


def _digits(text: str) -> str:
    """Return a text without a number's ornaments, and its digits as ASCII has them."""
    if text.isdigit() and text.isascii():
        return text
    return "".join(
        str(unicodedata.decimal(letter, letter))
        for letter in text
        if letter not in _MARKS and unicodedata.category(letter) not in _ORNAMENTS
    )


_FOLDS: dict[str, Callable[[str], str]] = {"email": fold_email, "mobile": fold_number}
"""How the value of an identifier is folded, by its `identifier_name`."""
