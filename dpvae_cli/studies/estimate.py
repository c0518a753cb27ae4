"""How long a study will take: from the pace of its cells so far, else from a few timed steps."""

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import final

import torch

from dpvae_cli.fitting.fit import fit_prior
from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.recipe import Recipe
from dpvae_cli.runs.metrics_log import MetricsLog
from dpvae_cli.studies.messages import Cell
from dpvae_cli.studies.state import (
    CellState,
    cell_folder,
    iterations,
    read_measurements,
    recipe_of,
)
from dpvae_cli.training.dry_run import estimate_seconds
from dpvae_cli.training.threads import limit_threads

GUESSED_PACE = {
    "cpu": {"mlp": 300.0, "mnist_conv": 25.0, "conv": 20.0, "svhn_conv": 5.0, "celeba_conv": 2.5},
    "gpu": {"mlp": 350.0, "mnist_conv": 250.0, "conv": 250.0, "svhn_conv": 150.0},
}
"""Steps a second by architecture, where no step can be timed; right to an order of magnitude."""
DEFAULT_PACE = {"cpu": 5.0, "gpu": 120.0}
PRIOR_FIT_PACE = 150.0
"""Iterations a second of a prior that is fitted to codes, where none can be timed."""
TIMING_BUDGET = 15.0
"""Seconds after which no further cell is timed; those left take the times of similar ones."""
FIT_CODES, FIT_CLUSTERS = 2_000, 16
"""Of the codes that a fit is timed on."""
FACTOR_VAE_SLOWDOWN = 2.5
"""Times as long as others that a FactorVAE's step takes: a second batch and a discriminator."""

Key = tuple[str, ...]


@final
@dataclass(frozen=True)
class DurationEstimate:
    """Seconds of work of each cell, and how many of them rest on a guess."""

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
            return "a mere guess"
        known = len(self.seconds) - self.guessed - self.timed
        parts = [
            f"the pace of {self.paced_by} cell{'s' * (self.paced_by != 1)} so far" * (known > 0),
            "a few timed steps, without what metrics take" * (self.timed > 0),
            f"a guess for {self.guessed} of {len(self.seconds)} cells" * (self.guessed > 0),
        ]
        return f"from {', and '.join(filter(None, parts))}"


def estimate_duration(
    cells: Sequence[Cell],
    states: Sequence[CellState],
    *,
    on_gpu: bool,
    data_root: str | None = None,
    threads: int | None = None,
) -> DurationEstimate:
    """Return how long the cells that are not done will take.

    Where no cell of a kind has run yet, steps and fits are timed here, but for those of a GPU.

    Args:
        cells: all cells.
        states: of each cell.
        on_gpu: whether to guess for a GPU where no cell has run.
        data_root: folder to look for the data's shape in.
        threads: of a worker, None for as many as torch takes.
    """
    paces = _Medians()
    measuring = _Medians()
    for cell in cells:
        log = MetricsLog.read(cell_folder(cell).metrics_log)
        logged = [record.get("steps_per_second") for record in log]
        if valid := [p for p in logged if isinstance(p, int | float) and 0 < p < math.inf]:
            paces.add(cell, median(valid))
        measured = read_measurements(cell_folder(cell))
        if measured is not None and measured.seconds:
            measuring.add(cell, measured.seconds)
    left = [c for c, state in zip(cells, states, strict=True) if state.status != "done"]
    timing = _Timing(None if data_root is None else Path(data_root))
    if not on_gpu:
        with limit_threads(threads or torch.get_num_threads()):
            timing.run([cell for cell in left if paces.of(cell) is None])
            timing.run_fits(left)
    by_name = {cell.name: state for cell, state in zip(cells, states, strict=True)}
    seconds, guessed, timed = {}, 0, 0
    for cell in left:
        pace = paces.of(cell)
        if pace is None:
            pace = timing.paces.of(cell)
            guessed += pace is None
            timed += pace is not None
        if pace is None:
            kind, where = str(cell.recipe["architecture"]["kind"]), "gpu" if on_gpu else "cpu"
            pace = GUESSED_PACE[where].get(kind, DEFAULT_PACE[where])
            if cell.recipe["regularizer"]["kind"] == "factor":
                pace /= FACTOR_VAE_SLOWDOWN
        steps = max(0, iterations(cell) - by_name[cell.name].iteration)
        afterwards = timing.fit_seconds(cell) + (measuring.of(cell) or 0.0)
        seconds[cell.name] = steps / pace + afterwards
    return DurationEstimate(seconds, paces.count, guessed, timed)


@final
class _Timing:
    """Steps and fits that are timed here, until the budget is used up."""

    def __init__(self, data_root: Path | None) -> None:
        self.paces = _Medians()
        self._data_root = data_root
        self._fits: dict[str, float] = {}
        self._end = time.perf_counter() + TIMING_BUDGET

    def run(self, cells: Sequence[Cell]) -> None:
        """Time one cell of each architecture, then one of each recipe and prior."""
        for similarity in (-1, 0):
            seen = set()
            for cell in cells:
                key = [*_similarity_keys(cell)][similarity]
                is_first, is_timed = key not in seen, self.paces.has(cell, 0)
                seen.add(key)
                if is_first and not is_timed and time.perf_counter() < self._end:
                    with suppress(DpvaeError, OSError):  # without its data it is guessed
                        recipe = recipe_of(cell)
                        taken = estimate_seconds(recipe, device="cpu", data_root=self._data_root)
                        self.paces.add(cell, iterations(cell) / taken)

    def run_fits(self, cells: Sequence[Cell]) -> None:
        """Time each kind of fit on codes that are drawn for it."""
        for cell in cells:
            key = _fit_key(cell)
            if cell.recipe["fit_prior"] is None or key in self._fits:
                continue
            if time.perf_counter() < self._end:
                with suppress(DpvaeError, OSError):  # vamp needs an encoder
                    self._fits[key] = _time_fit(recipe_of(cell))

    def fit_seconds(self, cell: Cell) -> float:
        """Return the seconds of the fit of a prior after training."""
        if cell.recipe["fit_prior"] is None:
            return 0.0
        guess = float(cell.recipe["fitting"]["iterations"]) / PRIOR_FIT_PACE
        return self._fits.get(_fit_key(cell), guess)


def _fit_key(cell: Cell) -> str:
    parts = (cell.recipe["fit_prior"], cell.recipe["fitting"], cell.recipe["architecture"])
    return json.dumps(parts, sort_keys=True)


def _time_fit(recipe: Recipe) -> float:
    """Return the seconds of a fit: a mixture's is timed whole, of others one look and two."""
    spec, fitting = recipe.fit_prior, recipe.fitting
    assert spec is not None
    generator = stream(0, "timing")
    centres = 3 * torch.randn(FIT_CLUSTERS, recipe.architecture.latent_dim, generator=generator)
    codes = centres.repeat(FIT_CODES // FIT_CLUSTERS, 1)
    codes = codes + torch.randn(codes.shape, generator=generator)

    def timed(iterations: int) -> float:
        start = time.perf_counter()
        short = fitting.model_copy(update={"iterations": iterations})
        fit_prior(codes, torch.full_like(codes, -2), spec, fitting=short)
        return time.perf_counter() - start

    if spec.kind == "mixture":
        return timed(fitting.iterations)
    some = min(fitting.iterations, fitting.validate_every)
    one, two = timed(some), timed(2 * some)
    return one + (fitting.iterations / some - 1) * max(two - one, 0.0)


@final
class _Medians:
    """Medians of a number over cells that are alike, as alike as there are any."""

    def __init__(self) -> None:
        self.count = 0
        self._numbers: dict[Key, list[float]] = {}

    def add(self, cell: Cell, number: float) -> None:
        """Note a cell's number."""
        self.count += 1
        for key in _similarity_keys(cell):
            self._numbers.setdefault(key, []).append(number)

    def has(self, cell: Cell, similarity: int) -> bool:
        """Return whether a cell as alike as this is noted, 0 being the most alike."""
        return [*_similarity_keys(cell)][similarity] in self._numbers

    def of(self, cell: Cell) -> float | None:
        """Return the median of the cells that are most alike, or None."""
        for key in _similarity_keys(cell):
            if key in self._numbers:
                return median(self._numbers[key])
        return None


def _similarity_keys(cell: Cell) -> Iterator[Key]:
    """Yield what a cell shares with others, the most telling first."""
    architecture, regularizer = (
        str(cell.recipe[section]["kind"]) for section in ("architecture", "regularizer")
    )
    yield "recipe and prior", cell.recipe_name, str(cell.recipe["prior"]["kind"])
    yield "recipe", cell.recipe_name
    yield "networks", architecture, regularizer
    yield "architecture", architecture
