"""Encode and decode a bounded number at a time; keep encodings beside the checkpoint."""

import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from dpvae_cli.data import Dataset, Split
from dpvae_cli.foundation.distributed import SINGLE_PROCESS, ProcessGroup
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.files import read_cache, write_cache
from dpvae_cli.foundation.memory import map_in_chunks
from dpvae_cli.foundation.shapes import Codes, Components, Examples, Indices, PerExample
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.model import VAE

MOST = 1_000
FLOATS = (np.float32, np.float64)
PER_THREAD, IN_ALL = 12 * 2**20, 256 * 2**20
"""Bytes of one activation: what stays in a core's cache, and what all cores or a GPU may take."""
WIDENING = 16
"""Activations of a convolutional net per number of an example (32 channels, RGB)."""


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

    def part(rows: slice) -> DiagonalGaussian:
        return model.encode(split.examples(rows).to(model.device, model.dtype))

    size = size or batch_size_for(model)
    parts = list(map_in_chunks(part, len(split), size=size, what="encoding"))
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
