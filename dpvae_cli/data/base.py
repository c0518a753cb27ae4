"""A data set in memory: three explicit splits, stored compactly, prepared batch by batch."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple, TypedDict, cast, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from dpvae_cli.data.images import (
    Binarize,
    CropError,
    ImageTransform,
    UnreadableImageError,
    pixel_limit,
    read_image,
)
from dpvae_cli.data.units import Standardization, Units
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import derive_seed, stream
from dpvae_cli.foundation.shapes import Examples, FactorValues, Indices, PerExample, StoredExamples
from dpvae_cli.foundation.spec import Spec

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
Fraction = Annotated[float, Field(gt=0, lt=1)]
BINARIZATION_SEED = 0
CHUNK = 1_000
MAX_DIGEST_BYTES = 2**28
"""Bytes of examples that a digest reads at most, about."""


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
        return _as_float(self.stored[index])

    def training_batch(
        self, index: Indices, generator: torch.Generator, *, rows: slice = slice(None)
    ) -> Examples:
        """Return some rows of a training batch; `generator` draws dynamic binarisation of all."""
        if self.binarize_from is None:
            return self.examples(index[rows])
        return torch.bernoulli(_as_float(self.binarize_from[index]), generator=generator)[rows]

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


def _as_float(stored: Tensor) -> Tensor:
    return stored.to(torch.float32) / 255 if stored.dtype == torch.uint8 else stored


class Splits(TypedDict):
    """The three splits as keyword arguments of `Dataset`."""

    train: Split
    validation: Split
    test: Split


def each_split(make: Callable[[SplitName], Split]) -> Splits:
    """Return the splits that `make` returns for their names."""
    return Splits(train=make("train"), validation=make("validation"), test=make("test"))


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


class DataSpec(Spec, ABC):
    """A recipe's `data` section."""

    kind: str
    knows_manifold: ClassVar[bool] = False
    """Whether distances of examples to the data manifold can be measured."""
    may_have_labels: ClassVar[bool] = False
    may_have_factors: ClassVar[bool] = False
    image_format: ClassVar[ImageTransform | None] = None
    """How image files become examples, but for the section's `binarize`."""

    @property
    def image_transform(self) -> ImageTransform | None:
        """Return how image files become examples; None where examples are not images."""
        binarize: Binarize | None = getattr(self, "binarize", None)
        transform = self.image_format
        return replace(transform, binarize=binarize) if transform and binarize else transform

    def example_shape(self, root: Path | None = None) -> tuple[int, ...]:
        """Return the shape of one example, reading as little as possible."""
        assert self.image_transform is not None, "data without images overrides this method"
        return self.image_transform.shape

    @abstractmethod
    def summary(self, root: Path | None = None) -> DatasetSummary:
        """Return the sizes of the splits, reading as little as possible and downloading nothing.

        Raises:
            MissingError: the data is not there.
        """

    @abstractmethod
    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Return the data set.

        Args:
            root: folder to look in first (`--data-root`); None looks in `DPVAE_DATA` and the cache.
            download: allow a download where the kind has a source and nothing is found.

        Raises:
            MissingError: the data is not there, or a file is damaged.
        """

    @final
    def load_image(self, path: Path) -> Split:
        """Return an image file as an example, prepared as this data is: a split of one.

        Raises:
            UsageError: the file is not a readable image or smaller than the crop, or examples of
                this kind are not images.
        """
        transform = self.image_transform
        if transform is None:
            raise UsageError(
                f"{path}: with data of kind {self.kind} an image cannot be converted to an example",
                hint="Name an example of the test split by its number.",
            )
        try:
            with pixel_limit(transform.max_pixels):
                image = read_image(path, transform)
        except UnreadableImageError as error:
            raise UsageError(f"{path} cannot be read as an image: {error}") from None
        except CropError as error:
            raise UsageError(
                f"{path} is too small: the square of {error.crop} pixels that this data is cut to "
                f"does not fit into {error.width}x{error.height}",
                hint="Name a larger image.",
            ) from None
        split = Split(torch.from_numpy(image.copy()).unsqueeze(0))
        return binarize_split(split, transform.binarize, "test")


class FractionalSplits(DataSpec, ABC):
    """Data whose splits are fractions of one set of examples."""

    validation: Fraction = 0.1
    """Fraction held out for validation."""
    test: Fraction = 0.1
    """Fraction held out for testing."""

    def cut(self, count: int) -> dict[SplitName, slice]:
        """Return the rows of each split of `count` examples."""
        return hold_out_shares(count, validation=self.validation, test=self.test)


def hold_out(count: int, **sizes: int) -> dict[SplitName, slice]:
    """Cut `count` examples from the end: the named splits in order, `train` keeps the rest.

    Raises:
        UsageError: nothing would be left to train on.
    """
    held = sum(sizes.values())
    if held >= count:
        raise UsageError(f"holding out {held} of {count} examples leaves none to train on")
    ends = np.cumsum([count - held, *sizes.values()]).tolist()
    parts = zip(("train", *sizes), (0, *ends), ends, strict=False)
    return {cast("SplitName", name): slice(start, end) for name, start, end in parts}


def hold_out_shares(count: int, **shares: float) -> dict[SplitName, slice]:
    """Cut `count` examples as `hold_out` does, by shares, at least one example each."""
    return hold_out(count, **{name: max(1, round(share * count)) for name, share in shares.items()})


def binarize_split(split: Split, how: Binarize | None, name: SplitName) -> Split:
    """Return the split as zeros and ones: cut at 1/2, drawn once, or drawn anew in every batch.

    The fixed draws are a function of the example, its place and `name` alone: every run, machine
    and version has the same ones.

    Raises:
        UsageError: values lie outside [0, 1], or all training values would be the same.
    """
    if how is None:
        return split
    values = _as_float(split.stored)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise UsageError(
            f"data.binarize needs values in [0, 1], the data has {low:g} to {high:g}",
            hint="Scale the data first: data.scale=unit divides 8-bit images by 255; divide others "
            "by their largest value.",
        )
    zeros_and_ones = values > 0.5 if how == "threshold" else _static_draw(split.stored, name)
    ones = int(zeros_and_ones.sum())
    if name == "train" and ones in (0, zeros_and_ones.numel()):
        raise UsageError(
            f"data.binarize={how} makes every training value {1 if ones else 0}: the data has "
            f"values from {low:g} to {high:g}",
            hint="Scale the data to [0, 1] first. Arrays of 0 and 1 need no data.binarize.",
        )
    fixed = zeros_and_ones.to(torch.uint8) * 255
    grey = split.stored if how == "dynamic" else None
    return Split(fixed, split.labels, grey, split.factors)


def _static_draw(stored: StoredExamples, name: SplitName) -> Tensor:
    """Return one where a uniform draw is below the intensity, else zero.

    Raw words of PCG64 and double-precision arithmetic are the same everywhere; torch guarantees
    its own draws for neither versions nor platforms.
    """
    generator = np.random.PCG64(derive_seed(BINARIZATION_SEED, name))
    drawn = torch.empty(stored.shape, dtype=torch.bool)
    for start in range(0, len(stored), CHUNK):
        values = stored[start : start + CHUNK].cpu().numpy()
        intensities = np.divide(values, 255 if values.dtype == np.uint8 else 1, dtype=np.float64)
        uniform = (generator.random_raw(values.size) >> 11) * 2.0**-53
        drawn[start : start + CHUNK] = torch.from_numpy(uniform.reshape(values.shape) < intensities)
    return drawn


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
