"""The codes of a VAE, split into training, validation and test codes for fitting a prior."""

import math
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dpvae_cli.foundation.array_files import is_whole, read_arrays, read_headers
from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.memory import map_in_chunks
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.shapes import CodeLabels, Codes, Components, FactorValues, PerExample
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.priors import Prior
from dpvae_cli.priors.class_conditional import check_label_count

R = TypeVar("R")
MIN_CODES = 20
"""Fewer codes are not enough to fit a prior and to hold some out."""
MIN_DRAWS = 10_000
"""Draws of the held-out codes: several of each code where codes are few."""
CHUNK_SIZE = 8_192
MAX_SPATIAL = 512
"""Numbers of a spatial code, channels by places, that are flattened."""
CODES = ("mean", "log_variance")
LABELS = ("label", "labels")
SPREAD_SUFFIXES = ("var", "variance", "variances", "std", "stddev", "sigma", "scale")
"""How names of variances, standard deviations and their logarithms end."""
LAYOUT = "Save mean and log_variance, each (examples, latent), as dpvae encode does: in an .npz."


def read_codes(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Return mean and log-variance from an .npz; without log_variance codes are points.

    No other arrays are read.

    Raises:
        MissingError: there is no such file.
        UsageError: it is not an .npz of numbers, has no `mean`, or has log-variances under another
            name.
    """
    names = _read_npz(path, read_headers)
    if "mean" not in names:
        raise UsageError(f"{path} holds {', '.join(names)}, and no array `mean`", hint=LAYOUT)
    if "log_variance" not in names:
        for name in names:
            if re.sub("[^a-z]", "", name.lower()).endswith(SPREAD_SUFFIXES):
                raise UsageError(
                    f"{path} has no log_variance; the array {name} would not be used",
                    hint="Save the logarithms of the variances as log_variance, or leave it out: "
                    "codes without log_variance are points.",
                )
    arrays = _read_npz(
        path, lambda file: read_arrays(file, [name for name in CODES if name in names])
    )
    return arrays["mean"], arrays.get("log_variance")


@final
class LabelledCodes(NamedTuple):
    """Codes of any VAE, with what is known of the examples: labels and factors, as integers."""

    mean: Components
    log_variance: Components | None
    labels: Tensor | None
    factors: FactorValues | None


def read_labelled_codes(path: Path) -> LabelledCodes:
    """Return the codes of an .npz, with `labels` (or `label`) and `factors` where it has them.

    Raises:
        MissingError: there is no such file.
        UsageError: it holds something else, or not as many labels or factors as codes.
    """
    mean, log_variance = validate_codes(*read_codes(path))
    names = _read_npz(path, read_headers)
    given = [name for name in (*LABELS, "factors") if name in names]
    integers = {
        name: _integers(path, name, array, len(mean))
        for name, array in _read_npz(path, lambda file: read_arrays(file, given)).items()
    }
    labels = next((integers[name] for name in LABELS if name in integers), None)
    factors = integers.get("factors")
    if factors is not None and factors.ndim == 1:
        factors = factors.unsqueeze(1)
    return LabelledCodes(mean, log_variance, labels, factors)


def _integers(path: Path, name: str, array: np.ndarray, count: int) -> Tensor:
    """Return labels or factors, `(examples,)` or `(examples, several)`."""
    if not is_whole(array) or array.ndim not in (1, 2) or len(array) != count or 0 in array.shape:
        raise UsageError(
            f"{path}: {name} has shape {array.shape} and type {array.dtype}; whole numbers are "
            f"expected, a row for each of {count:,} codes",
            hint="Number the classes and the values of factors from 0.",
        )
    return torch.from_numpy(array.astype(np.int64))


def unused_arrays(path: Path, used: Collection[str] = CODES) -> list[str]:
    """Return the arrays of a file of codes that are not among those used."""
    return [name for name in _read_npz(path, read_headers) if name not in used]


def _read_npz(path: Path, read: Callable[[Path], R]) -> R:
    try:
        return read(path)
    except FileNotFoundError:
        raise MissingError(f"there are no codes at {path}", hint=LAYOUT) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as .npz: {error}", hint=LAYOUT) from None


def validate_codes(mean: Any, log_variance: Any | None) -> tuple[Components, Components | None]:
    """Return codes as tensors of one floating type.

    Raises:
        UsageError: they are not finite matrices of the same shape, or too few.
    """
    means = _matrix("mean", mean)
    if log_variance is None:
        return means, None
    others = _matrix("log_variance", log_variance).to(means.dtype).to(means.device)
    if others.shape != means.shape:
        raise UsageError(
            f"log_variance has shape {tuple(others.shape)}, mean {tuple(means.shape)}; they must "
            "be equal",
            hint=LAYOUT,
        )
    return means, others


def _matrix(name: str, given: Any) -> Tensor:
    """Return a floating-point matrix; other types become float64."""
    if not isinstance(given, Tensor):
        array = np.asarray(given)
        if array.dtype.kind not in "uif":
            raise UsageError(f"{name} has type {array.dtype}, numbers are expected", hint=LAYOUT)
        is_single = array.dtype.kind == "f" and array.itemsize <= 4
        given = torch.from_numpy(array.astype(np.float32 if is_single else np.float64))
    values: Tensor = given.detach()
    values = values if values.is_floating_point() else values.double()
    if values.ndim > 2 and 0 not in values.shape:
        values = _flatten(name, values)
    if values.ndim != 2 or 0 in values.shape:
        raise UsageError(
            f"{name} has shape {tuple(values.shape)}, (examples, latent) is expected", hint=LAYOUT
        )
    if len(values) < MIN_CODES:
        raise UsageError(
            f"{len(values)} codes are too few, at least {MIN_CODES} are needed",
            hint="Encode more examples.",
        )
    if bad := int((~torch.isfinite(values).all(dim=1)).sum()):
        raise UsageError(
            f"{bad} of {len(values)} rows of {name} have values that are not finite",
            hint="Remove the rows with NaN or infinity, or encode these examples again.",
        )
    return values


def validate_labels(labels: Any, examples: int) -> CodeLabels:
    """Return labels as whole numbers, one for each code.

    Raises:
        UsageError: there are others, or too many different ones.
    """
    given = labels if isinstance(labels, Tensor) else torch.as_tensor(np.asarray(labels))
    hint = "Each example needs one label, a whole number."
    if given.shape != (examples,):
        raise UsageError(
            f"labels have shape {tuple(given.shape)}, and {examples} codes need ({examples},)",
            hint=hint,
        )
    if given.is_floating_point() or given.is_complex():
        raise UsageError(f"labels have type {given.dtype}, whole numbers are expected", hint=hint)
    check_label_count(len(given.unique()))
    return given.detach().long()


def _flatten(name: str, values: Tensor) -> Tensor:
    """Return spatial codes, such as (examples, channels, height, width), as rows."""
    if (size := math.prod(values.shape[1:])) > MAX_SPATIAL:
        raise UsageError(
            f"{name} has shape {tuple(values.shape)}: {size:,} numbers a code, and no prior can be "
            f"told from so few codes in more than {MAX_SPATIAL} dimensions",
            hint="Average over height and width (mean(axis=(2, 3))), or encode smaller examples.",
        )
    return values.flatten(1)


@final
class HeldOutCodes:
    """Held-out codes to evaluate priors on: every prior gets the same draws of each q(z|x).

    Args:
        mean: of the held-out examples, `(components, latent)`.
        log_variance: None for codes that are points.
        generator: a CPU generator.
        labels: of the held-out examples, where priors are given them.
    """

    def __init__(
        self,
        mean: Components,
        log_variance: Components | None,
        *,
        generator: torch.Generator,
        labels: CodeLabels | None = None,
    ) -> None:
        self._draws = 1
        self.z = mean
        if log_variance is not None:
            self._draws = max(1, math.ceil(MIN_DRAWS / len(mean)))
            shape = (self._draws, *mean.shape)
            noise = torch.randn(shape, generator=generator, dtype=torch.float64)
            deviation = torch.exp(0.5 * log_variance)
            self.z = (mean + deviation * noise.to(mean)).flatten(0, 1)
        self._labels = None if labels is None else labels.repeat(self._draws)

    def __len__(self) -> int:
        """Return how many examples there are."""
        return len(self.z) // self._draws

    @torch.no_grad()
    def loss(self, prior: Prior) -> float:
        """Return the mean loss of a fit, with the same noise every time: for most -E[log p(z)]."""
        parts = map_in_chunks(
            lambda rows: prior.fitting_loss(
                self.z[rows],
                labels=None if self._labels is None else self._labels[rows],
                generator=stream(0, "fit", "validation", rows.start),
            ).double(),
            len(self.z),
            size=CHUNK_SIZE,
            what="the loss of a fit",
        )
        return float(torch.cat(list(parts)).mean())

    @torch.no_grad()
    def nll(self, prior: Prior) -> PerExample:
        """Return -E[log p(z)] under q(z|x) of each held-out example, in nats, float64."""
        parts = map_in_chunks(
            lambda rows: prior.log_prob(self.z[rows]).double(),
            len(self.z),
            size=CHUNK_SIZE,
            what="log p(z)",
        )
        return -torch.cat(list(parts)).view(self._draws, -1).mean(dim=0)


@final
class CodeSplits:
    """Codes split at random: to train a prior on, to choose it by (validation), and to test it.

    Half of the codes held out are for validation, the other half is the test set.

    Args:
        mean: encoder means, `(components, latent)`.
        log_variance: None for codes that are points.
        held_out: share of the codes that no prior is trained on.
        seed: of the split and of all draws.
        labels: of the examples, where priors are given them.
    """

    def __init__(
        self,
        mean: Components,
        log_variance: Components | None,
        *,
        held_out: float,
        seed: int,
        labels: CodeLabels | None = None,
    ) -> None:
        self._seed, self._like, self._are_points = seed, mean, log_variance is None
        held = min(max(4, round(held_out * len(mean))), len(mean) - 2)
        order = torch.randperm(len(mean), generator=stream(seed, "fit", "deal")).to(mean.device)
        train = order[held:]
        # a point is drawn without noise: exp(-inf / 2) = 0
        points = torch.full_like(mean, -math.inf)
        spread = points if log_variance is None else log_variance
        self.training = AggregatePosterior(mean[train].cpu(), spread[train].cpu())
        self._labels = None if labels is None else labels[train].cpu()
        self.validation, self.test = (
            HeldOutCodes(
                mean[rows],
                None if log_variance is None else log_variance[rows],
                generator=stream(seed, "fit", name),
                labels=None if labels is None else labels[rows],
            )
            for name, rows in (("choose", order[held // 2 : held]), ("report", order[: held // 2]))
        )

    def batch(self, iteration: int, size: int) -> tuple[Codes, CodeLabels | None]:
        """Return fresh draws of q(z) over the training codes, with their labels if known."""
        generator = stream(self._seed, "fit", iteration)
        z, chosen = self.training.sample_with_components(size, generator=generator)
        labels = None if self._labels is None else self._labels[chosen].to(self._like.device)
        return z.to(self._like), labels

    def label_weights(self) -> tuple[list[int], Tensor]:
        """Return the labels of the training codes and the share of each."""
        assert self._labels is not None
        values, counts = self._labels.unique(return_counts=True)
        return values.tolist(), (counts / counts.sum()).to(self._like)

    def noise(self, iteration: int) -> torch.Generator:
        """Return the generator of what else an iteration draws."""
        return stream(self._seed, "fit", "noise", iteration)

    def draws(self, count: int, generator: torch.Generator) -> Float[Tensor, "draws latent"]:
        """Return `count` draws of q(z) over the training codes; points are returned once each."""
        if self._are_points:
            return self.training.mean
        return self.training.sample(count, generator=generator)

    def standardization(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of q(z) over the training codes, `(latent,)` each.

        A constant dimension gets the largest deviation of all, or 1.

        Raises:
            UsageError: a deviation is not finite.
        """
        mean, covariance = self.training.moments()
        deviation = covariance.diagonal().sqrt()
        rounding = torch.finfo(self._like.dtype).eps * mean.abs()
        largest = deviation.max() if bool((deviation > rounding).any()) else deviation.new_ones(())
        deviation = torch.where(deviation > rounding, deviation, largest).to(self._like)
        if not bool(torch.isfinite(deviation).all()):
            raise UsageError("the variances exp(log_variance) are too large to be numbers")
        return mean.to(self._like), deviation
