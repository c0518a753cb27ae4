"""From a study to its cells: every recipe at every combination of the axes' values."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any, final

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.recipe import document
from dpvae_cli.recipe.document import ConfigIssue, KeyPath, RecipeError, truncate
from dpvae_cli.recipe.loading import Override, digest, load_with_overrides, to_dict
from dpvae_cli.studies.catalogue import study_error
from dpvae_cli.studies.figures import StudyFigure
from dpvae_cli.studies.loading import LoadedStudy, Study
from dpvae_cli.studies.messages import Cell

STUDIES = Path("studies")
MAX_NAMES = 12
MAX_CELLS = 10_000


@final
@dataclass(frozen=True)
class Plan:
    """The cells of a study, in order, where the study is kept, and what of it is left out."""

    name: str
    study: Study
    folder: Path
    cells: tuple[Cell, ...]
    left_out: str = ""

    @property
    def figures(self) -> Path:
        """Return where the study's figures are kept."""
        return self.folder / "figures"

    def cells_of(self, figure: StudyFigure) -> list[Cell]:
        """Return the cells that a figure shows."""
        return cells_in_figure(figure, self.cells)


def make_plan(loaded: LoadedStudy, *, only: str | None = None, studies: Path = STUDIES) -> Plan:
    """Return the cells of a study.

    Args:
        loaded: the study.
        only: a pattern; other cells are left out.
        studies: the folder that the study's folder is kept in.

    Raises:
        RecipeError: with every mistake of every recipe, each named once.
        UsageError: the pattern fits no cell.
    """
    study, folder = loaded.study, studies / loaded.name
    size = len(study.recipes) * math.prod(map(len, study.axes.values()))
    if size > MAX_CELLS:
        problem = f"{size:,} cells are more than {MAX_CELLS:,}; leave out recipes or values"
        raise study_error([ConfigIssue(loaded.place("axes"), "axes", problem)])
    found: dict[str, Cell] = {}
    others: dict[str, str] = {}
    mistakes: dict[tuple[Any, ...], tuple[ConfigIssue, dict[str, None]]] = {}
    indices = [range(len(values)) for values in study.axes.values()]
    for path, positions in product(_recipe_files(loaded), product(*indices)):
        chosen = dict(zip(study.axes, positions, strict=True))
        overrides = _overrides(loaded, path.stem, chosen)
        try:
            recipe = load_with_overrides(path, overrides)
        except RecipeError as error:
            changed = {override.path: override.value for override in overrides}
            prior = changed.get(("prior",), "decoupled")
            kind = prior.get("kind") if isinstance(prior, dict) else prior
            name = f"{path.stem}-{kind}-seed{changed.get(('seed',), 0)}"
            others[name] = name
            for issue in error.issues if only is None or fnmatchcase(name, only) else ():
                # What is allowed instead differs from recipe to recipe.
                key = (issue.location, issue.key, issue.problem.partition(";")[0])
                mistakes.setdefault(key, (issue, {}))[1][path.stem] = None
            continue
        name = f"{recipe.run_name}-{digest(recipe)}"
        if only is not None and not any(fnmatchcase(n, only) for n in (name, recipe.run_name)):
            others[name] = recipe.run_name
            continue
        cell = Cell(
            name=name,
            folder=folder / name,
            recipe=recipe,
            metrics=study.metrics,
        )
        found.setdefault(name, cell)
    if mistakes:
        named = [
            replace(issue, problem=f"{issue.problem} (in {', '.join(recipes)})")
            for issue, recipes in mistakes.values()
        ]
        raise study_error(sorted(named))
    if not found:
        names = list(dict.fromkeys(others.values()))
        listed = ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
        raise UsageError(
            f"--only {only or '*'} fits no cell of the study; there are {listed}",
            hint=f"A pattern has wildcards: --only '*{(only or '').strip('*')}*'",
        )
    plain = list(found.values())
    shown = [(figure, {c.name for c in cells_in_figure(figure, plain)}) for figure in study.figures]
    cells = [
        replace(cell, figures=tuple(figure for figure, names in shown if cell.name in names))
        for cell in plain
    ]
    note = f"Only {only}: {len(found)} of the {len(found) + len(others)} runs of the study"
    return Plan(loaded.name, study, folder, tuple(cells), note if others else "")


def cells_in_figure(figure: StudyFigure, cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells that a figure shows: those it names, of each the first seed or all."""
    fitting = [cell for cell in cells if any(fnmatchcase(cell.name, p) for p in figure.cells)]
    if figure.seeds == "all":
        return fitting
    first: dict[str, Cell] = {}
    for cell in sorted(fitting, key=lambda cell: cell.recipe.seed):
        but_for_the_seed = [cell.recipe.name, to_dict(cell.recipe) | {"seed": None}]
        first.setdefault(json.dumps(but_for_the_seed, sort_keys=True), cell)
    names = {cell.name for cell in first.values()}
    return [cell for cell in fitting if cell.name in names]


def _recipe_files(loaded: LoadedStudy) -> list[Path]:
    """Return the files of the study's recipes.

    Raises:
        RecipeError: recipes that are not there.
    """
    paths, mistakes = [], []
    for index, word in enumerate(loaded.study.recipes):
        try:
            paths.append(document.locate_recipe(word))
        except RecipeError as error:
            problem = f"{truncate(word)}: {error.issues[0].problem}"
            place = loaded.place("recipes", index)
            mistakes.append(ConfigIssue(place, f"recipes[{index}]", problem))
    if mistakes:
        raise study_error(mistakes, hint=document.LIST_HINT)
    return paths


def _overrides(loaded: LoadedStudy, recipe: str, positions: dict[str, int]) -> list[Override]:
    """Return what the study changes of a recipe at these positions of the axes."""
    study = loaded.study
    written: list[tuple[str, Any, KeyPath]] = [
        (key, value, ("overrides", key)) for key, value in study.overrides.items()
    ]
    for pattern, keys in study.overrides_for.items():
        if fnmatchcase(recipe, pattern):
            written += [(key, v, ("overrides_for", pattern, key)) for key, v in keys.items()]
    written += [(key, study.axes[key][at], ("axes", key, at)) for key, at in positions.items()]
    overrides = [
        Override(tuple(key.split(".")), value, loaded.place(*path)) for key, value, path in written
    ]
    # A section must stand before a field of it can be changed.
    return sorted(overrides, key=lambda override: len(override.path))
