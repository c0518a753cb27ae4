"""A fitted prior without its model: the record of its fit, and its file for other libraries."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from pydantic import TypeAdapter

from dpvae_cli.foundation.devices import shape_mismatch
from dpvae_cli.foundation.errors import CheckpointError, UsageError
from dpvae_cli.foundation.serialization import (
    MALFORMED_ERRORS,
    FileFormat,
    expect_count,
    expect_type,
)
from dpvae_cli.foundation.text import nonfinite_to_none
from dpvae_cli.mathematics.estimates import Estimate
from dpvae_cli.priors import LearnedPrior, Prior
from dpvae_cli.priors.base import PriorSpec
from dpvae_cli.priors.class_conditional import build_saved_prior

FORMAT = FileFormat(
    format="dpvae-prior",
    version=3,
    noun="prior",
    make="Fit one first: dpvae fit-prior --codes codes.npz.",
    again="Fit it again, or name another prior file.",
)


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


def write_prior(path: Path, prior: Prior, record: FitRecord) -> None:
    """Write a prior with its record atomically.

    Raises:
        UsageError: the prior needs an encoder or has no spec, or the file cannot be written.
    """
    spec = prior.spec
    if spec is None or spec.needs_encoder:
        what = type(prior).__name__ if spec is None else f"{spec.kind} prior"
        raise UsageError(
            f"a {what} cannot be saved in a file of its own",
            hint="Fit another kind, such as decoupled, spline or mixture.",
        )
    meta = {
        "prior": spec.model_dump(mode="json", by_alias=True),
        "latent_dim": prior.latent_dim,
        "record": record.to_dict(),
    }
    FORMAT.write(path, meta, prior.state_dict())


def check_is_prior_file(path: Path) -> None:
    """Check that a file is a prior file: nothing else is ever replaced.

    Raises:
        UsageError: it is not a prior file.
    """
    try:
        FORMAT.read(path)
    except CheckpointError as error:
        raise UsageError(
            f"{path} is not a prior file; --overwrite replaces only those",
            hint="Move it away, or name another --out.",
        ) from error


def read_prior(path: Path) -> tuple[Prior, FitRecord]:
    """Return the prior of a file, in evaluation mode, and its record, without running any code.

    Raises:
        CheckpointError: missing, corrupt, of another format, or of a newer version.
    """
    meta, tensors, _ = FORMAT.read(path)
    try:
        spec: PriorSpec = TypeAdapter[Any](LearnedPrior).validate_python(meta["prior"])
        record = FitRecord.from_dict(expect_type(dict, meta["record"]))
        latent_dim = expect_count(meta["latent_dim"])
        if not 1 <= latent_dim <= sum(tensor.numel() for tensor in tensors.values()):
            raise ValueError(f"a prior in {latent_dim} dimensions has other weights")

        def make() -> Prior:
            return build_saved_prior(spec, tensors, latent_dim)

        if (mismatch := shape_mismatch(make, tensors)) is not None:
            raise CheckpointError(
                f"{path}: its weights are not those of its prior: {mismatch}", hint=FORMAT.again
            )
        prior = make()
    except (*MALFORMED_ERRORS, UsageError) as error:
        raise FORMAT.wrong_format(path) from error
    types = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(types) == 1:
        prior = prior.to(types.pop())
    try:
        prior.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its weights are not those of its prior: {error}", hint=FORMAT.again
        ) from error
    return prior.eval(), record
