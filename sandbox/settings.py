"""The settings of the whole sandbox, a section per provider."""

from pydantic import BaseModel, ConfigDict

from sandbox.capillary.settings import CapillarySettings
from sandbox.gupshup.settings import GupshupSettings
from sandbox.infobip.settings import InfobipSettings


class SandboxSettings(BaseModel):
    """One section per provider; every credential in them is for the sandbox only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    capillary: CapillarySettings = CapillarySettings()
    infobip: InfobipSettings = InfobipSettings()
    gupshup: GupshupSettings = GupshupSettings()
