"""How the Capillary sandbox behaves, above all where the documentation is silent."""

from typing import Any, Literal

from pydantic import Field

from sandbox.provider import RateText, Section


class CapillarySettings(Section):
    """Credentials, limits and knobs of the Capillary sandbox; seconds for every time.

    Documented by Capillary: both ways to authenticate, tokens of 300 s, 100 calls a minute and key on demo
    clusters. INVENTED, because no source says: everything else. A test that depends on such a knob sets it.
    """

    username: str = "demo.till"
    password: str = "demo-password"  # noqa: S105  for the sandbox only
    oauth_key: str = "demo-key"
    oauth_secret: str = "demo-secret"  # noqa: S105  for the sandbox only
    token_ttl: int = Field(300, ge=0)

    rate: RateText = "100/minute"
    burst: int = Field(1, ge=0)  # INVENTED: calls tolerated above the rate in every window
    throttled_body: dict[str, Any] = Field(
        {  # INVENTED: 429 is not in Capillary's status table
            "warnings": [],
            "errors": [{"status": False, "code": 429, "message": "Rate limit exceeded"}],
        }
    )

    methods: frozenset[Literal["POST", "PUT"]] = frozenset({"POST", "PUT"})
    """The pages disagree (POST: sample, page header; PUT: 2026 reference guide); the other one gets 405."""
    unknown: tuple[str, ...] = ("404*",)
    """Ids or identifier values, or shell patterns, of customers that do not exist."""
    busy_521: bool = True
    """Whether a write is refused while another one for the same customer is in flight."""
    http_status: dict[int, int] = Field({})
    """HTTP status line for a body code, where it differs from `refusal.http_status`."""
    ignore_case: bool = True  # INVENTED: the enums are printed in mixed case
    legacy_echo: bool = False
    """Answer a write as the older sample does: SMS for MOBILE, no orgUnitId and no sourceName."""
