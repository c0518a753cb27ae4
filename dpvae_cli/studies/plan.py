"""From a study to its cells: every recipe at every combination of the axes' values."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any, final

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.recipe import catalogue as recipes
from dpvae_cli.recipe.document import ConfigIssue, RecipeError, truncate
from dpvae_cli.recipe.dump import digest, to_dict
from dpvae_cli.recipe.loading import Override, load_with_overrides
from dpvae_cli.studies.figures import StudyFigure
from dpvae_cli.studies.loading import HINT, LoadedStudy
from dpvae_cli.studies.messages import Cell
from dpvae_cli.studies.schema import Study

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


@final
@dataclass(frozen=True)
class _Candidate:
    """A cell before its recipe is resolved."""

    path: Path
    axes: dict[str, Any]
    overrides: tuple[Override, ...]

    @property
    def base_name(self) -> str:
        """Return `<recipe>-<prior>-seed<k>`, as far as it is known before resolving."""
        values = {override.path: override.value for override in self.overrides}
        prior = values.get(("prior",), "decoupled")
        kind = prior.get("kind") if isinstance(prior, dict) else prior
        return f"{self.path.stem}-{kind}-seed{values.get(('seed',), 0)}"


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
    size = len(loaded.study.recipes) * math.prod(map(len, loaded.study.axes.values()))
    if size > MAX_CELLS:
        problem = f"{size:,} cells are more than {MAX_CELLS:,}; leave out recipes or values"
        mistake = ConfigIssue(loaded.place("axes"), "axes", problem)
        raise RecipeError([mistake], hint=HINT, what="study")
    folder = studies / loaded.name
    candidates = list(_candidates(loaded))
    found: dict[str, Cell] = {}
    others: set[str] = set()
    wrong = _Mistakes()
    for candidate in candidates:
        try:
            recipe = load_with_overrides(candidate.path, candidate.overrides)
        except RecipeError as error:
            if only is None or fnmatchcase(candidate.base_name, only):
                wrong.add(error, candidate.path.stem)
            others.add(candidate.base_name)
            continue
        name = f"{recipe.run_name}-{digest(recipe)}"
        cell = Cell(
            name=name,
            folder=str(folder / name),
            recipe_name=recipe.name,
            recipe=to_dict(recipe),
            axes=candidate.axes,
            metrics=loaded.study.metrics,
        )
        if only is None or fnmatchcase(cell.name, only) or fnmatchcase(base_name(cell), only):
            found.setdefault(cell.name, cell)
        else:
            others.add(cell.name)
    wrong.complain()
    if not found:
        names = list(dict.fromkeys(candidate.base_name for candidate in candidates))
        listed = ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
        raise UsageError(
            f"--only {only or '*'} fits no cell of the study; there are {listed}",
            hint=f"A pattern has wildcards: --only '*{(only or '').strip('*')}*'",
        )
    plain = list(found.values())
    shown = [
        (figure.model_dump(mode="json"), {cell.name for cell in cells_in_figure(figure, plain)})
        for figure in loaded.study.figures
    ]
    cells = [
        replace(cell, figures=tuple(spec for spec, names in shown if cell.name in names))
        for cell in plain
    ]
    note = f"Only {only}: {len(found)} of the {len(found) + len(others)} runs of the study"
    return Plan(loaded.name, loaded.study, folder, tuple(cells), note if others else "")


def base_name(cell: Cell) -> str:
    """Return a cell's name without the digest of its recipe."""
    return cell.name.rpartition("-")[0]


def cells_in_figure(figure: StudyFigure, cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells that a figure shows: those it names, of each the first seed or all."""
    fitting = [cell for cell in cells if any(fnmatchcase(cell.name, p) for p in figure.cells)]
    if figure.seeds == "all":
        return fitting
    first: dict[str, Cell] = {}
    for cell in sorted(fitting, key=lambda cell: int(cell.recipe["seed"])):
        first.setdefault(_but_for_the_seed(cell), cell)
    return [cell for cell in fitting if first[_but_for_the_seed(cell)] is cell]


def _but_for_the_seed(cell: Cell) -> str:
    return json.dumps([cell.recipe_name, {**cell.recipe, "seed": None}], sort_keys=True)


def _candidates(loaded: LoadedStudy) -> Iterator[_Candidate]:
    """Yield every combination.

    Raises:
        RecipeError: recipes that are not there.
    """
    study, axes = loaded.study, loaded.study.axes
    paths, mistakes = [], []
    for index, word in enumerate(study.recipes):
        try:
            paths.append(recipes.locate(word))
        except RecipeError as error:
            problem = f"{truncate(word)}: {error.issues[0].problem}"
            place = loaded.place("recipes", index)
            mistakes.append(ConfigIssue(place, f"recipes[{index}]", problem))
    if mistakes:
        raise RecipeError(mistakes, hint=recipes.LIST, what="study")
    for path in paths:
        own = _overrides(loaded, path.stem)
        for positions in product(*(range(len(values)) for values in axes.values())):
            chosen = dict(zip(axes, positions, strict=True))
            values = {key: study.axes[key][position] for key, position in chosen.items()}
            on_axes = [
                _override(loaded, key, values[key], "axes", key, position)
                for key, position in chosen.items()
            ]
            # A section must stand before a field of it can be changed.
            every = sorted([*own, *on_axes], key=lambda override: len(override.path))
            yield _Candidate(path, values, tuple(every))


def _overrides(loaded: LoadedStudy, recipe: str) -> list[Override]:
    """Return what the study changes of a recipe, beside the axes."""
    found = [
        _override(loaded, key, value, "overrides", key)
        for key, value in loaded.study.overrides.items()
    ]
    for pattern, keys in loaded.study.overrides_for.items():
        if fnmatchcase(recipe, pattern):
            found += [
                _override(loaded, key, value, "overrides_for", pattern, key)
                for key, value in keys.items()
            ]
    return found


def _override(loaded: LoadedStudy, key: str, value: Any, *path: str | int) -> Override:
    return Override(tuple(key.split(".")), value, loaded.place(*path))


@final
class _Mistakes:
    """Mistakes of many recipes, each once, with the recipes that make it."""

    def __init__(self) -> None:
        self._found: dict[tuple[Any, ...], tuple[ConfigIssue, list[str]]] = {}

    def add(self, error: RecipeError, recipe: str) -> None:
        """Add what is wrong with one recipe."""
        for mistake in error.issues:
            # What is allowed instead differs from recipe to recipe.
            key = (mistake.location, mistake.key, mistake.problem.partition(";")[0])
            _, names = self._found.setdefault(key, (mistake, []))
            if recipe not in names:
                names.append(recipe)

    def complain(self) -> None:
        """Raise all of them, if there are any.

        Raises:
            RecipeError: with every mistake.
        """
        if self._found:
            mistakes = [
                replace(mistake, problem=f"{mistake.problem} (in {', '.join(names)})")
                for mistake, names in self._found.values()
            ]
            raise RecipeError(sorted(mistakes), hint=HINT, what="study")
