"""A data set in memory: three explicit splits, stored compactly, prepared batch by batch."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Literal, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.shapes import (
    Examples,
    FactorValues,
    Indices,
    LocalExamples,
    PerExample,
    StoredExamples,
)

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
MAX_DIGEST_BYTES = 2**28
"""Bytes of examples that a digest reads at most, about."""

PIXEL_RANGES = ((0.0, 1.0), (-0.5, 0.5), (-1.0, 1.0), (0.0, 255.0))
"""The usual values of black and white, the narrowest first."""
HALF_OF_EIGHT_BITS = 127
ROUND_OFF = 1e-5
"""Share of a range by which values may lie outside: they were standardized in float32."""


@final
class Standardization(NamedTuple):
    """Mean and deviation of every entry of the training examples: float64, shaped as an example."""

    mean: Tensor
    deviation: Tensor

    def transform(self, x: Tensor) -> Examples:
        """Return examples in the data's own units as the model sees them."""
        return ((x.double().cpu() - self.mean) / self.deviation).float()

    def inverse_transform(self, x: Tensor) -> Tensor:
        """Return what the model sees in the data's own units, float64 on the CPU."""
        return x.double().cpu() * self.deviation + self.mean


@final
@dataclass(frozen=True, eq=False)
class Units:
    """What is known of the units of a model's training data.

    Args:
        standardization: what `data.scale: standardize` did; None where values are as they were.
        value_range: lowest and highest training value in the data's own units; None: not known.
        columns: names of the entries of an example, where the data has any.
    """

    standardization: Standardization | None = None
    value_range: tuple[float, float] | None = None
    columns: tuple[str, ...] = ()

    def transform(self, x: Tensor) -> Tensor:
        """Return examples in the data's own units as the model sees them."""
        return x if self.standardization is None else self.standardization.transform(x)

    def inverse_transform(self, x: Tensor) -> Tensor:
        """Return decoded examples in the data's own units."""
        return x if self.standardization is None else self.standardization.inverse_transform(x)

    @property
    def pixel_range(self) -> tuple[float, float]:
        """Return black and white: the first of `PIXEL_RANGES` that holds the data, else its own.

        Data that stays below half of 255 is not of 8 bits. Where nothing is known it is [0, 1].
        """
        low, high = self.value_range or PIXEL_RANGES[0]
        for black, white in PIXEL_RANGES:
            slack = ROUND_OFF * (white - black)
            is_within = black - slack <= low and high <= white + slack
            if is_within and (white <= 1 or high > HALF_OF_EIGHT_BITS):
                return black, white
        return (low, high) if low < high else PIXEL_RANGES[0]

    @property
    def is_image_range(self) -> bool:
        """Tell whether black and white are usual ones."""
        return self.pixel_range in PIXEL_RANGES

    def to_unit_interval(self, images: Tensor) -> Tensor:
        """Return images in the data's own units with black as 0 and white as 1."""
        low, high = self.pixel_range
        return images if (low, high) == (0, 1) else (images - low) / (high - low)

    def to_uint8(self, images: np.ndarray) -> np.ndarray:
        """Return images in the data's own units as bytes, clipped at black and white."""
        low, high = self.pixel_range
        scaled = (np.nan_to_num(images, nan=low) - low) / (high - low)
        in_bytes: np.ndarray = np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
        return in_bytes


@final
class GenerativeFactor(NamedTuple):
    """A factor of variation; `is_ordered` tells that its values stand in an order, as sizes do."""

    name: str
    is_ordered: bool


@final
@dataclass(frozen=True)
class Split:
    """Examples as stored: uint8 stands for [0, 1] in steps of 1/255, float32 for itself.

    `binarize_from` holds the grey images of a dynamically binarised split: training batches draw
    their zeros and ones from it anew each time, everything else reads the fixed draw in `stored`.
    `factors` are what each example was made from, where that is known.
    """

    stored: StoredExamples
    labels: Tensor | None = None
    binarize_from: StoredExamples | None = None
    factors: FactorValues | None = None

    def __len__(self) -> int:
        """Return the number of examples."""
        return self.stored.shape[0]

    def examples(self, index: Indices | slice = slice(None)) -> Examples:
        """Return examples as the model sees them, the same at every call."""
        stored = self.stored[index]
        return stored.to(torch.float32) / 255 if stored.dtype == torch.uint8 else stored

    def training_batch(
        self, index: Indices, generator: torch.Generator, *, rows: slice = slice(None)
    ) -> LocalExamples:
        """Return some rows of a training batch; `generator` draws dynamic binarisation of all."""
        if self.binarize_from is None:
            return self.examples(index[rows])
        grey = Split(self.binarize_from).examples(index)
        return torch.bernoulli(grey, generator=generator)[rows]

    def digest(self) -> str:
        """Return a digest of examples, labels and factors; of many, evenly spaced ones are read."""
        every = 1 + self.stored.nbytes // MAX_DIGEST_BYTES
        digest = hashlib.sha256(repr(tuple(self.stored.shape)).encode())
        for tensor in (self.stored[::every], self.labels, self.factors):
            if tensor is not None:
                values = tensor.contiguous().cpu().numpy()
                digest.update(repr((values.shape, values.dtype.str)).encode())
                digest.update(values.data)
        return digest.hexdigest()

    def subset(self, rows: Indices | slice) -> "Split":
        """Return some of the examples."""
        return self._map(lambda tensor: tensor[rows])

    def to(self, device: torch.device) -> "Split":
        """Return the split with its tensors on `device`."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Split":
        optional = (self.labels, self.binarize_from, self.factors)
        return Split(change(self.stored), *(t if t is None else change(t) for t in optional))


@final
@dataclass(frozen=True)
class DatasetSummary:
    """The number of examples of each split, and remarks on how they were found."""

    sizes: Mapping[SplitName, int]
    remarks: tuple[str, ...] = ()

    @staticmethod
    def from_slices(parts: Mapping[SplitName, slice]) -> "DatasetSummary":
        """Count what `hold_out` gives to each split."""
        return DatasetSummary({name: parts[name].stop - parts[name].start for name in SPLITS})

    def __str__(self) -> str:
        """Return the counts, as in "80 training, 10 validation and 10 test examples"."""
        train, validation, test = (f"{self.sizes[name]:,}" for name in SPLITS)
        return f"{train} training, {validation} validation and {test} test examples"


@final
@dataclass(frozen=True)
class Dataset:
    """Three splits of one data set, and its metadata.

    Args:
        name: of the data set.
        train: training examples.
        validation: examples that choose the best checkpoint.
        test: examples that results are reported on.
        eight_bit: values are 8-bit intensities in [0, 1], so bits per dimension make sense.
        distance_to_manifold: of examples, where the noiseless data manifold is known.
        note: a subset or another reason why numbers do not compare with published ones.
        factors: the columns of the splits' factors.
        remarks: shown when training starts: how splits were found, what was left out.
        columns: names of the entries of an example.
        standardization: what was done to the values; None where nothing was.
        is_changed: a model is used with other data than it was trained on.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    _: KW_ONLY
    eight_bit: bool = False
    distance_to_manifold: Callable[[Examples], PerExample] | None = None
    note: str | None = None
    factors: tuple[GenerativeFactor, ...] = ()
    remarks: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    standardization: Standardization | None = None
    is_changed: bool = False

    @property
    def summary(self) -> "DatasetSummary":
        """Return the sizes of the splits and the remarks."""
        return DatasetSummary({name: len(self.split(name)) for name in SPLITS}, self.remarks)

    def class_labels(self) -> Tensor:
        """Return the label of each training example, `(examples,)`, whole numbers.

        Raises:
            UsageError: there are no labels, or they are not classes.
        """
        labels = self.train.labels
        if labels is None:
            raise UsageError(
                f"data {self.name} has no labels",
                hint="data.kind=moons, digits, sprites, dsprites, mnist and svhn have, and arrays "
                "that are saved with labels.",
            )
        if labels.is_floating_point() or labels.dim() != 1:
            raise UsageError(
                f"the labels of data {self.name} are not classes: one whole number for each "
                "example is needed"
            )
        return labels.long()

    @cached_property
    def units(self) -> Units:
        """Return the units of the training data."""
        stored, value_range = self.train.stored, (0.0, 1.0)
        if stored.dtype != torch.uint8:
            ends = torch.stack([stored.amin(dim=0), stored.amax(dim=0)])
            if self.standardization is not None:
                ends = self.standardization.inverse_transform(ends)
            value_range = float(ends.min()), float(ends.max())
        return Units(self.standardization, value_range, self.columns)

    @property
    def example_shape(self) -> tuple[int, ...]:
        """Return the shape of one example."""
        return tuple(self.train.stored.shape[1:])

    def split(self, name: SplitName) -> Split:
        """Return the split of that name."""
        split: Split = getattr(self, name)
        return split

    def digest(self, name: SplitName) -> str:
        """Return a digest of a split in the data's own units.

        Standardized values alone do not change where all are shifted or scaled.
        """
        digest = hashlib.sha256(self.split(name).digest().encode())
        for constants in self.standardization or ():
            digest.update(constants.numpy().tobytes())
        return digest.hexdigest()[:32]

    def fingerprint(self) -> str:
        """Return a digest of the training examples: what cached encodings belong to."""
        values = self.train.stored.contiguous().cpu().numpy()
        digest = hashlib.blake2b(repr((values.shape, values.dtype.str)).encode(), digest_size=16)
        digest.update(values.data)
        return digest.hexdigest()


@final
class EpochSampler:
    """Cuts batches from one permutation of the data after another.

    Batch i holds positions i B to (i + 1) B of the permutations of epochs 0, 1, 2, ... laid end to
    end, so every batch is full and every example is seen once per epoch.

    Args:
        count: examples in the training split.
        batch_size: examples in a batch.
        seed: the run's seed.
        name: of the random stream; samplers of different names are independent.
        device: where the indices are needed.
    """

    def __init__(
        self, count: int, batch_size: int, *, seed: int, name: str, device: torch.device
    ) -> None:
        self._count, self._batch_size = count, batch_size
        self._seed, self._name, self._device = seed, name, device
        self._permutations: dict[int, Indices] = {}

    def batch(self, iteration: int) -> Indices:
        """Return the positions of the examples of batch `iteration`."""
        epoch, start = divmod(iteration * self._batch_size, self._count)
        first = self._permutation(epoch)[start : start + self._batch_size]
        missing = self._batch_size - len(first)
        if not missing:
            return first
        return torch.cat([first, self._permutation(epoch + 1)[:missing]])

    def _permutation(self, epoch: int) -> Indices:
        if epoch not in self._permutations:
            self._permutations = {e: p for e, p in self._permutations.items() if e == epoch - 1}
            generator = stream(self._seed, self._name, epoch)
            permutation = torch.randperm(self._count, generator=generator)
            self._permutations[epoch] = permutation.to(self._device)
        return self._permutations[epoch]
