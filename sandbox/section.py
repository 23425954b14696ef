"""What the settings of every provider have in common."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from sandbox.rate import Rate


def _a_rate(text: str) -> str:
    Rate.parse(text)
    return text


RateText = Annotated[str, AfterValidator(_a_rate)]
"""A rate as it is written: `100/minute`, `5/0.5s`, `off`."""


class Section(BaseModel):
    """The knobs every provider has; seconds for every time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    retry_after: bool = False  # INVENTED: whether a 429 says how many seconds to wait
    latency: tuple[float, float] = (0.0, 0.0)
    """Every call takes a random time between these two."""
