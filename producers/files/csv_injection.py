"""Keeping a spreadsheet from running what stands in a cell, in the files that we write, and taking it back on reading.

A cell that a spreadsheet would take for a formula gets an apostrophe before it, as OWASP advises for CSV injection
(https://owasp.org/www-community/attacks/CSV_Injection). Telephone numbers and other plain numbers stay as they are:
a number computes nothing. Both ways are exact, so a file can go through a spreadsheet and come back.
"""

from __future__ import annotations

import re

_FORMULA = re.compile(r"'*[=@\t\r\n+\-\uff1d\uff20\uff0b\uff0d]")  # full-width forms too
_NUMBER = re.compile(r"[+\-\uff0b\uff0d][\d\s().,/\-]*")


def escape(cell: str) -> str:
    """Return a cell so that no spreadsheet runs it."""
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def unescape(cell: str) -> str:
    """Return what `escape` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
