"""How far a cell is, from its run folder alone."""

from dataclasses import dataclass
from typing import Literal, final

from dpvae_cli.evaluation.metrics import METRICS, Need, unavailable_metrics
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.results import validate_results
from dpvae_cli.foundation.text import read_json
from dpvae_cli.recipe import Recipe, load_recipe
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs.run_folder import RunFolder
from dpvae_cli.studies.messages import Cell, CellOptions

CellStatus = Literal["new", "started", "stopped", "trained", "done", "another recipe", "damaged"]


@final
@dataclass(frozen=True)
class CellState:
    """How far a cell is; `missing` metrics are those not measured of its checkpoint."""

    status: CellStatus
    iteration: int = 0
    missing: tuple[str, ...] = ()


def cell_state(cell: Cell, options: CellOptions) -> CellState:
    """Return how far a cell is."""
    run = RunFolder(cell.folder)
    if not run.recipe.is_file():
        return CellState("new")
    if not recipe_matches(run, cell):
        return CellState("another recipe")
    if not run.checkpoint.is_file():
        return CellState("started")
    try:
        checkpoint = checkpoints.read_checkpoint(run.checkpoint)
    except DpvaeError:
        return CellState("damaged")
    measured = read_json(run.metrics)
    is_same = measured.get("checkpoint_digest") == checkpoint.digest
    results = validate_results(measured.get("results")) if is_same else ()
    there = {result.metric for result in results}
    wanted = applicable_metrics(cell.metrics, cell.recipe, checkpoint.example_shape)
    missing = tuple(m for m in wanted if not there & result_names(m, options.fid_dimensions))
    iteration = checkpoint.iteration
    if iteration < cell.recipe.training.iterations or not run.samples.is_file():
        return CellState("stopped", iteration, missing)
    return CellState("trained" if missing else "done", iteration, missing)


def recipe_matches(run: RunFolder, cell: Cell) -> bool:
    """Return whether a run folder's recipe is the cell's, in every key."""
    try:
        return load_recipe(run.recipe) == cell.recipe.with_name("recipe")
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


def result_names(metric: str, fid_dimensions: int | None) -> set[str]:
    """Return what the result of a metric may be called: `fid768` of that many features."""
    if fid_dimensions in (None, 2048) or "dimensions" not in METRICS[metric].settings:
        return {metric}
    kind, underscore, rest = metric.partition("_")
    numbered = f"{kind}{fid_dimensions}{underscore}{rest}"
    # metrics that need no images are measured of examples as they are where there are none
    return {numbered} if METRICS[metric].needs else {metric, numbered}
