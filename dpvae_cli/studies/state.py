"""How far a cell is, from its run folder alone."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, final

from dpvae_cli.evaluation.evaluate import NEED_IMAGES, unavailable_metrics
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.files import write_json
from dpvae_cli.foundation.text_files import read_json
from dpvae_cli.recipe import Recipe, load_recipe
from dpvae_cli.recipe.dump import to_dict
from dpvae_cli.recipe.loading import from_dict
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs.run_folder import RunFolder
from dpvae_cli.studies.cells import Cell, Options

Word = Literal["new", "started", "stopped", "trained", "done", "another recipe", "damaged"]


@final
@dataclass(frozen=True)
class Measured:
    """What `cell.json` says: which checkpoint was measured, by which metrics and how.

    `metrics.json` names results, of which one metric may give several; this names metrics, and in
    `results` the names of what each of them gave.
    """

    checkpoint: str
    iteration: int
    example_shape: tuple[int, ...]
    metrics: dict[str, str] = field(default_factory=dict)
    results: dict[str, tuple[str, ...]] = field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "checkpoint_digest": self.checkpoint,
            "iteration": self.iteration,
            "example_shape": list(self.example_shape),
            "metrics": self.metrics,
            "results": {metric: list(names) for metric, names in self.results.items()},
            "measuring_seconds": self.seconds,
        }


@final
@dataclass(frozen=True)
class State:
    """How far a cell is; `missing` metrics are those not measured of its checkpoint."""

    word: Word
    iteration: int = 0
    missing: tuple[str, ...] = ()


def run_folder(cell: Cell) -> RunFolder:
    """Return the cell's run folder."""
    return RunFolder(Path(cell.folder))


def recipe_of(cell: Cell) -> Recipe:
    """Return the cell's recipe."""
    return from_dict(cell.recipe, name=cell.recipe_name)


def state_of(cell: Cell, options: Options) -> State:
    """Return how far a cell is."""
    run = run_folder(cell)
    if not run.recipe.is_file():
        return State("new")
    if not holds(run, cell):
        return State("another recipe")
    if not run.checkpoint.is_file():
        return State("started")
    measured = read_measured(run)
    if measured is None:
        return _state_by_checkpoint(run, cell)
    return _state(run, cell, options, measured)


def _state_by_checkpoint(run: RunFolder, cell: Cell) -> State:
    """Return the state of a cell that has not been measured."""
    try:
        checkpoint = checkpoints.read_checkpoint(run.checkpoint)
    except DpvaeError:
        return State("damaged")
    asked = applicable(cell.metrics, recipe_of(cell), checkpoint.example_shape)
    if checkpoint.iteration < iterations(cell) or not run.samples.is_file():
        return State("stopped", checkpoint.iteration, asked)
    return State("trained" if asked else "done", checkpoint.iteration, asked)


def _state(run: RunFolder, cell: Cell, options: Options, measured: Measured) -> State:
    asked = applicable(cell.metrics, recipe_of(cell), measured.example_shape)
    missing = tuple(m for m in asked if measured.metrics.get(m) != manner(m, options))
    if measured.iteration < iterations(cell) or not run.samples.is_file():
        return State("stopped", measured.iteration, missing)
    return State("trained" if missing else "done", measured.iteration, missing)


def iterations(cell: Cell) -> int:
    """Return how many iterations the cell trains."""
    return int(cell.recipe["training"]["iterations"])


def holds(run: RunFolder, cell: Cell) -> bool:
    """Tell whether a run folder's recipe is the cell's, in every key."""
    try:
        return to_dict(load_recipe(run.recipe)) == cell.recipe
    except UsageError:
        return False


def applicable(
    metrics: tuple[str, ...], recipe: Recipe, example_shape: tuple[int, ...]
) -> tuple[str, ...]:
    """Return the metrics that data and prior allow: of images, manifold, a z0, factors or labels.

    Whether a file has labels shows when it is read; where it may, they are asked for.
    """
    left_out = unavailable_metrics(
        has_manifold=recipe.data.knows_manifold,
        has_images=is_image(example_shape),
        has_generation=recipe.final_prior.has_generation,
        has_factors=recipe.data.may_have_factors,
        has_labels=recipe.data.may_have_labels,
    )
    return tuple(metric for metric in metrics if metric not in left_out)


def manner(metric: str, options: Options) -> str:
    """Return what a metric depends on beside checkpoint and recipe."""
    return f"inception {options.fid_dimensions or 2048}" if metric in NEED_IMAGES else ""


def measured_path(run: RunFolder) -> Path:
    """Return where it is kept what was measured."""
    return run.path / "cell.json"


def read_measured(run: RunFolder) -> Measured | None:
    """Return what was measured of the checkpoint that is there; None where nothing was."""
    try:
        found = read_json(measured_path(run))
        if found["checkpoint_digest"] != checkpoints.file_digest(run.checkpoint):
            return None
        return _measured(found, _result_names(run, found["checkpoint_digest"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _measured(found: Mapping[str, Any], kept: Set[str]) -> Measured:
    """Return what was measured, but for metrics whose results are no longer in metrics.json."""
    results = {metric: tuple(map(str, names)) for metric, names in found["results"].items()}
    return Measured(
        checkpoint=str(found["checkpoint_digest"]),
        iteration=int(found["iteration"]),
        example_shape=tuple(int(size) for size in found["example_shape"]),
        metrics={
            str(metric): str(how)
            for metric, how in found["metrics"].items()
            if results[metric] and kept >= set(results[metric])
        },
        results=results,
        seconds=float(found["measuring_seconds"]),
    )


def _result_names(run: RunFolder, digest: str) -> set[str]:
    """Return the names of the results that metrics.json has of this checkpoint."""
    found = read_json(run.metrics)
    results = found["results"] if found.get("checkpoint_digest") == digest else []
    return {str(result["metric"]) for result in results}


def write_measured(run: RunFolder, measured: Measured) -> None:
    """Keep what was measured."""
    write_json(measured_path(run), measured.to_json())
