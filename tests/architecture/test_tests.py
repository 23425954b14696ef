"""What several tests share stands in tests/support: a test can be moved or deleted without another one's leave."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it that stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_no_test_imports_another_test() -> None:
    """Neither a test module nor a conftest is imported by anything."""
    files = [path for folder in ("tests", "bench", "chaos") for path in sorted((ROOT / folder).rglob("*.py"))]
    wrong = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files
        for module in imports(path)
        if module.startswith("tests.") and module.rsplit(".", 1)[-1].startswith(("test_", "conftest"))
    }

    assert wrong == set()
