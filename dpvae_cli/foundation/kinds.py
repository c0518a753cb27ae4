"""Kinds of recipe sections, read from the source of their classes: nothing of them is imported."""

import re
from functools import cache
from importlib.resources import files

SPEC = re.compile(r'^class (\w+)\(\w+\):\n(?:(?!^class ).*\n)*?    kind: Literal\["(\w+)"\]', re.M)


@cache
def kinds_in_source(package: str) -> dict[str, str]:
    """Return the spec classes of a package such as `priors` by kind, in alphabetical order.

    For what must not wait for torch: completion in the shell, lazy names, colours of plots.
    """
    sources = [file for file in files("dpvae_cli").joinpath(package).iterdir() if file.is_file()]
    found = [
        pair
        for file in sources
        if file.name.endswith(".py")
        for pair in SPEC.findall(file.read_text(encoding="utf-8"))
    ]
    return dict(sorted((kind, name) for name, kind in found))
