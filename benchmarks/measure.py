"""The method of all benchmarks: interleaved variants, one ratio per round, the median over rounds.

A variant does its work once and returns a value: seconds per unit of work, or MiB. In each round
every variant has a turn, in alternating order, so that other load on the machine affects all of
them alike; a turn before the first round warms them up and does not count. Ratios are computed
within a round, never between medians of different rounds.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch

Round = Mapping[str, float]
Variant = Callable[[], float]


@final
@dataclass(frozen=True)
class Absent:
    """A variant that is not available, and why."""

    reason: str


@final
@dataclass(frozen=True)
class Options:
    """The options of the command line, common to all variants."""

    rounds: int
    threads: int
    device: torch.device
    quick: bool

    def pick(self, full, quick):
        """Return the full size, or the small one with `--quick`."""
        return quick if self.quick else full


@final
@dataclass(frozen=True)
class Ratio:
    """A value per round, and the target of its median; without a target it is only reported."""

    what: str
    of: Callable[[Round], float]
    at_most: float | None = None
    at_least: float | None = None
    unit: str = ""

    @property
    def target(self) -> str:
        """Return the target as text."""
        for words, limit in (("at most", self.at_most), ("at least", self.at_least)):
            if limit is not None:
                return f"{words} {limit:g} {self.unit}".rstrip()
        return "-"

    def met(self, median: float) -> bool | None:
        """Return whether a median meets the target; None if there is no target."""
        if self.at_most is not None:
            return median <= self.at_most
        return None if self.at_least is None else median >= self.at_least


def over(top: str, *bottoms: str) -> Callable[[Round], float]:
    """Return the ratio of one variant to another, or to the best of several."""
    return lambda values: values[top] / min(values[bottom] for bottom in bottoms)


def alone(name: str) -> Callable[[Round], float]:
    """Return the value of one variant."""
    return lambda values: values[name]


@final
@dataclass(frozen=True)
class Trial:
    """Variants that are measured together, the unit of their values, and further facts."""

    name: str
    variants: Mapping[str, Variant | Absent]
    unit: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    warm_up: bool = True


def timed(work: Callable[[], object], *, units: float = 1, device: torch.device) -> Variant:
    """Return a variant that runs `work`, which has `units` units, and returns seconds per unit."""

    def seconds() -> float:
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        return (time.perf_counter() - start) / units

    return seconds


def repeated(step: Callable[[], object], times: int, device: torch.device) -> Variant:
    """Return a variant that runs `step` `times` times and returns seconds per step."""
    return timed(lambda: [step() for _ in range(times)][-1], units=times, device=device)


def synchronise(device: torch.device) -> None:
    """Wait for pending work of an accelerator."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def play(trial: Trial, ratios: Sequence[Ratio], rounds: int) -> dict[str, Any]:
    """Return the value of every variant in every round, and the ratios."""
    turns = {k: each for k, each in trial.variants.items() if not isinstance(each, Absent)}
    if trial.warm_up:
        for turn in turns.values():
            turn()
    played: list[dict[str, float]] = []
    for number in range(rounds):
        order = list(turns) if number % 2 == 0 else list(reversed(turns))
        played.append({name: turns[name]() for name in order})
    absent = {k: each.reason for k, each in trial.variants.items() if isinstance(each, Absent)}
    return {
        "name": trial.name,
        "unit": trial.unit,
        "contestants": {name: [values[name] for values in played] for name in turns},
        "absent": absent,
        "ratios": [_evaluated(ratio, played, absent) for ratio in ratios],
        "facts": dict(trial.facts),
    }


def _evaluated(ratio: Ratio, played: Sequence[Round], absent: Mapping[str, str]) -> dict[str, Any]:
    """Return the value of a ratio in every round; empty if one of its variants is not available."""
    record: dict[str, Any] = {
        "what": ratio.what,
        "target": ratio.target,
        "unit": ratio.unit,
        "at_most": ratio.at_most,
        "at_least": ratio.at_least,
    }
    try:
        values = [ratio.of(round_) for round_ in played]
    except KeyError as missing:
        name = missing.args[0]
        return record | {"values": [], "median": None, "met": None, "absent": absent[name]}
    median = statistics.median(values)
    return record | {"values": values, "median": median, "met": ratio.met(median)}
