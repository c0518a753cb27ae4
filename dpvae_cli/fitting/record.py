"""How a fit went, in plain numbers."""

import math
from dataclasses import dataclass
from typing import Any, final

from dpvae_cli.foundation.results import nonfinite_to_none
from dpvae_cli.mathematics.estimates import Estimate


@final
@dataclass(frozen=True)
class FitRecord:
    """How a fit went. What is estimated is measured on reported codes, in nats.

    Args:
        prior: its kind.
        seed: of the fit.
        components: how many encoded examples there were.
        held_out: how many of them nothing was learned from.
        iterations: optimizer steps done, or of EM.
        best_iteration: the step of the prior that was kept.
        nll: -E[log p(z)], its standard error over reported examples.
        baseline: kind of the prior compared with.
        baseline_nll: the same of it.
        gain: E[log p(z)] more than under the baseline, paired by example.
        seconds: it took.
        curve: (iteration, -E[log p(z)] on the codes that choose); by EM (components, the same).
        spec: the section that the prior is built from, components chosen; these and what follows
            are None where an older dpvae wrote the record.
        reported: how many held-out codes are measured on; the others chose.
        gaussian_nll: -E[log p(z)] of the Gaussian with the mean and covariance of q(z).
        gaussian_gain: E[log p(z)] more than under that Gaussian, paired by example.
        is_improving: whether the last iteration was the best, so that more might gain.
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
    spec: dict[str, Any] | None = None
    reported: int | None = None
    gaussian_nll: Estimate | None = None
    gaussian_gain: Estimate | None = None
    is_improving: bool | None = None

    @property
    def is_clear_loss(self) -> bool:
        """Tell whether the prior is worse than the baseline, by three standard errors or more."""
        gain, error = self.gain
        return not gain >= 0 and not gain + 3 * error >= 0  # true of NaN

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON; numbers that are not finite become null."""
        plain = vars(self) | {"curve": [list(point) for point in self.curve]}
        for name in ESTIMATES:
            if plain[name] is not None:
                plain[name] = plain[name]._asdict()
        return {name: nonfinite_to_none(value) for name, value in plain.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FitRecord":
        """Return what `to_dict` wrote.

        Raises:
            KeyError: something is missing.
            TypeError: something is no record's.
        """
        estimates = {
            name: Estimate(*map(_number, values[name].values()))
            for name in ESTIMATES
            if name in REQUIRED or values.get(name) is not None
        }
        curve = tuple((int(iteration), _number(nll)) for iteration, nll in values["curve"])
        return cls(**{**values, **estimates, "curve": curve})


def _number(value: Any) -> float:
    """Return a number; JSON has none that is not finite, and says null."""
    return math.inf if value is None else float(value)


REQUIRED = ("nll", "baseline_nll", "gain")
ESTIMATES = (*REQUIRED, "gaussian_nll", "gaussian_gain")
