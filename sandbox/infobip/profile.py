"""Notification profiles: where the reports of a subscription go."""

from dataclasses import dataclass
from typing import Any

from sandbox.infobip.checking import LONGEST, Checking

_LONGEST_URL = 512


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile as it was sent, its credentials left out."""

    profile_id: str
    sent: dict[str, Any]

    @property
    def ids(self) -> dict[str, Any]:
        """The profile as a subscription shows it."""
        security = self.sent.get("security")
        return {"profileId": self.profile_id} | ({"security": {"authId": security["authId"]}} if security else {})


def read_profile(sent: dict[str, Any], checking: Checking, path: str = "") -> Profile:
    """Read a profile; only its id, webhook and security are checked, the rest is kept as it is (INVENTED)."""
    profile_id = checking.text(sent.get("profileId"), f"{path}profileId")
    if sent.get("webhook") is not None:
        webhook = checking.fields(sent["webhook"], f"{path}webhook")
        checking.text(webhook.get("notifyUrl"), f"{path}webhook.notifyUrl", shortest=0, longest=_LONGEST_URL)
    security: dict[str, Any] = {}
    if sent.get("security") is not None:
        security = dict(checking.fields(sent["security"], f"{path}security"))
        checking.text(security.get("authId"), f"{path}security.authId", longest=LONGEST)
        security.pop("credentials", None)
    kept = {name: value for name, value in sent.items() if name != "security" and value is not None}
    return Profile(profile_id, kept | ({"security": security} if security else {}))
