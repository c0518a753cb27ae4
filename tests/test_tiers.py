"""The table of slow tests names tests that exist."""

import ast
from importlib.util import find_spec
from pathlib import Path

from tests.tiers import SLOW


def test_every_slow_test_exists():
    existing = {
        f"{path.stem}::{node.name}"
        for path in Path(__file__).parent.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    gone = SLOW.keys() - existing
    assert not gone, "rename or remove these in tests/tiers.py"


def test_what_is_checked_by_jaxtyping_exists(pytestconfig):
    *packages, _ = pytestconfig.getoption("jaxtyping_packages").split(",")
    assert len(packages) > 10
    assert all(map(find_spec, packages))
