"""How far a cell is, from its run folder alone."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, final

from dpvae_cli.evaluation.metrics import Need, metrics_needing, unavailable_metrics
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.files import write_json
from dpvae_cli.foundation.text import read_json
from dpvae_cli.recipe import Recipe, load_recipe
from dpvae_cli.recipe.loading import from_dict, to_dict
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs.run_folder import RunFolder
from dpvae_cli.studies.messages import Cell, CellOptions

CELL_FILE = "cell.json"
CellStatus = Literal["new", "started", "stopped", "trained", "done", "another recipe", "damaged"]


@final
@dataclass(frozen=True)
class Measurements:
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


@final
@dataclass(frozen=True)
class CellState:
    """How far a cell is; `missing` metrics are those not measured of its checkpoint."""

    status: CellStatus
    iteration: int = 0
    missing: tuple[str, ...] = ()


def cell_folder(cell: Cell) -> RunFolder:
    """Return the cell's run folder."""
    return RunFolder(Path(cell.folder))


def recipe_of(cell: Cell) -> Recipe:
    """Return the cell's recipe."""
    return from_dict(cell.recipe, name=cell.recipe_name)


def cell_state(cell: Cell, options: CellOptions) -> CellState:
    """Return how far a cell is."""
    run = cell_folder(cell)
    if not run.recipe.is_file():
        return CellState("new")
    if not recipe_matches(run, cell):
        return CellState("another recipe")
    if not run.checkpoint.is_file():
        return CellState("started")
    measured = read_measurements(run)
    try:
        source = measured or checkpoints.read_checkpoint(run.checkpoint)
    except DpvaeError:
        return CellState("damaged")
    known = measured.metrics if measured else {}
    wanted = applicable_metrics(cell.metrics, recipe_of(cell), source.example_shape)
    missing = tuple(m for m in wanted if known.get(m) != measurement_key(m, options))
    if source.iteration < iterations(cell) or not run.samples.is_file():
        return CellState("stopped", source.iteration, missing)
    return CellState("trained" if missing else "done", source.iteration, missing)


def iterations(cell: Cell) -> int:
    """Return how many iterations the cell trains."""
    return int(cell.recipe["training"]["iterations"])


def recipe_matches(run: RunFolder, cell: Cell) -> bool:
    """Return whether a run folder's recipe is the cell's, in every key."""
    try:
        return to_dict(load_recipe(run.recipe)) == cell.recipe
    except UsageError:
        return False


def applicable_metrics(
    metrics: tuple[str, ...], recipe: Recipe, example_shape: tuple[int, ...]
) -> tuple[str, ...]:
    """Return the metrics that data and prior allow: of images, manifold, a z0, factors or labels.

    Whether a file has labels shows when it is read; where it may, they are wanted for.
    """
    is_given_labels = recipe.fit_prior is not None and recipe.fitting.given is not None
    has: dict[Need, bool] = {
        "manifold": recipe.data.knows_manifold,
        "images": is_image(example_shape),
        "generation space": recipe.final_prior.has_generation and not is_given_labels,
        "factors": recipe.data.may_have_factors,
        "labels": recipe.data.may_have_labels,
        "a prior given labels": is_given_labels,
    }
    left_out = unavailable_metrics([need for need, holds in has.items() if holds])
    return tuple(metric for metric in metrics if metric not in left_out)


def measurement_key(metric: str, options: CellOptions) -> str:
    """Return what a metric depends on beside checkpoint and recipe."""
    needs_images = metric in metrics_needing("images")
    return f"inception {options.fid_dimensions or 2048}" if needs_images else ""


def read_measurements(run: RunFolder) -> Measurements | None:
    """Return what was measured of the checkpoint that is there; None where nothing was."""
    try:
        found, file = read_json(run.path / CELL_FILE), read_json(run.metrics)
        digest = found["checkpoint_digest"]
        if digest != checkpoints.file_digest(run.checkpoint):
            return None
        is_same = file.get("checkpoint_digest") == digest
        # A metric whose results are no longer in metrics.json is not measured.
        there = {str(each["metric"]) for each in file["results"]} if is_same else set()
        results = {metric: tuple(map(str, names)) for metric, names in found["results"].items()}
        return Measurements(
            checkpoint=str(digest),
            iteration=int(found["iteration"]),
            example_shape=tuple(int(size) for size in found["example_shape"]),
            metrics={
                str(metric): str(key)
                for metric, key in found["metrics"].items()
                if results[metric] and there >= set(results[metric])
            },
            results=results,
            seconds=float(found["measuring_seconds"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def write_measurements(run: RunFolder, measured: Measurements) -> None:
    """Keep what was measured."""
    found = {
        "checkpoint_digest": measured.checkpoint,
        "iteration": measured.iteration,
        "example_shape": measured.example_shape,
        "metrics": measured.metrics,
        "results": measured.results,
        "measuring_seconds": measured.seconds,
    }
    write_json(run.path / CELL_FILE, found)
