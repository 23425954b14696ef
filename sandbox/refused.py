"""The two ways in which a provider turns a call down, raised from wherever that is found out."""

from collections.abc import Mapping, Sequence


class Refused(Exception):
    """The call is answered with this code and nothing is changed: an ordinary reply, raised early.

    What the detail and the violations (a sentence or more per field) become is for each provider to say.
    """

    def __init__(self, code: int, detail: str = "", violations: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.violations = violations or {}


class Throttled(Exception):
    """The call came too early by this many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds:.3f} s too early")
        self.seconds = seconds
