"""Print the lowest version of each dependency that pyproject.toml allows, one per line."""

import re
import tomllib
from itertools import chain
from pathlib import Path

LOWEST = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?>=([0-9][0-9A-Za-z.]*)")


def constraints(pyproject: str) -> list[str]:
    """Return `name==version` for every `name>=version` among the dependencies and extras."""
    project = tomllib.loads(pyproject)["project"]
    extras = chain.from_iterable(project["optional-dependencies"].values())
    named = [*project["dependencies"], *extras]
    found = [LOWEST.fullmatch(each.strip()) for each in named]
    return sorted({f"{match[1]}=={match[2]}" for match in found if match})


if __name__ == "__main__":
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    print("\n".join(constraints(text)))
