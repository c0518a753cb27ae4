"""Run one cell: train, measure and prepare for figures what is missing.

`run_cell` is what executors run, in whatever process; what it takes and returns can be pickled.
"""

import time
import traceback
from functools import lru_cache
from pathlib import Path

from filelock import Timeout

from dpvae_cli.data import Dataset
from dpvae_cli.data.base import DataSpec
from dpvae_cli.evaluation.features import FeatureOptions
from dpvae_cli.foundation.errors import DpvaeError, InterruptedRun, UsageError
from dpvae_cli.foundation.files import hold_lock, write_json, write_text
from dpvae_cli.foundation.text import read_json
from dpvae_cli.recipe.loading import to_yaml
from dpvae_cli.runs.evaluate_run import evaluate_run
from dpvae_cli.runs.loaded_run import LoadedRun, load_run
from dpvae_cli.runs.run_folder import RunFolder
from dpvae_cli.studies.messages import Cell, CellOptions, Outcome
from dpvae_cli.studies.state import cell_state, recipe_matches
from dpvae_cli.training.train import train

CELL_FILE = "cell.json"
"""Says how many seconds measuring took."""


def run_cell(cell: Cell, *, options: CellOptions, device: str = "auto") -> Outcome:
    """Train, measure and prepare what is missing of a cell; never raises but on a signal.

    Args:
        cell: the cell.
        options: what all cells share.
        device: where to compute.
    """
    folder = cell.folder
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
    run, recipe = RunFolder(cell.folder), cell.recipe
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
    for figure in cell.figures:
        figure.prepare(loaded)
    if failed:
        hints = [error.hint for error in failed.values() if error.hint]
        message = "; ".join(f"{metric}: {error}" for metric, error in failed.items())
        raise DpvaeError(message, hint=hints[0] if hints else None)


def load_cell(cell: Cell, options: CellOptions, *, device: str) -> LoadedRun:
    """Load a cell's checkpoint; its data is read when it is needed."""
    data, root, download = cell.recipe.data, options.data_root, options.download
    return load_run(
        cell.folder, device=device, load_dataset=lambda: load_dataset(data, root, download)
    )


def _measure(cell: Cell, loaded: LoadedRun, options: CellOptions) -> dict[str, DpvaeError]:
    """Measure what is missing, and return what failed."""
    features = FeatureOptions(
        dimensions=options.fid_dimensions,
        weights=options.inception_weights,
        download=options.download,
    )
    start = time.perf_counter()
    _, failed = evaluate_run(loaded, cell_state(cell, options).missing, features=features)
    seconds = measuring_seconds(cell) + time.perf_counter() - start
    write_json(cell.folder / CELL_FILE, {"measuring_seconds": seconds})
    return failed


def measuring_seconds(cell: Cell) -> float:
    """Return how long measuring a cell has taken so far."""
    seconds = read_json(cell.folder / CELL_FILE).get("measuring_seconds")
    return float(seconds) if isinstance(seconds, int | float) else 0.0


@lru_cache(maxsize=1)
def load_dataset(spec: DataSpec, root: Path | None, download: bool) -> Dataset:
    """Return a data set, read once for all cells that a worker does in a row."""
    return spec.load(root, download=download)
