"""The codes of a VAE as a prior is fitted to them: some to learn from, some to be judged by."""

import math
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.files import read_npz
from dpvae_cli.foundation.memory import in_parts
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.shapes import Components, PerExample
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.priors import Prior

FEWEST = 20
"""Codes below which there is nothing to fit and to hold out."""
POINTS = 10_000
"""Draws that a prior is judged by, about so many: more of each code where codes are few."""
AT_ONCE = 8_192
LAYOUT = "An .npz as dpvae encode writes it: mean and log_variance, (examples, latent) each."


def read_codes(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Return mean and log-variance from an .npz; without log_variance codes are points.

    Raises:
        MissingError: the file is not there.
        UsageError: it is no .npz of numbers, or has no `mean`.
    """
    try:
        arrays = read_npz(path)
    except FileNotFoundError as error:
        raise MissingError(f"there are no codes at {path}", hint=LAYOUT) from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as .npz: {error}", hint=LAYOUT) from error
    if "mean" not in arrays:
        named = ", ".join(arrays) or "nothing"
        raise UsageError(f"{path} holds {named}, and no array `mean`", hint=LAYOUT)
    return arrays["mean"], arrays.get("log_variance")


def checked(mean: Any, log_variance: Any | None) -> tuple[Components, Components | None]:
    """Return codes as tensors of one floating type.

    Raises:
        UsageError: they are no finite numbers, of another shape than codes, or too few.
    """
    means = _numbers("mean", mean)
    if log_variance is None:
        return means, None
    others = _numbers("log_variance", log_variance).to(means.dtype).to(means.device)
    if others.shape != means.shape:
        raise UsageError(
            f"log_variance has shape {tuple(others.shape)}, mean {tuple(means.shape)}", hint=LAYOUT
        )
    return means, others


def _numbers(name: str, given: Any) -> Tensor:
    """Return a matrix of floating-point numbers; float32 where it was of no such type."""
    if not isinstance(given, Tensor):
        array = np.asarray(given)
        if array.dtype.kind not in "uif":
            raise UsageError(f"{name} has type {array.dtype}, numbers are expected", hint=LAYOUT)
        given = torch.from_numpy(array.astype(np.float64 if array.itemsize > 4 else np.float32))
    values: Tensor = given.detach()
    values = values if values.is_floating_point() else values.float()
    if values.ndim != 2 or 0 in values.shape:
        raise UsageError(
            f"{name} has shape {tuple(values.shape)}, (examples, latent) is expected", hint=LAYOUT
        )
    if len(values) < FEWEST:
        raise UsageError(f"{len(values)} codes are too few to fit a prior to; {FEWEST} or more are")
    if bad := int((~torch.isfinite(values).all(dim=1)).sum()):
        raise UsageError(f"{bad} of {len(values)} rows of {name} have values that are not finite")
    return values


@final
class HeldOut:
    """Codes that a prior is judged by: the same draws of each q(z|x) every time.

    Args:
        mean: of the held-out examples, `(components, latent)`.
        log_variance: None for codes that are points.
        generator: a CPU generator.
    """

    def __init__(
        self, mean: Components, log_variance: Components | None, *, generator: torch.Generator
    ) -> None:
        self._draws = 1
        self.z = mean
        if log_variance is not None:
            self._draws = max(1, math.ceil(POINTS / len(mean)))
            shape = (self._draws, *mean.shape)
            noise = torch.randn(shape, generator=generator, dtype=torch.float64)
            deviation = torch.exp(0.5 * log_variance)
            self.z = (mean + deviation * noise.to(mean)).flatten(0, 1)

    @torch.no_grad()
    def nll(self, prior: Prior) -> PerExample:
        """Return -E[log p(z)] under q(z|x) of each held-out example, in nats, float64."""
        parts = in_parts(
            lambda rows: prior.log_prob(self.z[rows]).double(),
            len(self.z),
            size=AT_ONCE,
            what="log p(z)",
        )
        return -torch.cat(list(parts)).view(self._draws, -1).mean(dim=0)


@final
class Codes:
    """Codes dealt at random into those that a prior learns from and those it is judged by.

    Args:
        mean: encoder means, `(components, latent)`.
        log_variance: None for codes that are points.
        held_out: share of the codes that is held out.
        seed: of the deal and of all draws.
    """

    def __init__(
        self, mean: Components, log_variance: Components | None, *, held_out: float, seed: int
    ) -> None:
        count = min(max(2, round(held_out * len(mean))), len(mean) - 2)
        order = torch.randperm(len(mean), generator=stream(seed, "fit", "deal")).to(mean.device)
        held, kept = order[:count], order[count:]
        self._seed, self._like = seed, mean
        # a point is drawn without noise: exp(-inf / 2) = 0
        points = torch.full_like(mean, -math.inf)
        spread = points if log_variance is None else log_variance
        self._learned_from = AggregatePosterior(mean[kept].cpu(), spread[kept].cpu())
        self.held_out_examples = count
        self.held_out = HeldOut(
            mean[held],
            None if log_variance is None else log_variance[held],
            generator=stream(seed, "fit", "held out"),
        )

    def batch(self, iteration: int, size: int) -> Tensor:
        """Return fresh draws of q(z) over the codes to learn from, `(size, latent)`."""
        generator = stream(self._seed, "fit", iteration)
        return self._learned_from.sample(size, generator=generator).to(self._like)
