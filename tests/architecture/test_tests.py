"""What several tests share stands in tests/support: a test can be moved or deleted without another one's leave."""

from __future__ import annotations

from tests.support.suite.source import ROOT, parsed


def test_no_test_imports_another_test() -> None:
    """Neither a test module nor a conftest is imported by anything."""
    files = [path for folder in ("tests", "bench", "chaos") for path in sorted((ROOT / folder).rglob("*.py"))]
    wrong = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files
        for module, _ in parsed(path).imports
        if module.startswith("tests.") and module.rsplit(".", 1)[-1].startswith(("test_", "conftest"))
    }

    assert wrong == set()
