"""Run one cell: train, measure and prepare for figures what is missing.

`run_cell` is what executors run, in whatever process; what it takes and returns is plain data.
"""

import time
import traceback
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from filelock import Timeout

from dpvae_cli.data import Dataset
from dpvae_cli.data.base import DataSpec
from dpvae_cli.evaluation.features import FeatureOptions
from dpvae_cli.evaluation.metrics import metrics_needing
from dpvae_cli.foundation.errors import DpvaeError, InterruptedRun, UsageError
from dpvae_cli.foundation.files import hold_lock, write_text
from dpvae_cli.recipe.loading import to_yaml
from dpvae_cli.runs.evaluate_run import evaluate_run
from dpvae_cli.runs.loaded_run import LoadedRun, load_run
from dpvae_cli.studies.figures import figure_from_dict
from dpvae_cli.studies.messages import Cell, CellOptions, Outcome
from dpvae_cli.studies.state import (
    Measurements,
    cell_folder,
    cell_state,
    measurement_key,
    read_measurements,
    recipe_matches,
    recipe_of,
    write_measurements,
)
from dpvae_cli.training.train import train


def run_cell(cell: Cell, *, options: CellOptions, device: str = "auto") -> Outcome:
    """Train, measure and prepare what is missing of a cell; never raises but on a signal.

    Args:
        cell: the cell.
        options: what all cells share.
        device: where to compute.
    """
    folder = Path(cell.folder)
    try:
        with hold_lock(folder.with_name(f".{folder.name}.cell.lock"), timeout=0.0):
            _complete(cell, options, device)
            return Outcome(cell.name, "done")
    except Timeout:
        return Outcome(cell.name, "busy", "another process runs it")
    except InterruptedRun as stopped:
        return Outcome(cell.name, "interrupted", str(stopped).partition(";")[0])
    except DpvaeError as error:
        return Outcome(cell.name, "failed", str(error), error.hint)
    except Exception as error:  # a bug in one cell must not lose the others
        path = folder / "error.txt"
        write_text(path, traceback.format_exc())
        problem = f"{type(error).__name__}: {error}"
        return Outcome(cell.name, "failed", problem, f"The traceback is in {path}.")


def _complete(cell: Cell, options: CellOptions, device: str) -> None:
    run, recipe = cell_folder(cell), recipe_of(cell)
    status = cell_state(cell, options).status
    if status == "done":
        return
    if not run.recipe.is_file():  # first, so that whatever happens next is a run to be resumed
        write_text(run.recipe, to_yaml(recipe))
    elif not recipe_matches(run, cell):
        raise UsageError(
            f"{run.recipe} is not the recipe that the folder is named after",
            hint="Move the folder away; the cell is then trained anew.",
        )
    if status != "trained":
        dataset = load_dataset(recipe.data, options.data_root, options.download)
        train(recipe, cell.folder, mode="resume", device=device, dataset=dataset)
    loaded = load_cell(cell, options, device=device)
    failed = _measure(cell, loaded, options)
    for spec in cell.figures:
        figure_from_dict(spec).prepare(loaded)
    if failed:
        hints = [error.hint for error in failed.values() if error.hint]
        message = "; ".join(f"{metric}: {error}" for metric, error in failed.items())
        raise DpvaeError(message, hint=hints[0] if hints else None)


def load_cell(cell: Cell, options: CellOptions, *, device: str) -> LoadedRun:
    """Load a cell's checkpoint; its data is read when it is needed."""
    data, root, download = recipe_of(cell).data, options.data_root, options.download
    return load_run(
        Path(cell.folder),
        device=device,
        load_dataset=lambda: load_dataset(data, root, download),
    )


def _measure(cell: Cell, loaded: LoadedRun, options: CellOptions) -> dict[str, DpvaeError]:
    """Measure what is missing, keep each result at once, return what failed."""
    run, weights = loaded.folder, options.inception_weights
    features = FeatureOptions(
        dimensions=options.fid_dimensions,
        weights=None if weights is None else Path(weights),
        download=options.download,
    )
    known = read_measurements(run)
    known = known or Measurements(loaded.digest, loaded.iteration, loaded.model.example_shape)
    missing = cell_state(cell, options).missing
    image_metrics = metrics_needing("images")  # they share their features
    groups = [[metric] for metric in missing if metric not in image_metrics]
    of_images = [metric for metric in missing if metric in image_metrics]
    failed: dict[str, DpvaeError] = {}
    for group in [*groups, *([of_images] if of_images else [])]:
        start = time.perf_counter()
        record, errors = evaluate_run(loaded, group, features=features)
        failed |= errors
        measured = {metric: measurement_key(metric, options) for metric in group}
        measured = {metric: key for metric, key in measured.items() if metric not in errors}
        names = tuple(result.metric for result in record.results)
        known = replace(
            known,
            metrics=known.metrics | measured,
            results=known.results | dict.fromkeys(measured, names),
            seconds=known.seconds + time.perf_counter() - start,
        )
        write_measurements(run, known)
    if not missing:
        write_measurements(run, known)
    return failed


@lru_cache(maxsize=1)
def load_dataset(spec: DataSpec, root: str | None, download: bool) -> Dataset:
    """Return a data set, read once for all cells that a worker does in a row."""
    return spec.load(None if root is None else Path(root), download=download)
