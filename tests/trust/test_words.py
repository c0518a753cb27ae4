"""One public name means one thing in the package, and the words stay those of the field."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "dpvae_cli"

# Entry points that modules share by convention, as `torch.optim` and `torch.nn` share `forward`.
CONTRACT = {"build", "load", "main", "register"}
MOST_HOMONYMS = 5


def public_names(tree: ast.Module) -> Iterator[str]:
    """The classes, functions and type aliases that a module defines under a public name."""
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                pass
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript()):
                pass
            case _:
                continue
        if not name.startswith("_") and not name.isupper():
            yield name


def homonyms() -> dict[str, list[str]]:
    """Public names that several modules define, with these modules."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in public_names(ast.parse(path.read_text(encoding="utf-8"))):
            places[name].append(str(path.relative_to(ROOT)))
    return {
        name: paths
        for name, paths in sorted(places.items())
        if len(paths) > 1 and name not in CONTRACT
    }
