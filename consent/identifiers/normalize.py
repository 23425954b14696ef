"""The one normaliser of what names a person: what cannot be seen is removed or refused, what is damaged is refused.

A provider compares identifiers to the letter: an address with an invisible character in it, a telephone number with
`.0` behind it, or one without its country code opts out no person, or another one. Nothing here guesses: a value is
read in the one way in which it can be meant, or refused with a message that never repeats it.
"""

from __future__ import annotations

import re
import unicodedata

_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp"})
_FORMULA = re.compile(r'="([^"]*)"')
_DECIMAL = re.compile(r"[+-]?\d+[.,]0*|\+?\d{7,}[.,]\d*", re.ASCII)
_ROUNDED = re.compile(r"[+-]?\d+(?:[.,]\d+)?[eE][+-]?\d+", re.ASCII)
_DOMAIN = re.compile(r"(?!-)[\w-]+(\.[\w-]+)+")
_LOCAL = re.compile(r'[^\s@"<>()\[\],;:\\]+')

UNSEEN_PATTERN = (
    "\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u0600-\\u0605\\u061c\\u06dd\\u070f\\u0890\\u0891\\u08e2\\u180e\\u200b-\\u200f"
    "\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb\\ufffd"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
"""Characters that cannot be seen (and the one that stands for lost ones), for a character class of JSON Schema."""

_LOOKALIKES = (
    "\\u00aa\\u00ab\\u00b2-\\u00b4\\u00b9-\\u00bb\\u02b0-\\u02ff\\u2010-\\u2027\\u2030-\\u205e\\u2070-\\u209f\\u2100-\\u214f"
    "\\u2460-\\u24ff\\ufb00-\\ufb06\\uff01-\\uffdc\U0001d400-\U0001d7ff"
)
"""What programs write in place of what people type, for a character class: quotes and dashes of typography, ligatures
as a PDF has them, raised and full-width letters. Some providers' addresses hold them; no mailbox does."""

LOCAL_PATTERN = rf"[^\s@\x22'<>()\[\],;:\\{UNSEEN_PATTERN}{_LOOKALIKES}]+"
"""What the part of an address before @ may be, as a producer should write it."""


class UnusableIdentifier(ValueError):
    """An identifier that cannot be used: `code` for programs, the message for people, without what was written."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def clean(text: str) -> str:
    """Return an identifier in Unicode's composed form (NFC), without what a spreadsheet or a copy has put around it.

    Removed are spaces and invisible characters at both ends, `="…"`, and an apostrophe before something that has no
    letter: marks of text in a spreadsheet. Raises UnusableIdentifier for an invisible character inside, which is named
    by its code point, and for an apostrophe before anything else.
    """
    if text.isascii() and text.isprintable() and text[:1] not in {"'", "=", " ", ""} and text[-1] != " ":
        return text
    seen = _without_ends(text)
    if (formula := _FORMULA.fullmatch(seen)) is not None:
        seen = _without_ends(formula[1])
    if seen.startswith("'"):
        seen = _without_ends(_unmarked(seen))
    for place, letter in enumerate(seen, 1):
        if unicodedata.category(letter) in _UNSEEN:
            message = f"character {place} is U+{ord(letter):04X}, which cannot be seen: remove it"
            raise UnusableIdentifier("unusable_value", message)
    return unicodedata.normalize("NFC", seen)


def refuse_rounded(text: str) -> None:
    """Raise UnusableIdentifier if a spreadsheet has rounded a number to something like 9.19E+11."""
    if _ROUNDED.fullmatch(text):
        raise UnusableIdentifier(
            "damaged_number",
            "a spreadsheet has rounded this number and its digits are lost; format the column as text and export again",
        )


def refuse_damaged(text: str) -> None:
    """Raise UnusableIdentifier if a number was rounded, or read as a decimal (15.0) by some program."""
    refuse_rounded(text)
    if _DECIMAL.fullmatch(text):
        raise UnusableIdentifier(
            "damaged_number",
            "a program has read this number as a decimal and put a point into it; export the column as text",
        )


def is_email(text: str) -> bool:
    """Whether a text is an e-mail address: one @, a part before it, and a domain with a dot behind it."""
    local, at, domain = text.rpartition("@")
    return bool(at and _LOCAL.fullmatch(local) and is_domain(domain))


def is_domain(text: str) -> bool:
    """Whether a text is a domain with a dot in it, and not only digits."""
    return _DOMAIN.fullmatch(text) is not None and any(letter.isalpha() for letter in text)


def refuse_lookalikes(address: str) -> None:
    """Raise UnusableIdentifier if an e-mail address or domain only looks like one that can be typed.

    The apostrophe of a word processor and the ligature of a PDF are other characters than those of a mailbox: that
    address would be opted out, and the person goes on getting mail. One Cyrillic letter among Latin ones does the same.
    """
    if address.isascii():
        return
    if (found := _LOOKALIKE.search(address)) is not None:
        message = f"character {found.start() + 1} is U+{ord(found[0]):04X}, which no keyboard writes"
        raise UnusableIdentifier("unusable_value", f"{message}: type the address anew")
    for label in _LABELS.split(address.rpartition("@")[2]):
        if len({_script(letter) for letter in label if letter.isalpha()} & _ALIKE) > 1:
            raise UnusableIdentifier("unusable_value", "the domain mixes letters of several scripts: type it anew")


_LOOKALIKE = re.compile(f"[{_LOOKALIKES}]")
_LABELS = re.compile(r"[.-]")
_ALIKE = frozenset({"LATIN", "CYRILLIC", "GREEK", "ARMENIAN"})


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def without_scheme(text: str, scheme: str) -> str:
    """Return what `mailto:` or `tel:` stands before, in any case; text without it as it is."""
    return text[len(scheme) :] if text[: len(scheme)].lower() == scheme else text


def _without_ends(text: str) -> str:
    first, last = 0, len(text)
    while first < last and _is_edge(text[first]):
        first += 1
    while first < last and _is_edge(text[last - 1]):
        last -= 1
    return text[first:last]


def _is_edge(letter: str) -> bool:
    return letter.isspace() or unicodedata.category(letter) in _UNSEEN


def _unmarked(text: str) -> str:
    if any(letter.isalpha() for letter in text):
        message = "an apostrophe stands before the value, as spreadsheets mark text: remove it"
        raise UnusableIdentifier("unusable_value", message)
    return text[1:]
