"""How a fit went, in plain numbers."""

import math
from dataclasses import dataclass
from typing import Any, final

from dpvae_cli.foundation.results import finite
from dpvae_cli.mathematics.estimates import Estimate


@final
@dataclass(frozen=True)
class FitRecord:
    """What is to be said of a fitted prior; everything is measured on held-out codes, in nats.

    Args:
        prior: its kind.
        seed: of the fit.
        components: how many encoded examples there were.
        held_out: how many of them were held out.
        iterations: optimizer steps done.
        best_iteration: the step of the prior that was kept.
        nll: -E[log p(z)], its standard error over held-out examples.
        baseline: kind of the prior compared with.
        baseline_nll: the same of it.
        gain: E[log p(z)] more than under the baseline, paired by example.
        seconds: it took.
        curve: (iteration, held-out -E[log p(z)]).
    """

    prior: str
    seed: int
    components: int
    held_out: int
    iterations: int
    best_iteration: int
    nll: Estimate
    baseline: str
    baseline_nll: Estimate
    gain: Estimate
    seconds: float
    curve: tuple[tuple[int, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON; numbers that are not finite become null."""
        estimates = {name: getattr(self, name)._asdict() for name in ESTIMATES}
        plain = {**vars(self), **estimates, "curve": [list(point) for point in self.curve]}
        return {name: finite(value) for name, value in plain.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FitRecord":
        """Return what `to_dict` wrote.

        Raises:
            KeyError: something is missing.
            TypeError: something is no record's.
        """
        estimates = {name: Estimate(*map(_number, values[name].values())) for name in ESTIMATES}
        curve = tuple((int(iteration), _number(nll)) for iteration, nll in values["curve"])
        return cls(**{**values, **estimates, "curve": curve})


def _number(value: Any) -> float:
    """Return a number; JSON has none that is not finite, and says null."""
    return math.inf if value is None else float(value)


ESTIMATES = ("nll", "baseline_nll", "gain")
