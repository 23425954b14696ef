"""The modes of a subscription, and the number Gupshup makes of them."""

from collections.abc import Collection

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
