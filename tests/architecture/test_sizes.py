"""The tree stays small enough to understand in an afternoon."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("consent", "producers", "worker", "console", "sandbox")
VAGUE = {"utils", "helpers", "common", "manager", "base", "misc"}


def sources() -> Iterator[Path]:
    """Every module of ours but the migrations, which are lists."""
    for folder in SOURCES:
        yield from (path for path in sorted((ROOT / folder).rglob("*.py")) if "migrations" not in path.parts)


def functions() -> Iterator[tuple[str, int]]:
    """Every function with its length in lines, the docstring left out."""
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", length


def test_no_file_holds_more_than_one_idea() -> None:
    """No module is longer than 300 lines."""
    long = {str(path.relative_to(ROOT)): n for path in sources() if (n := len(path.read_text().splitlines())) > 300}

    assert long == {}


def test_functions_are_one_paragraph() -> None:
    """No function is longer than 40 lines, and nine of ten have at most 25."""
    lengths = dict(functions())

    assert {name: n for name, n in lengths.items() if n > 40} == {}
    assert sum(n <= 25 for n in lengths.values()) >= 0.9 * len(lengths)


def test_modules_are_named_for_what_they_hold() -> None:
    """No module has a name that could hold anything, and each says in one docstring what it holds."""
    assert [str(path) for path in sources() if path.stem in VAGUE] == []
    assert [str(path) for path in sources() if not ast.get_docstring(ast.parse(path.read_text()))] == []
