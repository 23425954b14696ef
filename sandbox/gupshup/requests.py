"""The form that creates or updates a subscription, checked field by field, and the modes that it names."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sandbox.calls import Refused
from sandbox.gupshup import replies
from sandbox.gupshup.settings import GupshupSettings

# Two pairs are documented: SENT and ENQUEUED give 1025, these fourteen in this order 16383. That the others are
# bits in this order too is inferred.
_IN_ORDER = (
    *("SENT", "DELIVERED", "READ", "DELETED", "OTHERS", "FAILED", "MESSAGE"),
    *("TEMPLATE", "ACCOUNT", "BILLING", "ENQUEUED", "FLOWS_MESSAGE", "PAYMENTS", "ALL"),
)
_BITS = {mode: 1 << place for place, mode in enumerate(_IN_ORDER)}
# Documented names without a known bit. INVENTED: that they count nothing and come last.
_WITHOUT_BIT = ("COPY", "COEXISTENCE")
_NONE = "NONE"

KNOWN = frozenset({*_IN_ORDER, *_WITHOUT_BIT, _NONE})


def bitmask(modes: Collection[str]) -> int:
    """Return the sum of the modes' bits."""
    return sum(_BITS.get(mode, 0) for mode in modes)


def in_order(modes: Collection[str]) -> tuple[str, ...]:
    """Return the modes in the order of their bits. INVENTED: NONE is no mode, and is shown as an empty list."""
    return tuple(mode for mode in (*_IN_ORDER, *_WITHOUT_BIT) if mode in modes)


_REQUIRED = ("modes", "tag", "url", "version")
_FLAGS = ("active", "showOnUI")


@dataclass(frozen=True, slots=True)
class SubscriptionUpdate:
    """The fields that were sent, each by its name in the form and of its own kind; `modes` is a set."""

    fields: dict[str, Any]

    @property
    def modes(self) -> frozenset[str] | None:
        """The modes, if they were sent."""
        return self.fields.get("modes")


def read_form(headers: Mapping[bytes, bytes], body: bytes) -> dict[str, str]:
    """Return the fields of a form; of one sent twice the last counts, but modes are joined.

    INVENTED: both, and that a call without a body is a form without fields.
    """
    if body and not headers.get(b"content-type", b"").startswith(b"application/x-www-form-urlencoded"):
        raise _refused(replies.NO_FORM)
    given = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: ",".join(values) if name == "modes" else values[-1] for name, values in given.items()}


def read_update(form: Mapping[str, str], settings: GupshupSettings, *, new: bool) -> SubscriptionUpdate:
    """Read a form; a field that does not fit refuses it with 400. INVENTED: fields no one knows are ignored."""
    if new and not form.keys() >= set(_REQUIRED):
        raise _refused(replies.MISSING_FIELD)
    checked = "true" if settings.check_by_default else "false"
    fields: dict[str, Any] = {name: _flag(form[name]) for name in _FLAGS if name in form}
    check = _flag(form.get("doCheck", checked))
    if "modes" in form:
        fields["modes"] = _modes(form["modes"])
    if "version" in form:
        fields["version"] = _version(form["version"], settings)
    if "url" in form:
        fields["url"] = _url(form["url"], check=check)
    return SubscriptionUpdate(fields | _texts(form))


def check_version(modes: frozenset[str], version: int, settings: GupshupSettings) -> None:
    """Refuse modes the version does not have, whichever of the two was sent (INVENTED)."""
    wrong = settings.not_for_v3 if version == 3 else settings.only_for_v3  # noqa: PLR2004  documented as "version 3"
    if modes & wrong:
        raise _refused(replies.MODES_NOT_FOR_VERSION)


def _texts(form: Mapping[str, str]) -> dict[str, str]:
    if form.get("tag") == "":
        raise _refused(replies.EMPTY_TAG)
    if "meta" in form and not _is_json(form["meta"]):
        raise _refused(replies.INVALID_META)
    return {name: form[name] for name in ("tag", "meta") if name in form}


def _flag(text: str) -> bool:
    # INVENTED: only lower case counts.
    if text not in ("true", "false"):
        raise _refused(replies.INVALID_BOOLEAN)
    return text == "true"


def _modes(text: str) -> frozenset[str]:
    modes = frozenset(one.strip() for one in text.split(","))
    if not modes <= KNOWN:
        raise _refused(replies.INVALID_MODES)
    return modes - {"NONE"}


def _version(text: str, settings: GupshupSettings) -> int:
    if not text.isdecimal() or int(text) not in settings.versions:
        raise _refused(replies.INVALID_VERSION)
    return int(text)


def _url(text: str, *, check: bool) -> str:
    # INVENTED: what the check is; the real one may well call the URL, this one only reads it.
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if check and not (parts.scheme in ("http", "https") and parts.hostname):
        raise _refused(replies.INVALID_URL)
    return text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _refused(text: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, text)
