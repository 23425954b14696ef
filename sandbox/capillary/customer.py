"""Who a call is about: a customer named by id in the path, or by identifiers in the query."""

from dataclasses import dataclass
from urllib.parse import parse_qs

from sandbox.handling import Target
from sandbox.refused import Refused

# Older documentation of the lookup calls.
SOURCES = frozenset(
    {"FACEBOOK", "WEB_ENGAGE", "WECHAT", "INSTORE", "MARTJACK", "TMALL", "TAOBAO"}
    | {"JD", "ECOMMERCE", "WEBSITE", "LINE", "MOBILE_APP"}
)
_SOURCES_WITH_ACCOUNTS = frozenset({"WECHAT", "FACEBOOK", "MOBILE_APP", "LINE"})
_IDENTIFIERS = frozenset({"mobile", "email", "externalId", "cardExternalId", "cardNumber"})


@dataclass(frozen=True, slots=True)
class Customer(Target):
    """A customer, who may be unknown by any of the `names`.

    INVENTED: the key of a lookup is `email=a@example.com`; source and account do not tell customers apart, and a
    customer named once by id and once by identifier counts as two.
    """

    lookup: bool = False

    @property
    def not_found(self) -> int:
        """The code for a customer that does not exist."""
        return 8015 if self.lookup else 1012


def customer_by_id(user_id: str) -> Customer:
    """Return the customer of this path segment."""
    return Customer(user_id, (user_id,))


def customer_by_lookup(query: bytes) -> Customer:
    """Return the customer these query parameters name, whether or not they are valid."""
    given = _parameters(query)
    name, value = given.get("identifierName", ""), given.get("identifierValue", "")
    key = f"{name}={value}"
    return Customer(key, (key, *value.split(",")), lookup=True)


def check_path(customer: Customer) -> None:
    """Refuse a user id that is not a number (documented as long)."""
    if not customer.key.isdecimal():
        raise Refused(400, "Invalid path parameter.")


def check_lookup(query: bytes) -> None:
    """Refuse query parameters that cannot name a customer."""
    given = _parameters(query)
    if given.get("source") not in SOURCES:
        raise Refused(400, "source")
    if given["source"] in _SOURCES_WITH_ACCOUNTS and not given.get("accountId"):
        raise Refused(8045)
    names = given.get("identifierName", "").split(",")
    values = given.get("identifierValue", "").split(",")
    if not _IDENTIFIERS.issuperset(names):
        raise Refused(8013)
    if len(names) != len(values) or not all(values):
        raise Refused(400, "identifierValue")


def _parameters(query: bytes) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}
