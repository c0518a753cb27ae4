"""The record of a fit, in plain numbers."""

import math
from dataclasses import dataclass
from typing import Any, final

from dpvae_cli.foundation.text import nonfinite_to_none
from dpvae_cli.mathematics.estimates import Estimate


@final
@dataclass(frozen=True)
class FitRecord:
    """The record of a fit. Estimates are measured on the test codes, in nats.

    Args:
        prior: the kind of prior.
        seed: of the fit.
        components: number of encoded examples.
        held_out: how many of them the prior was not trained on.
        iterations: optimizer steps, or iterations of EM.
        best_iteration: the step whose prior was kept.
        nll: -E[log p(z)] with its standard error over test examples.
        baseline: kind of the prior it is compared with.
        baseline_nll: -E[log p(z)] of the baseline.
        gain: E[log p(z)] minus that of the baseline, paired by example.
        seconds: the time the fit took.
        curve: (iteration, validation loss); of EM (components, validation loss).
        spec: the section that the prior is built from, with the number of components that was
            chosen; this and what follows is None in records by older versions.
        reported: number of test codes; the other held-out codes are for validation.
        gaussian_nll: -E[log p(z)] of the Gaussian with the mean and covariance of q(z).
        gaussian_gain: E[log p(z)] minus that of this Gaussian, paired by example.
        given: "label" where the prior was fitted given labels.
        is_improving: whether the last iteration was the best, so that more may help.
        loss: what the curve has: `nll`, -E[log p(z)] in nats; `velocity_error`, the mean squared
            error of a flow's velocities at standardised codes, which has no unit.
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
    given: str | None = None
    loss: str | None = None

    @property
    def is_clear_loss(self) -> bool:
        """Tell whether the prior is worse than the baseline, by three standard errors or more."""
        gain, error = self.gain
        return not gain >= 0 and not gain + 3 * error >= 0  # true of NaN

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; numbers that are not finite become null."""
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
            TypeError: a value has another type.
        """
        estimates = {
            name: Estimate(*map(_number, values[name].values()))
            for name in ESTIMATES
            if name in REQUIRED or values.get(name) is not None
        }
        curve = tuple((int(iteration), _number(loss)) for iteration, loss in values["curve"])
        return cls(**{**values, **estimates, "curve": curve})


def _number(value: Any) -> float:
    """Return a number; JSON has null for numbers that are not finite."""
    return math.inf if value is None else float(value)


REQUIRED = ("nll", "baseline_nll", "gain")
ESTIMATES = (*REQUIRED, "gaussian_nll", "gaussian_gain")
