"""Bring one cell to its end: train what is missing, measure what is missing, keep what is drawn.

`run_cell` is what executors run, in whatever process; what it takes and returns is plain data.
"""

import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, final

from filelock import Timeout

from dpvae_cli.data import Dataset
from dpvae_cli.data.base import DataSpec
from dpvae_cli.evaluation.evaluate import NEED_IMAGES
from dpvae_cli.evaluation.features import FeatureOptions
from dpvae_cli.foundation.errors import DpvaeError, InterruptedRun, UsageError
from dpvae_cli.foundation.files import write_text
from dpvae_cli.foundation.locks import hold_lock
from dpvae_cli.foundation.progress import handle_progress
from dpvae_cli.recipe import Recipe
from dpvae_cli.recipe.dump import to_yaml
from dpvae_cli.runs.evaluate_run import evaluate_run
from dpvae_cli.runs.loaded_run import LoadedRun, load_run
from dpvae_cli.runs.run_folder import RunFolder
from dpvae_cli.studies.cells import Cell, Event, Options, Outcome, Tell, silent
from dpvae_cli.studies.figures import from_dict
from dpvae_cli.studies.state import (
    Measured,
    applicable,
    holds,
    iterations,
    manner,
    read_measured,
    recipe_of,
    run_folder,
    state_of,
    write_measured,
)
from dpvae_cli.training.train import train

SHOWN_EVERY = 0.25
"""Seconds between two reports of progress."""


def run_cell(cell: Cell, *, options: Options, device: str = "auto", tell: Tell = silent) -> Outcome:
    """Bring a cell to its end, from wherever it is; never raises but on a signal.

    Args:
        cell: which.
        options: what all cells share.
        device: where to compute.
        tell: hears of progress.
    """
    start = time.perf_counter()
    try:
        with _held(cell):
            _complete(cell, options, device, _Throttled(tell))
        outcome = Outcome(cell.name, "done")
    except Timeout:
        outcome = Outcome(cell.name, "busy", "another process is at it")
    except InterruptedRun as stopped:
        outcome = Outcome(cell.name, "interrupted", str(stopped).partition(";")[0])
    except DpvaeError as error:
        outcome = Outcome(cell.name, "failed", str(error), error.hint)
    except Exception as error:  # a bug in one cell must not lose the others
        path = Path(cell.folder) / "error.txt"
        write_text(path, traceback.format_exc())
        problem = f"{type(error).__name__}: {error}"
        outcome = Outcome(cell.name, "failed", problem, f"The traceback is in {path}.")
    return replace(outcome, seconds=time.perf_counter() - start)


@contextmanager
def _held(cell: Cell) -> Iterator[None]:
    """Hold the cell as a whole; the run folder's own lock is `train`'s.

    Raises:
        Timeout: another process holds it.
    """
    folder = Path(cell.folder)
    with hold_lock(folder.with_name(f".{folder.name}.cell.lock"), timeout=0):
        yield


def _complete(cell: Cell, options: Options, device: str, tell: "_Throttled") -> None:
    run, recipe = run_folder(cell), recipe_of(cell)
    state = state_of(cell, options)
    if state.word == "done":
        return
    tell(Event(cell.name, "started", _opening(state.iteration)))
    _claim(run, cell, recipe)
    with handle_progress(
        lambda event: tell(Event(cell.name, "preparing", event.task, event.done, event.total or 0))
    ):
        if state.word != "trained":
            _train(cell, recipe, options, device, tell)
        opened = opened_cell(cell, options, device=device)
        failed = _measure(cell, opened, options, tell)
        _prepare(cell, opened, tell)
    if failed:
        raise _complaint(failed)


def _opening(iteration: int) -> str:
    return f"from iteration {iteration}" if iteration else ""


def _claim(run: RunFolder, cell: Cell, recipe: Recipe) -> None:
    """Write the recipe first, so that whatever happens next is a run that can be resumed.

    Raises:
        UsageError: the folder holds another recipe.
    """
    if not run.recipe.is_file():
        write_text(run.recipe, to_yaml(recipe))
    elif not holds(run, cell):
        raise UsageError(
            f"{run.recipe} is not the recipe that the folder is named after",
            hint="Move the folder away; the cell is then trained anew.",
        )


def _train(cell: Cell, recipe: Recipe, options: Options, device: str, tell: "_Throttled") -> None:
    """Train from the last checkpoint, or the beginning where there is none."""
    train(
        recipe,
        cell.folder,
        resume=True,
        device=device,
        dataset=_dataset(recipe, options),
        callback=_Listener(cell, tell),
    )


def opened_cell(cell: Cell, options: Options, *, device: str) -> LoadedRun:
    """Return a cell's checkpoint, opened; its data is read when it is asked for."""
    return load_run(
        Path(cell.folder),
        device=device,
        load_dataset=lambda: _dataset(recipe_of(cell), options),
    )


def _measure(
    cell: Cell, opened: LoadedRun, options: Options, tell: "_Throttled"
) -> dict[str, DpvaeError]:
    """Measure what is missing, keep each result at once, return what failed."""
    run = opened.folder
    shape = opened.model.example_shape
    known = read_measured(run) or Measured(opened.digest, opened.iteration, shape)
    asked = applicable(cell.metrics, opened.recipe, shape)
    missing = [m for m in asked if known.metrics.get(m) != manner(m, options)]
    failed: dict[str, DpvaeError] = {}
    for group in _groups(missing):
        tell(Event(cell.name, "measuring", ", ".join(group)))
        start = time.perf_counter()
        record, wrong = evaluate_run(
            opened,
            group,
            progress=lambda metric, done, total: tell(
                Event(cell.name, "measuring", metric, done, total)
            ),
            features=_features(options),
        )
        failed |= wrong
        fresh = {metric: manner(metric, options) for metric in group if metric not in wrong}
        names = tuple(result.metric for result in record.results)
        known = replace(
            known,
            metrics=known.metrics | fresh,
            results=known.results | dict.fromkeys(fresh, names),
            seconds=known.seconds + time.perf_counter() - start,
        )
        write_measured(run, known)
    if not missing:
        write_measured(run, known)
    return failed


def _groups(metrics: list[str]) -> list[list[str]]:
    """Return the metrics one by one; those of images together, since they share their features."""
    of_images = [metric for metric in metrics if metric in NEED_IMAGES]
    alone = [[metric] for metric in metrics if metric not in NEED_IMAGES]
    return [*alone, *([of_images] if of_images else [])]


def _features(options: Options) -> FeatureOptions:
    weights = options.inception_weights
    return FeatureOptions(
        dimensions=options.fid_dimensions,
        weights=None if weights is None else Path(weights),
        download=options.download,
    )


def _prepare(cell: Cell, opened: LoadedRun, tell: "_Throttled") -> None:
    """Make here, where the model and the data are, what the study's figures show of the cell."""
    for spec in cell.figures:
        figure = from_dict(spec)
        tell(Event(cell.name, "drawing", figure.stem))
        figure.prepare(opened)


def _complaint(failed: Mapping[str, DpvaeError]) -> DpvaeError:
    hints = [error.hint for error in failed.values() if error.hint]
    message = "; ".join(f"{metric}: {error}" for metric, error in failed.items())
    return DpvaeError(message, hint=hints[0] if hints else None)


def _dataset(recipe: Recipe, options: Options) -> Dataset:
    return _loaded(recipe.data, options.data_root, options.download)


@lru_cache(maxsize=1)
def _loaded(spec: DataSpec, root: str | None, download: bool) -> Dataset:
    """Return a data set, read once for all cells that a worker does in a row."""
    return spec.load(None if root is None else Path(root), download=download)


@final
class _Throttled:
    """Passes news on; of counts of the same thing only one every so often."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._last, self._told = tell, ("", ""), 0.0

    def __call__(self, event: Event) -> None:
        """Pass it on, or not."""
        now, what = time.perf_counter(), (event.kind, event.text)
        if what == self._last and event.done < event.total and now - self._told < SHOWN_EVERY:
            return
        self._last, self._told = what, now
        self._tell(event)


@final
class _Listener:
    """Tells of training, at a price that a step does not notice."""

    def __init__(self, cell: Cell, tell: _Throttled) -> None:
        self._cell, self._tell = cell, tell
        self._total, self._told, self._pace = iterations(cell), 0.0, ""

    def on_data_loaded(self, dataset: Dataset) -> None:
        """Say nothing."""

    def on_train_start(self, run_dir: Path, *, iteration: int, iterations: int) -> None:
        """Tell where training begins."""
        self._progress(iteration)

    def on_step(self, iteration: int) -> None:
        """Tell how far it is, now and then."""
        now = time.perf_counter()
        if now - self._told > SHOWN_EVERY:
            self._told = now
            self._progress(iteration)

    def on_log(self, record: Mapping[str, Any]) -> None:
        """Note the pace."""
        if record["kind"] == "train":
            self._pace = f"{record['steps_per_second']:.0f} steps/s"

    def on_checkpoint(self, path: Path, *, iteration: int) -> None:
        """Say nothing."""

    def _progress(self, iteration: int) -> None:
        self._tell(Event(self._cell.name, "training", self._pace, iteration, self._total))
