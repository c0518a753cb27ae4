"""Kinds of recipe sections, read from the source of their classes: nothing of them is imported."""

import re
from functools import cache
from importlib.resources import files

SPEC = re.compile(r'^class (\w+)\(\w+\):\n(?:(?!^class ).*\n)*?    kind: Literal\["(\w+)"\]', re.M)
UNION_MEMBER = re.compile(r"\w+(?= \|)|(?<=\| )\w+")


@cache
def kinds_in_source(package: str) -> dict[str, str]:
    """Return the spec classes of a package such as `priors` by kind, in alphabetical order.

    For what must not wait for torch: completion in the shell and lazy names.
    """
    sources = [file for file in files("dpvae_cli").joinpath(package).iterdir() if file.is_file()]
    found = [
        pair
        for file in sources
        if file.name.endswith(".py")
        for pair in SPEC.findall(file.read_text(encoding="utf-8"))
    ]
    return dict(sorted((kind, name) for name, kind in found))


def kinds_in_union(package: str) -> list[str]:
    """Return the kinds of a package in the order of its union, to whose end new kinds are added."""
    init = files("dpvae_cli").joinpath(package, "__init__.py").read_text(encoding="utf-8")
    kinds = {name: kind for kind, name in kinds_in_source(package).items()}
    members = dict.fromkeys(UNION_MEMBER.findall(init))
    return [kinds[name] for name in members if name in kinds]
