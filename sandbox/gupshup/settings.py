"""How the Gupshup sandbox behaves, above all where the documentation is silent."""

from pydantic import Field

from sandbox.provider import RateText, Section

Seeds = dict[str, tuple[dict[str, str], ...]]


def _demo(app: int) -> tuple[dict[str, str], ...]:
    url = f"https://example.com/gupshup/{app}"
    return (
        {"id": f"2{app}001", "tag": "delivery", "url": url, "version": "2", "modes": "SENT,DELIVERED,READ,FAILED"},
        {"id": f"2{app}002", "tag": "inbound", "url": url, "version": "3", "modes": "MESSAGE,PAYMENTS"},
    )


class GupshupSettings(Section):
    """Credentials, limits and knobs of the Gupshup sandbox.

    Documented by Gupshup: the Authorization header, five calls a minute and app, the texts of most errors.
    INVENTED, because no source says: everything else. A test that depends on such a knob sets it.
    """

    apps: dict[str, str] = Field({f"demo-app-{app}": f"demo-gupshup-token-{app}" for app in (1, 2, 3)})
    """The token of each app, by the app's id."""
    unassociated: frozenset[str] = frozenset({"demo-gupshup-stray-token"})
    """Tokens that are known but belong to no partner."""

    rate: RateText = "5/minute"
    """For each app, over all its subscription calls."""
    slack: float = Field(0.05, ge=0)  # INVENTED: how many seconds too early a call may come

    versions: frozenset[int] = frozenset({0, 1, 2, 3})
    """The update page says 0 to 3, a newer page 2 and 3."""
    only_for_v3: frozenset[str] = frozenset({"PAYMENTS", "FLOWS_MESSAGE", "OTHERS", "ALL"})
    not_for_v3: frozenset[str] = frozenset({"TEMPLATE", "ACCOUNT", "COPY"})
    """As the update page says; the newest page allows TEMPLATE and ACCOUNT."""
    check_by_default: bool = True  # INVENTED: whether the URL is checked when doCheck is not sent

    subscriptions: Seeds = Field({f"demo-app-{app}": _demo(app) for app in (1, 2, 3)})
    """The subscriptions there are from the start, by app: form fields as sent to POST, and the `id` if it matters."""
