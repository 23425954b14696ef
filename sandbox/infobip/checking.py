"""A JSON body, checked part by part, with every violation noted under the path of its field."""

import json
from typing import Any

from sandbox.refused import Refused

LONGEST = 255
MOST = 255


class Checking:
    """The violations found in one body; the sentences about sizes are documented, those about kinds INVENTED."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def note(self, path: str, sentence: str) -> None:
        """Note a violation."""
        self._found.setdefault(path, []).append(sentence)

    def conclude(self) -> None:
        """Refuse the call with 400 and every violation, if there is any."""
        if self._found:
            raise Refused(400, violations=self._found)

    def text(self, value: Any, path: str, shortest: int = 1, longest: int = LONGEST) -> str:
        """Return a text that has to be there, of the right length."""
        if value is None:
            self.note(path, "must not be null")
        elif not isinstance(value, str):
            self.note(path, "must be a string")
        elif not shortest <= len(value) <= longest:
            self.note(path, f"size must be between {shortest} and {longest}")
        return value if isinstance(value, str) else ""

    def optional_text(self, value: Any, path: str, shortest: int = 1, longest: int = LONGEST) -> str | None:
        """Return a text that may be left out."""
        return None if value is None else self.text(value, path, shortest, longest)

    def items(self, value: Any, path: str, most: int = MOST) -> list[Any]:
        """Return a list that has to be there and is not too long."""
        if value is None:
            self.note(path, "must not be null")
        elif not isinstance(value, list):
            self.note(path, "must be an array")
        elif len(value) > most:
            self.note(path, f"size must be between 0 and {most}")
        return value if isinstance(value, list) else []

    def optional_texts(self, value: Any, path: str) -> list[str] | None:
        """Return a list of texts that may be left out; each may be empty."""
        if value is None:
            return None
        return [self.text(one, f"{path}[{at}]", shortest=0) for at, one in enumerate(self.items(value, path))]

    def fields(self, value: Any, path: str) -> dict[str, Any]:
        """Return an object that has to be there."""
        if value is None:
            self.note(path, "must not be null")
        elif not isinstance(value, dict):
            self.note(path, "must be an object")
        return value if isinstance(value, dict) else {}


def json_object(body: bytes) -> dict[str, Any]:
    """Return the body, or refuse it with 400. INVENTED: the sentence."""
    try:
        whole = json.loads(body)
    except ValueError:
        whole = None
    if not isinstance(whole, dict):
        raise Refused(400, violations={"body": ["must be a JSON object"]})
    return whole
