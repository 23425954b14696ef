"""How long a provider asks us to wait: the Retry-After header, as seconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = 86_400.0
"""A day: a provider that says more has most likely made a mistake, and asking it once a day harms nobody."""

SHORTEST = 1.0
"""A second: a provider that asks us to slow down and names no time at all does not want the same call at once."""

_SECONDS = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)


def retry_after_seconds(header: str | None, now: datetime, date: str | None = None) -> float | None:
    """Read both forms of the header (RFC 9110, 10.2.3: seconds, or an HTTP date); None for anything else.

    A date is measured by the reply's own Date header, if there is one: the clocks of this machine and of the provider
    may be minutes apart, so that we would come back too soon or wait for nothing.
    """
    text = (header or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), LONGEST)
    moment = _date(text)
    sent_at = _date((date or "").strip()) or now
    return min(max((moment - sent_at).total_seconds(), 0.0), LONGEST) if moment else None


def pause(asked: float | None, usual: float) -> float:
    """Return the seconds to wait when told to slow down: what was asked for, or as long as usual if nothing was."""
    return usual if asked is None else max(asked, SHORTEST)


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
