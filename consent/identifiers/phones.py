"""Telephone numbers in E.164, through libphonenumber: https://github.com/daviddrysdale/python-phonenumbers.

Which numbers there can be is libphonenumber's knowledge, by the lengths of each country. Which of them are in use is
not quite: new ranges come before any library knows them, so a number that is only not known to be in use is taken.
The library is imported when the first number is read: that takes 25 ms, and most commands meet none.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from consent.identifiers.normalize import UnusableIdentifier, refuse_damaged, without_scheme

# ruff: noqa: PLC0415 - see above


if TYPE_CHECKING:
    import phonenumbers

_CLEAN = re.compile(r"\+?([1-9]\d{6,14})", re.ASCII)
_WRITTEN = re.compile(r"[+0-9 ().-]+", re.ASCII)
_DIGITS = re.compile(r"\d+", re.ASCII)
_LOOKALIKES = str.maketrans(
    dict.fromkeys("\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " ")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
)
_BEFORE = {"", "+", "(", "+(", "(+", "+ "}
_BETWEEN = {" ", ".", "-", " - ", "(", ")", " (", ") ", "-(", ")-"}
_KINDS = (
    *("fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost"),
    *("personal_number", "voip", "pager", "uan", "voicemail"),
)


def looks_like_number(text: str) -> bool:
    """Whether a text holds nothing but digits and what is written between them, or begins with `tel:`."""
    if text.isdigit():
        return True
    bare = without_scheme(text, "tel:")
    return bare is not text or _WRITTEN.fullmatch(bare.translate(_LOOKALIKES)) is not None


def read_number(text: str, region: str = "") -> str:
    """Return a number as the digits of E.164, without +: the country code first, and no trunk prefix behind it.

    A number that begins with + has its country code. One without is read as people in `region` write it (ISO 3166,
    like GB). Where there is no region, digits alone are taken to begin with the country code, as Infobip's do, and
    anything else is refused. Raises UnusableIdentifier: `damaged_number`, or `unusable_value` for what is no number,
    cannot be one, or lacks its country code.
    """
    clean = _CLEAN.fullmatch(text)
    if clean is not None and (not region or text[0] == "+") and is_known(clean[1]):
        return clean[1]
    refuse_damaged(text)
    written = without_scheme(text, "tel:").translate(_LOOKALIKES)
    _refuse_odd_groups(written)
    if written.startswith(("+", "(+")):
        digits = "".join(_DIGITS.findall(written))
        return digits if is_known(digits) else _possible(written.replace("(+", "+(", 1))
    if region:
        return _read_at_home(written, region)
    if clean is None:
        raise UnusableIdentifier("unusable_value", _NO_COUNTRY)
    return _possible(f"+{written}")


@cache
def is_region(region: str) -> bool:
    """Whether these two letters are a country's that libphonenumber knows."""
    import phonenumbers

    return region in phonenumbers.SUPPORTED_REGIONS


def read_region(value: object) -> object:
    """Return the country of a setting in capital letters, or nothing; raise ValueError if it is none."""
    region = value.strip().upper() if isinstance(value, str) else value
    if region and not is_region(str(region)):
        raise ValueError("write the two letters of a country, like GB or US")
    return region


def is_known(digits: str) -> bool:
    """Whether a number in E.164 without + is in a range that libphonenumber knows to be in use."""
    for length in (1, 2, 3):
        if (in_use := _in_use(digits[:length])) is not None:
            return in_use.fullmatch(digits, length) is not None
    return False


@cache
def _in_use(code: str) -> re.Pattern[str] | None:
    """Return what the numbers of a country code that are in use look like behind it; None if it is no country's.

    The library asks the same of one number, in 40 µs: region by region, kind by kind.
    """
    import phonenumbers

    read = phonenumbers.PhoneMetadata
    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(code), ())
    found = [
        read.metadata_for_nongeo_region(int(code)) if one == "001" else read.metadata_for_region(one) for one in regions
    ]
    kinds = [getattr(one, kind) for one in found for kind in _KINDS]
    patterns = [kind.national_number_pattern for kind in kinds if kind is not None and kind.national_number_pattern]
    return re.compile("|".join(f"(?:{one})" for one in dict.fromkeys(patterns))) if patterns else None


def _refuse_odd_groups(written: str) -> None:
    """Raise UnusableIdentifier unless digits stand in groups, with one mark between them, as people write a number.

    A last group of one digit is the end of a range (0018-9), and one in brackets a second number.
    """
    before, *between, behind = _DIGITS.split(written) if _DIGITS.search(written) else ("?", "?")
    last = _DIGITS.findall(written)[-1:]
    marks = "".join(between)
    odd = before not in _BEFORE or behind or not _BETWEEN.issuperset(between)
    if odd or written.count("(") > 1 or written.count("(") != written.count(")") or (marks and len(last[0]) == 1):
        raise UnusableIdentifier("unusable_value", _NO_NUMBER)


def _possible(written: str) -> str:
    """Return the digits of a number that begins with +; one that lacks its area code is refused too."""
    number = _parsed(written, None)
    digits, found = "".join(_DIGITS.findall(written)), _e164(number)
    if not _is_complete(number) or found not in {digits, _without_trunk(digits, number)}:
        raise UnusableIdentifier("unusable_value", _IMPOSSIBLE)
    return found


def _without_trunk(digits: str, number: phonenumbers.PhoneNumber) -> str | None:
    """Return digits without one trunk prefix behind the country code; None if there is none, or there are two.

    The library removes more: what a caller in the country dials to choose a carrier, as in +352 15995 38557.
    """
    import phonenumbers

    country = number.country_code or 0
    code, trunk = str(country), _ndd(phonenumbers.region_code_for_country_code(country))
    rest = digits[len(code) :]
    if not trunk or not rest.startswith(trunk) or rest[len(trunk) :].startswith(trunk):
        return None
    return code + rest[len(trunk) :]


def _read_at_home(written: str, region: str) -> str:
    """Return the digits of a number without +, as people in a region write it.

    Some programs leave out nothing but the +. Digits that begin with the region's own country code are read so if they
    are no number of the region otherwise, or if only so they are in use, or where national numbers begin with 0.
    """
    import phonenumbers

    number = _parsed(written, region)
    home = _e164(number) if _is_complete(number) else None
    digits = "".join(_DIGITS.findall(written))
    coded = digits if digits.startswith(str(phonenumbers.country_code_for_region(region))) else None
    coded = coded and (coded if _is_complete(_parsed(f"+{coded}", None)) else None)
    if coded is None or coded == home:
        found = home
    elif home is None or (is_known(coded) and (not is_known(home) or _ndd(region) == "0")):
        found = coded
    else:
        found = home if is_known(home) and not is_known(coded) else None
    if found is None:
        raise UnusableIdentifier("unusable_value", _IMPOSSIBLE)
    return found


def _parsed(written: str, region: str | None) -> phonenumbers.PhoneNumber:
    import phonenumbers

    try:
        return phonenumbers.parse(written, region)
    except phonenumbers.NumberParseException:
        raise UnusableIdentifier("unusable_value", _IMPOSSIBLE) from None


def _is_complete(number: phonenumbers.PhoneNumber) -> bool:
    """Whether a number is possible and does not lack its area code."""
    import phonenumbers

    return phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE


def _e164(number: phonenumbers.PhoneNumber) -> str:
    import phonenumbers

    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)[1:])


def _ndd(region: str) -> str | None:
    """Return what people of a region dial before a national number, which is mostly 0."""
    import phonenumbers

    return phonenumbers.ndd_prefix_for_region(region, True)  # noqa: FBT003 - the library's own order


_SAMPLE = "like +447700900123"
_NO_NUMBER = f"this is no single telephone number: write one, with + and its country code, {_SAMPLE}"
_IMPOSSIBLE = f"there can be no such number, or it can be two: write all of it, with + and its country code, {_SAMPLE}"
_NO_COUNTRY = (
    f"this number has no country code: write + and the code before it, {_SAMPLE}, or say with "
    "OPTRELAY_CONNECTIONS__<NAME>__REGION from which country such numbers are"
)
