"""The faults that look the same whichever provider suffers them."""

from sandbox.answers import Answer, Cut, Reply
from sandbox.fault import Fault, Kind

# INVENTED: the texts of the broken replies; only their kind matters.
_HTML_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"

EVERYWHERE: frozenset[Kind] = frozenset(
    (
        *("latency", "throttle", "error", "refuse", "unknown", "html"),
        *("empty", "malformed", "commit_then_drop", "reset", "down"),
    )
)
"""The faults every provider can suffer."""
HIGHEST_HTTP_STATUS = 599


def broken(fault: Fault, torn: bytes) -> Answer | None:
    """Return the answer to a call that gets no proper reply, `torn` being JSON that breaks off, or else None."""
    match fault.kind:
        case "html":
            return Reply(fault.http_status or 502, _HTML_PAGE, content_type=b"text/html")
        case "empty":
            return Reply(fault.http_status or 200)
        case "malformed":
            return Reply(fault.http_status or 200, torn)
        case "commit_then_drop" | "down":
            return Cut(reset=False)
        case "reset":
            return Cut(reset=True)
        case _:
            return None


def chosen_code(fault: Fault, defaults: dict[Kind, int]) -> int:
    """Return the provider's code of an error a fault asks for, or the one that this kind of fault has by default."""
    given = fault.code or (fault.http_status if fault.kind == "refuse" else None)
    return given or defaults.get(fault.kind, 500)


def as_http_status(code: int) -> int:
    """Return the code where it can be an HTTP status, and 400 where it cannot (INVENTED)."""
    return code if code <= HIGHEST_HTTP_STATUS else 400
