"""Codes of examples and samples of the prior, encoded and decoded a bounded number at a time.

Low- and high-posterior samples are where the prior and the aggregate posterior disagree (paper,
section 4.1).
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from dpvae_cli.data import Dataset, Split
from dpvae_cli.foundation.array_files import read_cache, write_cache
from dpvae_cli.foundation.distributed import SINGLE_PROCESS, ProcessGroup
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.memory import map_in_chunks
from dpvae_cli.foundation.shapes import Codes, Components, Examples, Indices, PerExample
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.model import VAE
from dpvae_cli.priors import Prior

Rank = Literal["representation", "generation"]
Transform = Callable[[Codes], tuple[Codes, PerExample]]
CHUNK = 65_536

MOST = 1_000
FLOATS = (np.float32, np.float64)
PER_THREAD, IN_ALL = 12 * 2**20, 256 * 2**20
"""Bytes of one activation: what stays in a core's cache, and what all cores or a GPU may take."""
WIDENING = 16
"""Activations of a convolutional net per number of an example (32 channels, RGB)."""


@final
@dataclass(frozen=True)
class LatentSamples:
    """Codes with their log-densities in nats.

    `log_p` is log p(z) with the log-determinant, `log_p_generation` is the log-density of z0, and
    `log_q` the exact log q(z) where it was asked for. A prior without generation space has neither
    z0 nor its density.
    """

    z: Codes
    z0: Codes | None
    log_p: PerExample
    log_p_generation: PerExample | None
    log_q: PerExample | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.z.shape[0]

    def select(self, index: torch.Tensor) -> "LatentSamples":
        """Return the samples at `index`, in its order."""
        tensors = {name: value for name, value in vars(self).items() if value is not None}
        return replace(self, **{name: value[index] for name, value in tensors.items()})

    def with_log_q(self, aggregate: AggregatePosterior) -> "LatentSamples":
        """Return the same samples with the exact log q(z)."""
        return replace(self, log_q=check_log_density(aggregate.log_prob(self.z), "log q(z)"))

    @property
    def base_log_prob(self) -> PerExample:
        """Return the log-density under the base distribution: of z0, or without a z0 of z."""
        return self.log_p if self.log_p_generation is None else self.log_p_generation


@torch.no_grad()
def from_codes(model: VAE, z: Codes) -> LatentSamples:
    """Return codes of the representation space with z0 and their densities under the prior.

    They are rounded to the model's precision first, and returned as rounded.
    """
    z = z.to(model.dtype).to(model.device)
    generation, to_generation = model.prior.generation, model.prior.to_generation
    if generation is None:
        return LatentSamples(z.cpu(), None, log_density(model.prior, z), None)
    z0, log_abs_det = _transform(to_generation, z, "g")
    log_p_generation = log_density(generation, z0)
    log_p = check_log_density(log_p_generation + log_abs_det, "log p(z)")
    return LatentSamples(z.cpu(), z0.cpu(), log_p, log_p_generation)


@torch.no_grad()
def prior_samples(model: VAE, n: int, *, generator: torch.Generator) -> LatentSamples:
    """Draw z0 on the CPU and map it to z = g^-1(z0); without a z0 draw z itself.

    The generator is the CPU's, so that the draws are the same on every device.

    Raises:
        DpvaeError: g^-1 overflowed, which only lifted bounds of the coupling allow.
    """
    generation = model.prior.generation
    if generation is None:
        z = model.prior.sample(n, generator=generator)
        return LatentSamples(_finite(z).cpu(), None, log_density(model.prior, z), None)
    z0, to_representation = generation.sample(n, generator=generator), model.prior.to_representation
    z, log_abs_det = _transform(to_representation, z0, "the inverse of g")
    z = _finite(z).cpu()
    log_p_generation = log_density(generation, z0)
    return LatentSamples(z, z0.cpu(), log_p_generation - log_abs_det, log_p_generation)


def posterior_samples(
    model: VAE, aggregate: AggregatePosterior, n: int, *, generator: torch.Generator
) -> LatentSamples:
    """Draw n points of q(z): a training example at random, then z ~ q(z|x).

    What they decode to is what no prior of this model can improve on.
    """
    drawn = from_codes(model, aggregate.sample(n, generator=generator))
    return drawn.with_log_q(aggregate)


def _transform(g: Transform, z: Codes, what: str) -> tuple[Codes, PerExample]:
    """Return g(z) and, on the CPU, its log-determinant, some rows at a time."""
    parts = map_in_chunks(lambda rows: g(z[rows]), len(z), size=CHUNK, what=what)
    values, log_abs_det = map(torch.cat, zip(*parts, strict=True))
    return values, log_abs_det.cpu()


def log_density(density: Prior, z: Codes) -> PerExample:
    """Return log-densities on the CPU, some rows at a time.

    Raises:
        DpvaeError: some are NaN.
    """
    parts = map_in_chunks(
        lambda rows: density.log_prob(z[rows]).cpu(), len(z), size=CHUNK, what="log-densities"
    )
    return check_log_density(torch.cat(list(parts)), "log p(z)")


def check_log_density(values: Tensor, what: str) -> Tensor:
    """Return log-densities that a metric is computed from.

    Where a density overflows it is -inf, so NaN comes of codes or weights that are NaN.

    Raises:
        DpvaeError: some are NaN.
    """
    if bad := int(torch.isnan(values).sum()):
        raise DpvaeError(
            f"{what} is NaN for {bad} of {values.numel()} codes: the codes or the prior's weights "
            "are not finite",
            hint="Take an earlier checkpoint (--best, checkpoint.previous.pt), or train again with "
            "a smaller training.learning_rate or with training.gradient_clip.",
        )
    return values


def _finite(z: Codes) -> Tensor:
    if bad := int((~torch.isfinite(z).all(dim=1)).sum()):
        raise DpvaeError(
            f"{bad} of {len(z)} samples are not finite: g^-1 overflows",
            hint="Train with prior.scale_bound and prior.translate_bound (not null).",
        )
    return z


def low_posterior(
    model: VAE, aggregate: AggregatePosterior, n: int, *, pool: int, generator: torch.Generator
) -> LatentSamples:
    """Draw `pool` samples of the prior and keep the n with the lowest exact log q(z), lowest first.

    Source: paper, section 4.1; the paper gives no pool size.

    Raises:
        UsageError: the pool is smaller than n.
    """
    _check_pool_size(pool, n)
    drawn = prior_samples(model, pool, generator=generator).with_log_q(aggregate)
    assert drawn.log_q is not None
    return drawn.select(lowest(drawn.log_q, n))


def high_posterior(
    model: VAE,
    aggregate: AggregatePosterior,
    n: int,
    *,
    pool: int,
    generator: torch.Generator,
    rank: Rank = "representation",
) -> LatentSamples:
    """Draw `pool` samples of q(z) and keep the n with the lowest prior density, lowest first.

    Source: paper, section 4.1. `rank="generation"` ranks by log N(g(z); 0, I), as the paper prints;
    the default ranks by log p(z), which has the log-determinant too.

    Raises:
        UsageError: the pool is smaller than n, or the prior has no generation space to rank in.
    """
    _check_pool_size(pool, n)
    if rank == "generation":
        model.prior.require_generation()
    drawn = from_codes(model, aggregate.sample(pool, generator=generator))
    score = drawn.log_p if rank == "representation" else drawn.base_log_prob
    return drawn.select(lowest(score, n)).with_log_q(aggregate)


def lowest(score: PerExample, n: int) -> torch.Tensor:
    """Return the positions of the n lowest scores, lowest first; ties in their order."""
    return torch.sort(score, stable=True).indices[:n]


def _check_pool_size(pool: int, n: int) -> None:
    if pool < n:
        raise UsageError(
            f"a pool of {pool} is too small to keep {n} samples of", hint="Raise --pool."
        )


def batch_size_for(model: VAE) -> int:
    """Return how many examples to encode or decode at once, so that activations stay small.

    A thousand 64x64 RGB images would take a gigabyte and, on a CPU, twice the time.
    """
    room = PER_THREAD * torch.get_num_threads() if model.device.type == "cpu" else IN_ALL
    each = 4 * WIDENING * math.prod(model.example_shape)
    return min(max(1, min(room, IN_ALL) // each), MOST)


@torch.no_grad()
def encode(model: VAE, split: Split, *, size: int | None = None) -> DiagonalGaussian:
    """Return q(z|x) of every example of a split, in order.

    `size` examples are encoded in one go, where memory allows; None leaves it to `batch_size_for`.
    """
    parts = list(
        map_in_chunks(
            lambda rows: model.encode(split.examples(rows).to(model.device, model.dtype)),
            len(split),
            size=size or batch_size_for(model),
            what="encoding",
        )
    )
    return DiagonalGaussian(
        torch.cat([part.mean for part in parts]), torch.cat([part.log_variance for part in parts])
    )


@torch.no_grad()
def decode(model: VAE, z: Codes) -> Examples:
    """Return E[x|z] of each code on the CPU, chunk by chunk."""
    z = z.to(model.device, model.dtype)
    return _in_batches(model, lambda rows: model.decode(z[rows]).cpu(), len(z), "decoding")


def decode_to_data_units(
    model: VAE, z: Codes, *, noise: torch.Generator | None = None
) -> np.ndarray:
    """Return E[x|z] of each code in the units of the training data, or draws x ~ p(x|z).

    `noise` is the generator to draw x with; None returns means.
    """
    if noise is None:
        x = decode(model, z)
    else:
        parts = z.to(model.device, model.dtype).split(batch_size_for(model))
        with torch.no_grad():
            sample = model.likelihood.sample
            draws = [sample(model.decoder(part), generator=noise).cpu() for part in parts]
        x = torch.cat(draws)
    array: np.ndarray = model.units.inverse_transform(x).numpy()
    return array


def reconstruction_arrays(model: VAE, split: Split, n: int) -> dict[str, np.ndarray]:
    """Return the first n examples `x`, the means `z` of q(z|x), and `decoded`, E[x|z].

    `x` and `decoded` are in the units of the training data. Of a split with fewer examples all.
    """
    some = Split(split.stored[:n])
    z = encode(model, some).mean
    return {
        "x": model.units.inverse_transform(some.examples()).numpy(),
        "z": z.cpu().numpy(),
        "decoded": decode_to_data_units(model, z),
    }


def drawable(model: VAE, examples: np.ndarray) -> np.ndarray:
    """Return examples in data units as they are plotted: images as bytes, others as they are."""
    return model.units.to_uint8(examples) if is_image(model.example_shape) else examples


def reconstruction(model: VAE, x: Examples, z: Codes) -> PerExample:
    """Return -log p(x|z) of each pair in nats, chunk by chunk."""
    return _in_batches(
        model, lambda rows: model.reconstruction(x[rows], z[rows]), len(z), "reconstruction"
    )


def _in_batches(model: VAE, compute: Callable[[slice], Tensor], count: int, what: str) -> Tensor:
    parts = map_in_chunks(compute, count, size=batch_size_for(model), what=what)
    return torch.cat(list(parts))


def aggregate_posterior(
    mean: Components, log_variance: Components, *, group: ProcessGroup = SINGLE_PROCESS
) -> AggregatePosterior:
    """Return q(z) over codes; processes share the rows of its log-densities.

    Where memory runs out, fewer rows are evaluated at a time.
    """

    def map_rows(compute: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
        def in_chunks(z: Tensor) -> Tensor:
            size = max(1, len(z))
            parts = map_in_chunks(lambda rows: compute(z[rows]), len(z), size=size, what="log q(z)")
            return torch.cat(list(parts))

        return group.map_sharded(in_chunks, z)

    return AggregatePosterior(mean, log_variance, map_rows=map_rows)


@final
class TrainingEncodings:
    """The training encodings of one checkpoint, from the file beside it or from the data.

    The data is read where the .npz at `path`, if any, does not serve; `key` is the digest of the
    checkpoint that encodings must be of. The processes of a group encode together, and share the
    work on q(z).
    """

    def __init__(
        self,
        model: VAE,
        dataset: Callable[[], Dataset],
        *,
        path: Path | None = None,
        key: str = "",
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self._model, self._dataset = model, dataset
        self._path, self._key, self._group = path, key, group
        self._aggregate: AggregatePosterior | None = None

    def aggregate_posterior(self) -> AggregatePosterior:
        """Return q(z) over all encoded training examples."""
        if self._aggregate is None:
            cached = self._read_cache()
            is_there = self._group.all_true(cached is not None)
            found = cached if cached is not None and is_there else self._compute()
            self._aggregate = aggregate_posterior(*found, group=self._group)
        return self._aggregate

    def _read_cache(self) -> tuple[Tensor, Tensor] | None:
        kept = None if self._path is None else read_cache(self._path, checkpoint=self._key)
        if kept is None or not {"mean", "log_variance"} <= kept.keys():
            return None
        mean, log_variance = kept["mean"], kept["log_variance"]
        if mean.shape != log_variance.shape or mean.shape[1:] != (self._model.latent_dim,):
            return None
        if mean.dtype != log_variance.dtype or mean.dtype not in FLOATS or len(mean) == 0:
            return None
        return torch.from_numpy(mean), torch.from_numpy(log_variance)

    def _compute(self) -> tuple[Tensor, Tensor]:
        dataset = self._dataset()
        split = dataset.train

        def encode_rows(rows: Indices) -> Tensor:
            """Return means and log-variances of successive examples, `(rows, 2, latent)`."""
            posterior = encode(self._model, split.subset(slice(int(rows[0]), int(rows[-1]) + 1)))
            return torch.stack([posterior.mean, posterior.log_variance], dim=1).cpu()

        moments = self._group.map_sharded(encode_rows, torch.arange(len(split)))
        mean, log_variance = (part.contiguous() for part in moments.unbind(1))
        if self._path is not None and self._group.is_main_process and not dataset.is_changed:
            arrays = {"mean": mean.numpy(), "log_variance": log_variance.numpy()}
            with suppress(UsageError):  # a cache that cannot be written costs time, no result
                write_cache(self._path, arrays, checkpoint=self._key)
        return mean, log_variance
