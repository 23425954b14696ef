"""Sets of customers written as ids and shell patterns."""

import fnmatch
import re
from collections.abc import Iterable


class Names:
    """A set of names given as exact names and shell patterns (`404*`); a name belongs when either fits."""

    def __init__(self, patterns: Iterable[str]) -> None:
        wanted = tuple(patterns)
        globs = [fnmatch.translate(pattern) for pattern in wanted if any(mark in pattern for mark in "*?[")]
        self._exact = frozenset(wanted)
        self._glob = re.compile("|".join(globs)) if globs else None

    def __bool__(self) -> bool:
        return bool(self._exact)

    def holds_any(self, names: Iterable[str]) -> bool:
        """Tell whether any of these names of one customer belongs to the set."""
        return any(name in self._exact or self._fits(name) for name in names)

    def _fits(self, name: str) -> bool:
        return self._glob is not None and self._glob.match(name) is not None
