"""The table of slow tests names tests that exist."""

import ast
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
