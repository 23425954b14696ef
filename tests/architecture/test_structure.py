"""The tree stays small enough to understand in an afternoon: neither one big heap nor a thousand crumbs."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.support.suite.source import ROOT, parsed

PRODUCT = ("consent", "producers", "worker", "console", "sandbox")
PROGRAMS = (*PRODUCT, "bench", "chaos", "tests")
VAGUE = {"utils", "helpers", "common", "manager", "misc"}


def modules(folders: tuple[str, ...] = PRODUCT) -> Iterator[Path]:
    """Every module but the migrations, which are lists, and the packages' own docstrings."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "migrations" not in path.parts and not (path.name == "__init__.py" and parsed(path).is_docstring):
                yield path


def lines(path: Path) -> int:
    """How many lines a file has."""
    return len(path.read_text().splitlines())


def shown(path: Path) -> str:
    """A path as a failure shows it."""
    return str(path.relative_to(ROOT))


def dotted(path: Path) -> str:
    """The name under which a module is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def importers() -> dict[str, set[str]]:
    """For each module of the product the modules of the product that import it."""
    names = {dotted(path) for path in modules()}
    found: dict[str, set[str]] = defaultdict(set)
    for path in modules():
        for module, imported in parsed(path).imports:
            if imported is not None:
                for name in (module, *(f"{module}.{name}" for name in imported)):
                    if name in names and name != dotted(path):
                        found[name].add(dotted(path))
    return found


def functions() -> Iterator[tuple[str, int]]:
    """Every function with its length in lines, the docstring left out."""
    for path in modules():
        yield from ((f"{shown(path)}:{line} {name}", length) for name, line, length in parsed(path).functions)


def test_no_file_is_too_long_to_read() -> None:
    """No module is longer than 300 lines, neither of the product nor of tests and benchmarks."""
    assert {shown(path): n for path in modules(PROGRAMS) if (n := lines(path)) > 300} == {}


def test_files_of_tests_are_worth_opening() -> None:
    """At most 15 of 100 modules beside the product have fewer than 40 lines."""
    tests = list(modules(("bench", "chaos", "tests")))

    assert len([path for path in tests if lines(path) < 40]) <= 0.15 * len(tests)


def test_files_are_worth_opening() -> None:
    """At most 15 of 100 modules have fewer than 40 lines, and none of fewer than 60 serves one other module alone."""
    short = [shown(path) for path in modules() if lines(path) < 40]
    importing = importers()
    crumbs = {
        shown(path): next(iter(importing[dotted(path)]))
        for path in modules()
        if lines(path) < 60 and len(importing[dotted(path)]) == 1 and not _is_of_a_template(path)
    }

    assert len(short) <= 0.15 * len(list(modules())), short
    assert crumbs == {}, "each of these belongs into the one module that uses it"


def _is_of_a_template(path: Path) -> bool:
    """Whether a module has to be there because its neighbours have one: a package's own, or a file of a provider."""
    return path.name == "__init__.py" or path.parent.parent == ROOT / "worker" / "providers"


def test_no_folder_is_a_heap() -> None:
    """No folder holds more than a dozen modules: neither of the product nor of tests and benchmarks."""
    held: dict[str, int] = defaultdict(int)
    for path in modules(PROGRAMS):
        held[shown(path.parent)] += path.name != "__init__.py"

    assert {folder: n for folder, n in held.items() if n > 12} == {}


def test_functions_are_one_paragraph() -> None:
    """No function is longer than 40 lines, and nine of ten have at most 25."""
    lengths = dict(functions())

    assert {name: n for name, n in lengths.items() if n > 40} == {}
    assert sum(n <= 25 for n in lengths.values()) >= 0.9 * len(lengths)


def test_modules_are_named_for_what_they_hold() -> None:
    """No module has a name that could hold anything, and each says in one docstring what it holds."""
    assert [shown(path) for path in modules() if path.stem in VAGUE] == []
    assert [shown(path) for path in modules(PROGRAMS) if not path.read_text().startswith('"""')] == []


def test_only_the_ledger_touches_its_database() -> None:
    """Code outside of consent/ uses the ledger's public objects, and never the database behind them."""
    found = [
        f"{shown(path)}:{line}"
        for path in modules(("producers", "worker", "console"))
        for name, line in parsed(path).attributes
        if name == "database"
    ]

    assert found == []


def test_nothing_in_a_transaction_begins_another_one() -> None:
    """It would hold its locks while it waits for a second connection; a server's clock and the key are read, too."""
    found = {
        f"{shown(path)}:{one.lineno}: {ast.unparse(one)}"
        for path in modules(("consent",))
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.Lambda) and _holds_transaction(function)
        for one in ast.walk(function)
        if isinstance(one, ast.Attribute) and ast.unparse(one) in _BEGINS_ANOTHER
    }

    assert not found


_BEGINS_ANOTHER = {
    *("self.core.now", "self.database.hash_key"),
    *(f"self.database.{name}" for name in ("read", "write", "write_or_name")),
}


def _holds_transaction(function: ast.FunctionDef | ast.Lambda) -> bool:
    names = {one.arg for one in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)}
    return bool(names & {"tx", "lock"})
