"""What stands in the modules of this tree, as far as the tests of its architecture ask: each is parsed once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


@dataclass
class Module:
    """One file of Python; the lines are those on which a thing begins."""

    is_docstring: bool
    """Whether nothing but texts stand in it."""
    names: list[tuple[str, int, bool]] = field(default_factory=list)
    """The names that it gives, their lines, and whether they are those of classes and functions."""
    imports: list[tuple[str, tuple[str, ...] | None]] = field(default_factory=list)
    """The modules that it imports, wherever that stands, and which of their names; None is `import` itself."""
    functions: list[tuple[str, int, int]] = field(default_factory=list)
    """Its functions, their lines, and how many lines each has without its docstring."""
    attributes: list[tuple[str, int]] = field(default_factory=list)
    """The attributes of anything that it reads or writes, and their lines."""


@cache
def parsed(path: Path) -> Module:
    """Return what stands in a module."""
    tree = ast.parse(path.read_text())
    found = Module(all(isinstance(node, ast.Expr) for node in tree.body))
    for node in _nodes(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                found.functions.append((node.name, node.lineno, _length(node)))
            case ast.Attribute(attr=name):
                found.attributes.append((name, node.lineno))
            case ast.ImportFrom(module=str(module)):
                found.imports.append((module, tuple(alias.name for alias in node.names)))
            case ast.Import():
                found.imports += [(alias.name, None) for alias in node.names]
        found.names.extend(_given(node))
    return found


_ASKED = {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Attribute, ast.ImportFrom, ast.Import, ast.arg}
_SIGNS = (ast.expr_context, ast.operator, ast.cmpop, ast.boolop, ast.unaryop)
_EMPTY = {ast.Constant, type(None), str, int, bool, *(kind for signs in _SIGNS for kind in signs.__subclasses__())}
"""What stands in a tree and has nothing of what is asked for below it."""


def _nodes(tree: ast.Module) -> Iterator[ast.AST]:
    """Return the nodes that are asked for; `ast.walk` takes many times as long for nearly a million of them."""
    left: list[Any] = [tree]
    while left:
        node = left.pop()
        kind = type(node)
        if kind in _EMPTY:
            continue
        if kind is ast.Name:
            if type(node.ctx) is ast.Store:
                yield node
            continue
        if kind in _ASKED:
            yield node
        for name in kind._fields:
            value = getattr(node, name)
            left.extend(value if type(value) is list else (value,))


def _given(node: ast.AST) -> Iterator[tuple[str, int, bool]]:
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield name, node.lineno, True
        case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            yield name, node.lineno, False


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0
