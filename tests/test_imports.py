"""The modules of the package import each other in one direction, lazily imported ones too."""

import ast
from pathlib import Path

import dpvae_cli

ROOT = Path(dpvae_cli.__file__).parent
TYPE_CHECKING = "TYPE_CHECKING"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in ROOT.rglob("*.py")}


class Imports(ast.NodeVisitor):
    """Collect the modules of the package that a module imports, at its top or inside functions."""

    def __init__(self) -> None:
        self.modules: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == TYPE_CHECKING):
            self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            self.modules.add(whole if whole in MODULES else str(node.module))


def imports(name: str) -> set[str]:
    visitor = Imports()
    visitor.visit(ast.parse(MODULES[name].read_text(encoding="utf-8")))
    # A package offers what its modules define, and they may use the package's other modules.
    own = {name.rpartition(".")[0]} if MODULES[name].name != "__init__.py" else set()
    return (visitor.modules & MODULES.keys()) - {name} - own


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of one circle of imports, or nothing."""
    done: set[str] = set()

    def search(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            for other in sorted(graph[name]):
                if found := search(other, [*path, name]):
                    return found
            done.add(name)
        return []

    return next(filter(None, (search(name, []) for name in sorted(graph))), [])


def test_no_modules_import_each_other_in_a_circle():
    assert circle({name: imports(name) for name in MODULES}) == []


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
