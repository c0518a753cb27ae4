"""How long a study will take: from the pace of its cells so far, else from a few timed steps."""

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import final

import torch

from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.runs.metrics_log import MetricsLog
from dpvae_cli.runs.run_folder import RunFolder
from dpvae_cli.studies.messages import Cell, CellOptions
from dpvae_cli.studies.run_cell import measuring_seconds
from dpvae_cli.studies.state import CellState
from dpvae_cli.training.dry_run import estimate_seconds
from dpvae_cli.training.execution import limit_threads

GUESSED_PACE = {
    "cpu": {"mlp": 300.0, "mnist_conv": 25.0, "conv": 20.0, "svhn_conv": 5.0, "celeba_conv": 2.5},
    "gpu": {"mlp": 350.0, "mnist_conv": 250.0, "conv": 250.0, "svhn_conv": 150.0},
}
"""Steps a second by architecture, where no step can be timed; right to an order of magnitude."""
DEFAULT_PACE = {"cpu": 5.0, "gpu": 120.0}
PRIOR_FIT_PACE = 150.0
"""Iterations a second of a prior that is fitted to codes."""
TIMING_BUDGET = 15.0
"""Seconds after which no further cell is timed; those left take the times of similar ones."""
FACTOR_VAE_SLOWDOWN = 2.5
"""Times as long as others that a FactorVAE's step takes: a second batch and a discriminator."""

Key = tuple[str, ...]


@final
@dataclass(frozen=True)
class DurationEstimate:
    """Seconds of work of each cell, and how many of them are rough."""

    seconds: dict[str, float]
    paced_by: int
    guessed: int
    timed: int = 0

    def total(self, workers: int) -> float:
        """Return the remaining seconds with this number of workers."""
        longest = max(self.seconds.values(), default=0.0)
        return max(sum(self.seconds.values()) / workers, longest)

    @property
    def source(self) -> str:
        """Return in words what the estimate rests on."""
        if self.guessed == len(self.seconds):
            return "a rough estimate"
        known = len(self.seconds) - self.guessed - self.timed
        parts = [
            f"the pace of {self.paced_by} cell{'s' * (self.paced_by != 1)} so far" * (known > 0),
            "a few timed steps, without what metrics take" * (self.timed > 0),
            f"a rough estimate for {self.guessed} of {len(self.seconds)} cells"
            * (self.guessed > 0),
        ]
        return f"from {', and '.join(filter(None, parts))}"


def estimate_duration(
    cells: Sequence[Cell],
    states: Sequence[CellState],
    options: CellOptions,
    *,
    on_gpu: bool,
    threads: int | None = None,
) -> DurationEstimate:
    """Return how long the cells that are not done will take.

    Where no cell of a kind has run yet, steps are timed here, but for those of a GPU.

    Args:
        cells: all cells.
        states: of each cell.
        options: what the cells share.
        on_gpu: whether to guess for a GPU where no cell has run.
        threads: of a worker, None for as many as torch takes.
    """
    logged, timed, measuring = _Medians(), _Medians(), _Medians()
    for cell in cells:
        records = MetricsLog.read(RunFolder(cell.folder).metrics_log)
        paces = [record.get("steps_per_second") for record in records]
        if valid := [p for p in paces if isinstance(p, int | float) and 0 < p < math.inf]:
            logged.add(cell, median(valid))
        if seconds := measuring_seconds(cell):
            measuring.add(cell, seconds)
    left = [(c, state) for c, state in zip(cells, states, strict=True) if state.status != "done"]
    end = time.perf_counter() + TIMING_BUDGET
    with limit_threads(threads or torch.get_num_threads()):
        for cell in [] if on_gpu else _representatives([cell for cell, _ in left]):
            with suppress(DpvaeError, OSError):  # without its data it is guessed
                if logged.of(cell) is None and time.perf_counter() < end:
                    taken = estimate_seconds(cell.recipe, device="cpu", data_root=options.data_root)
                    timed.add(cell, cell.recipe.training.iterations / taken)
    estimates, guesses, timings = {}, 0, 0
    for cell, state in left:
        recipe, pace = cell.recipe, logged.of(cell)
        if pace is None and (pace := timed.of(cell)) is not None:
            timings += 1
        if pace is None:
            guesses += 1
            where = "gpu" if on_gpu else "cpu"
            pace = GUESSED_PACE[where].get(recipe.architecture.kind, DEFAULT_PACE[where])
            if recipe.regularizer.kind == "factor":
                pace /= FACTOR_VAE_SLOWDOWN
        fitted = 0 if recipe.fit_prior is None else recipe.fitting.iterations
        steps = max(0, recipe.training.iterations - state.iteration)
        fit_and_measure = fitted / PRIOR_FIT_PACE + (measuring.of(cell) or 0.0)
        estimates[cell.name] = steps / pace + fit_and_measure
    return DurationEstimate(estimates, logged.count, guesses, timings)


def _representatives(cells: Sequence[Cell]) -> list[Cell]:
    """Return a cell of each architecture, then one of each recipe and prior."""
    first: dict[Key, Cell] = {}
    for similarity in (-1, 0):
        for cell in cells:
            first.setdefault(_similarity_keys(cell)[similarity], cell)
    return list({cell.name: cell for cell in first.values()}.values())


@final
class _Medians:
    """Medians of a number over cells that are alike, as alike as there are any."""

    def __init__(self) -> None:
        self.count = 0
        self._numbers: dict[Key, list[float]] = defaultdict(list)

    def add(self, cell: Cell, number: float) -> None:
        """Note a cell's number."""
        self.count += 1
        for key in _similarity_keys(cell):
            self._numbers[key].append(number)

    def of(self, cell: Cell) -> float | None:
        """Return the median of the cells that are most alike, or None."""
        alike = (self._numbers[k] for k in _similarity_keys(cell) if k in self._numbers)
        return next(map(median, alike), None)


def _similarity_keys(cell: Cell) -> list[Key]:
    """Return what a cell shares with others, the most telling first."""
    recipe, architecture = cell.recipe, cell.recipe.architecture.kind
    return [
        ("recipe and prior", recipe.name, recipe.prior.kind),
        ("recipe", recipe.name),
        ("networks", architecture, recipe.regularizer.kind),
        ("architecture", architecture),
    ]
