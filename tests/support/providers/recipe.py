"""The provider that docs/adding-a-provider.md builds: its code is taken from the page and run."""

from __future__ import annotations

import re
import sys
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from tests.support.providers.subjects import Subject

PAGE = Path(__file__).parents[3] / "docs" / "adding-a-provider.md"
_BLOCK = re.compile(r"^\*\*`(\S+\.py)`\*\*\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code_of_the_page() -> dict[str, str]:
    """Return each file that the page shows whole, by its path, in the order of the page."""
    return dict(_BLOCK.findall(PAGE.read_text(encoding="utf-8")))


@cache
def subject_of_the_page() -> Subject:
    """Import what the page shows, as if it stood in its files; return the subject that the page gives to the suite."""
    module = ModuleType("")
    for path, code in code_of_the_page().items():
        name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        folder, _, _ = name.rpartition(".")
        if folder not in sys.modules:
            _new_module(folder, package=True)
        module = sys.modules.get(name) or _new_module(name)
        exec(compile(code, f"{PAGE.name}:{path}", "exec"), module.__dict__)
    subject: Subject = module.__dict__["SUBJECT"]
    return subject


def _new_module(name: str, *, package: bool = False) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, is_package=package)
    module.__package__ = name if package else name.rpartition(".")[0]
    if package:
        module.__path__ = []
    sys.modules[name] = module
    return module
