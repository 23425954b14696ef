"""How the Infobip sandbox behaves, above all where the documentation is silent."""

from typing import Any, Literal

from pydantic import Field

from sandbox.provider import RateText, Section

Envelope = Literal["classic", "api"]
_WEBHOOK = {"webhook": {"notifyUrl": "https://example.com/infobip"}, "security": {"authId": "DEMO-AUTH"}}


class InfobipSettings(Section):
    """Credentials, limits and knobs of the Infobip sandbox.

    Documented by Infobip: the Authorization scheme, the scopes, one blocklist call a second, both error bodies.
    INVENTED, because no source says: everything else. A test that depends on such a knob sets it.
    """

    api_key: str = "demo-infobip-key"
    scopes: frozenset[Literal["subscriptions:manage", "blocklist:manage"]] = frozenset(
        {"subscriptions:manage", "blocklist:manage"}
    )
    """What the key may do; a call outside of it gets 403."""

    blocklist_rate: RateText = "1/second"
    subscription_rate: RateText = "off"  # no limit is published
    slack: float = Field(0.05, ge=0)  # INVENTED: how many seconds too early a call may come
    envelope: Envelope = "classic"
    """The body of errors: `requestError.serviceException`, or ApiError with `errorCode`."""
    throttled_envelope: Envelope = "classic"
    """The same for 429, for which both are documented."""

    channels: Literal["page", "openapi", "both"] = "both"
    """The 19 channels of the update page, the 22 of the OpenAPI document, or all of either."""
    unknown_event: Literal["ignore", "refuse"] = "ignore"
    """What becomes of an event no channel knows; one of another channel is always ignored, as documented."""
    omitted: Literal["clear", "keep"] = "clear"  # INVENTED: what PUT does to an optional field that is not sent
    missing_profile: Literal[400, 404] = 404  # INVENTED: how a profile that does not exist is refused
    blocklist_lag: float = Field(2.0, ge=0)  # INVENTED: seconds until an accepted blocklist call can be seen

    profiles: tuple[dict[str, Any], ...] = (
        {"profileId": "DEMO-PROFILE", **_WEBHOOK},
        {"profileId": "DEMO-PROFILE-2", **_WEBHOOK},
    )
    """The profiles there are from the start, each as it would be sent to POST."""
    subscriptions: dict[str, tuple[dict[str, Any], ...]] = Field(
        {
            "SMS": (
                {"subscriptionId": "DEMO-SMS", "profile": {"profileId": "DEMO-PROFILE"}, "events": ["DELIVERY"]},
                {
                    "subscriptionId": "DEMO-SMS-ENTITIES",
                    "name": "Demo entities",
                    "profile": {"profileId": "DEMO-PROFILE"},
                    "events": ["DELIVERY", "INBOUND_MESSAGE"],
                    "criteria": [{"applicationId": "demo-app", "entityId": "demo-entity-1"}],
                },
            ),
            "EMAIL": (
                {
                    "subscriptionId": "DEMO-EMAIL",
                    "profile": {"profileId": "DEMO-PROFILE"},
                    "events": ["DELIVERY", "UNSUBSCRIBE"],
                },
            ),
            "BLOCKLIST": (
                {
                    "subscriptionId": "DEMO-BLOCKLIST",
                    "profile": {"profileId": "DEMO-PROFILE"},
                    "events": ["BLOCK", "UNBLOCK"],
                },
            ),
        }
    )
    """The subscriptions there are from the start, by channel, each as it would be sent to POST."""
    blocklist: tuple[dict[str, Any], ...] = ()
    """The blocklist from the start: groups as they would be sent to POST; `sourceType` may be given too."""
