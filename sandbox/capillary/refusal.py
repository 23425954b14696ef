"""The codes and sentences with which Capillary refuses a call."""

from collections.abc import Mapping

from sandbox.answers import Reply, json_reply
from sandbox.faults import as_http_status

# Sources: the update-subscription-details page (1012, 1000), the API status codes page (400 to 1064), the older
# code tables (8011 to 8065, 91022), the bulk getCustomers page (8109).
MESSAGES = {
    400: "Invalid input. Please check request body parameters or input xml/json.",
    401: "Authentication failed. Please check username and password.",
    403: "V2 is not enabled for the org.",
    405: "The operation is not supported for the resource.",
    415: "Unsupported media type.",
    461: "Search Engine is busy or unable to respond. Please try after some time.",
    500: "All requests have failed due to errors",
    503: "Authorization status is unavailable.",
    521: "Multiple actions are running for the same customer. Please try after some time.",
    1000: "Customer Subscriptions could not be added",
    1012: "Cannot find customer for provided mobile/external-id/e-mail/id",
    1061: "X-CAP-API-ATTRIBUTION-LOOKUP-TYPE header required with X-CAP-API-ATTRIBUTION-LOOKUP header.",
    8013: "Invalid identifier",  # INVENTED text, documented code
    8015: "Customer not found for given identifiers",
    8045: "Account id is missing for the source",  # INVENTED text, documented code
    8109: "Customer is deleted after PII delete request",
    91022: "Failed to update subscription for {channel} channel and priority {priority}.",
}


def sentence(code: int, detail: str = "") -> str:
    """Return the text that goes with a code, and the detail behind it."""
    return f"{MESSAGES.get(code, 'Invented by the sandbox')} {detail}".rstrip()


def refusal(code: int, message: str, http_status: int) -> Reply:
    """Return the error body of the v2 API: `{"warnings": [], "errors": [{status, message, code}]}`."""
    error = {"status": False, "message": message, "code": code}
    return json_reply(http_status, {"warnings": [], "errors": [error]}, code)


def http_status(code: int, told: Mapping[int, int]) -> int:
    """Return the HTTP status line that goes with a body code.

    INVENTED: only the body codes are documented. A code that can be an HTTP status is one (521 and 461 too); the
    four- and five-digit codes come with 400. `told` overrides it code by code.
    """
    return told.get(code, as_http_status(code))
