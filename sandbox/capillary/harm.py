"""What each fault looks like when it is Capillary that suffers it."""

from collections.abc import Callable

from sandbox.answers import Answer, Cut, Reply, json_reply
from sandbox.capillary.customer import Customer
from sandbox.capillary.refusal import MESSAGES, http_status, refusal
from sandbox.capillary.settings import CapillarySettings
from sandbox.fault import Fault, Kind

# INVENTED: the texts of the broken replies; only their kind matters.
_HTML_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_BROKEN_JSON = b'{"scope":{"scope":"USER","subScope":"NONE"},"subscriptions":[{"channel":"EM'


def harm(fault: Fault, customer: Customer, settings: CapillarySettings) -> Answer:
    """Return what a call bitten by this fault is answered with."""
    return _ANSWERS[fault.kind](fault, customer, settings)


def _error(fault: Fault, default: int, settings: CapillarySettings) -> Reply:
    code = fault.code or default
    message = fault.message or MESSAGES.get(code, "Invented by the sandbox")
    return refusal(code, message, fault.http_status or http_status(code, settings.http_status))


def _throttle(fault: Fault, _customer: Customer, settings: CapillarySettings) -> Reply:
    plain = json_reply(429, settings.throttled_body, 429)
    return Reply(429, plain.body, 429, retry_after=fault.retry_after)


def _refuse(fault: Fault, _customer: Customer, settings: CapillarySettings) -> Reply:
    code = fault.code or fault.http_status or 401
    return refusal(code, fault.message or MESSAGES.get(code, ""), http_status(code, settings.http_status))


_ANSWERS: dict[Kind, Callable[[Fault, Customer, CapillarySettings], Answer]] = {
    "throttle": _throttle,
    "refuse": _refuse,
    "error": lambda fault, _customer, settings: _error(fault, 500, settings),
    "busy": lambda fault, _customer, settings: _error(fault, 521, settings),
    "unknown": lambda fault, customer, settings: _error(fault, customer.not_found, settings),
    "html": lambda fault, _customer, _settings: Reply(fault.http_status or 502, _HTML_PAGE, content_type=b"text/html"),
    "empty": lambda fault, _customer, _settings: Reply(fault.http_status or 200),
    "malformed": lambda fault, _customer, _settings: Reply(fault.http_status or 200, _BROKEN_JSON),
    "commit_then_drop": lambda _fault, _customer, _settings: Cut(reset=False),
    "reset": lambda _fault, _customer, _settings: Cut(reset=True),
    "down": lambda _fault, _customer, _settings: Cut(reset=False),
}
