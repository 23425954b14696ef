"""The sentences with which Gupshup refuses a call."""

from sandbox.answers import Reply, json_reply
from sandbox.faults import as_http_status

# Documented.
NOT_ASSOCIATED = "API key is not associated with partner"
NO_SUBSCRIPTION = "Subscription Does Not Exist"
INVALID_URL = "Invalid URL Passed"
NOT_OWNER = "Not Subscription Owner"
# INVENTED: what is refused is documented, the sentence is not.
DUPLICATE_TAG = "Duplicate Tag"
INVALID_MODES = "Invalid Modes Passed"
INVALID_VERSION = "Invalid Version Passed"
MODES_NOT_FOR_VERSION = "Modes Not Supported For Version"
MISSING_FIELD = "Missing Field"
INVALID_BOOLEAN = "Invalid Boolean Passed"
# INVENTED: that it is refused at all.
NO_FORM = "Body Is Not A Form"
EMPTY_TAG = "Invalid Tag Passed"
INVALID_META = "Invalid Meta Passed"

_USUAL = {
    400: NO_SUBSCRIPTION,
    401: "Authentication Failed",
    403: NOT_OWNER,
    405: "Method Not Allowed",  # INVENTED
    429: "Too Many Requests",
    500: "Internal Server Error",
}


def error_reply(code: int, text: str = "") -> Reply:
    """Return Gupshup's error body; the sentence is the only code there is, and so the call log's."""
    message = text or _USUAL.get(code, "Invented by the sandbox")
    return json_reply(as_http_status(code), {"status": "error", "message": message}, message)
