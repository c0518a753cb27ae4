"""How long a study will take: from the pace of its cells so far, or a guess that says so."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import final

from dpvae_cli.runs.metrics_log import MetricsLog
from dpvae_cli.studies.cells import Cell
from dpvae_cli.studies.state import State, iterations, read_measured, run_folder

GUESSED_CPU = {"mlp": 300.0, "mnist_conv": 25.0, "conv": 20.0, "svhn_conv": 5.0, "celeba_conv": 2.5}
GUESSED_GPU = {"mlp": 350.0, "mnist_conv": 250.0, "conv": 250.0, "svhn_conv": 150.0}
"""Steps a second of a worker, by architecture; no more than an order of magnitude."""
OTHERS = {"cpu": 5.0, "gpu": 120.0}
FITTED = 150.0
"""Iterations a second of a prior that is fitted to codes."""
FACTOR = 2.5
"""Times as long as others that a FactorVAE's step takes: a second batch and a discriminator."""

Key = tuple[str, ...]


@final
@dataclass(frozen=True)
class Estimate:
    """Seconds of work of each cell, and how many of them rest on a guess."""

    seconds: dict[str, float]
    paced_by: int
    guessed: int

    def total(self, workers: int) -> float:
        """Return the remaining seconds with this number of workers."""
        longest = max(self.seconds.values(), default=0.0)
        return max(sum(self.seconds.values()) / workers, longest)

    @property
    def source(self) -> str:
        """Return in words what the estimate rests on."""
        paces = f"the pace of {self.paced_by} cell{'s' * (self.paced_by != 1)} so far"
        if not self.guessed:
            return f"from {paces}"
        guess = f"a guess for {self.guessed} of {len(self.seconds)} cells"
        return f"{guess}, from {paces} for the others" if self.paced_by else "a mere guess"


def estimate(cells: Sequence[Cell], states: Sequence[State], *, on_gpu: bool) -> Estimate:
    """Return how long the cells that are not done will take.

    Args:
        cells: all cells.
        states: of each cell.
        on_gpu: what to guess for where no cell tells.
    """
    paces = _Medians()
    measuring = _Medians()
    for cell in cells:
        if (pace := _pace(cell)) is not None:
            paces.add(cell, pace)
        measured = read_measured(run_folder(cell))
        if measured is not None and measured.seconds:
            measuring.add(cell, measured.seconds)
    seconds, guessed = {}, 0
    for cell, state in zip(cells, states, strict=True):
        if state.word == "done":
            continue
        pace = paces.of(cell)
        guessed += pace is None
        left = max(0, iterations(cell) - state.iteration)
        afterwards = _fitting(cell) + (measuring.of(cell) or 0.0)
        seconds[cell.name] = left / (pace or _guess(cell, on_gpu=on_gpu)) + afterwards
    return Estimate(seconds, paces.count, guessed)


def _fitting(cell: Cell) -> float:
    """Return the seconds that a guess gives the fit of a prior after training."""
    is_fitted = cell.recipe["fit_prior"] is not None
    return float(cell.recipe["fitting"]["iterations"]) / FITTED if is_fitted else 0.0


def _guess(cell: Cell, *, on_gpu: bool) -> float:
    kind = str(cell.recipe["architecture"]["kind"])
    table = GUESSED_GPU if on_gpu else GUESSED_CPU
    pace = table.get(kind, OTHERS["gpu" if on_gpu else "cpu"])
    return pace / FACTOR if cell.recipe["regularizer"]["kind"] == "factor" else pace


def _pace(cell: Cell) -> float | None:
    """Return the median of the steps per second in the cell's log."""
    paces = [
        pace
        for record in MetricsLog.read(run_folder(cell).metrics_log)
        if isinstance(pace := record.get("steps_per_second"), int | float) and 0 < pace < math.inf
    ]
    return median(paces) if paces else None


@final
class _Medians:
    """Medians of a number over cells that are alike, as alike as there are any."""

    def __init__(self) -> None:
        self.count = 0
        self._numbers: dict[Key, list[float]] = {}

    def add(self, cell: Cell, number: float) -> None:
        """Note a cell's number."""
        self.count += 1
        for key in _likenesses(cell):
            self._numbers.setdefault(key, []).append(number)

    def of(self, cell: Cell) -> float | None:
        """Return the median of the cells that are most alike, or None."""
        for key in _likenesses(cell):
            if key in self._numbers:
                return median(self._numbers[key])
        return None


def _likenesses(cell: Cell) -> Iterator[Key]:
    """Yield what a cell shares with others, the most telling first."""
    architecture, regularizer = (
        str(cell.recipe[section]["kind"]) for section in ("architecture", "regularizer")
    )
    yield "recipe and prior", cell.recipe_name, str(cell.recipe["prior"]["kind"])
    yield "recipe", cell.recipe_name
    yield "networks", architecture, regularizer
    yield "architecture", architecture
