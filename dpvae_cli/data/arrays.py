"""The user's own arrays: a .npy, an .npz with one array or one per split, or a .csv."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from dpvae_cli.data import tables
from dpvae_cli.data.base import CHUNK, DataSpec, Fraction, binarize_split, hold_out_shares
from dpvae_cli.data.dataset import (
    SPLITS,
    Dataset,
    DatasetSummary,
    GenerativeFactor,
    Split,
    SplitName,
    Standardization,
)
from dpvae_cli.data.images import Binarize
from dpvae_cli.data.locations import find_path
from dpvae_cli.data.split_names import guess_key
from dpvae_cli.foundation.array_files import OBJECTS, Header, is_whole, read_arrays, read_headers
from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.shapes import StoredExamples

COLUMNS = "columns"
"""The array of an .npz that names the entries of an example."""
STANDARDIZED = "values are standardized, so nats and distances are of these"
Scale = Literal["unit", "standardize", "none"]
MIN_IMAGE_VALUE = 128
"""8-bit images have values from here on; smaller values alone may be something else."""
MAX_FLOAT32_ERROR = 0.01
"""Of a column in float32, as a share of its deviation; beyond it digits are lost."""
ROUNDING_ERROR = 1e-12
"""A column that varies by less than this share of its size is constant but for rounding."""


@final
class Arrays(DataSpec):
    """Rows are examples of any shape an architecture fits.

    An .npz holds either `x` (or its only array) and is cut into splits, or `train` with
    `validation` and `test`; one of these that is missing is split off from `train`. `labels`, or
    `train_labels` and so on, may stand beside them, and `columns`, the names of the entries of a
    row; `factors` names a second file. A .csv holds numbers alone; its first line may name the
    columns.
    """

    may_have_labels: ClassVar[bool] = True
    may_have_factors: ClassVar[bool] = True

    kind: Literal["arrays"] = "arrays"
    path: str
    """The .npy, .npz or .csv file, as given or under the data root."""
    scale: Scale | None = None
    """`unit`: 8-bit to [0, 1]; `standardize`: training mean 0, deviation 1; null: by type."""
    validation: Fraction = 0.1
    """Fraction held out for validation where the file has no splits."""
    test: Fraction = 0.1
    """Fraction held out for testing where the file has no splits."""
    shuffle_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the order in which the rows of an unsplit file are assigned to the splits."""
    binarize: Binarize | None = None
    """`threshold` at 1/2, `static` (one fixed draw), `dynamic` (one per batch) or null."""
    factors: str | None = None
    """An .npy of integers: rows are examples (train, validation, test), columns known factors."""

    def example_shape(self, root: Path | None = None) -> tuple[int, ...]:
        """Return the shape of a row, from the file's header."""
        return self._layout(root).example_shape

    def summary(self, root: Path | None = None) -> DatasetSummary:
        """Count the rows by the file's header."""
        layout = self._layout(root)
        sizes = {
            split: layout.counts[name] if part is None else len(part)
            for split, (name, part) in self._rows(layout.counts).items()
        }
        return DatasetSummary(sizes, layout.remarks)

    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Read, split, scale and binarise the arrays."""
        layout = self._layout(root)
        stored = _read_arrays(layout.path, layout.names.values())
        arrays = {key: stored[name] for key, name in layout.names.items()}
        wide = np.dtype(np.float64 if self.scale == "standardize" else np.float32)
        for name in layout.counts:
            if arrays[name].dtype.kind != "f":
                continue
            with np.errstate(over="ignore"):
                is_finite = np.isfinite(arrays[name].astype(wide, copy=False)).all()
            if not is_finite:
                raise UsageError(
                    f"{layout.path}: {name} has values that are not finite (NaN, infinity, or too "
                    f"large for {wide.name})"
                )
        if self.factors is not None:
            arrays |= _factors(self._find(self.factors, root, "factors"), layout.counts)
        origin = self._rows(layout.counts)

        def rows(split: SplitName, beside: str = "") -> np.ndarray | None:
            """Return a split's rows of the array of examples, or of one beside it."""
            name, part = origin[split]
            array = arrays.get(_key_beside(name, beside) if beside else name)
            return array if array is None or part is None else array[part]

        values = {split: array for split in SPLITS if (array := rows(split)) is not None}
        scaled = _apply_scale(layout.path, values, self.scale)

        def build_split(name: SplitName) -> Split:
            labels = rows(name, "labels")
            if labels is None or is_whole(labels):  # floating-point ones too
                classes = _integers(labels)
            else:
                classes = torch.from_numpy(labels.astype(np.float64))
            factors = _integers(rows(name, "factors"))
            split = Split(scaled.stored[name], classes, factors=factors)
            return binarize_split(split, self.binarize, name)

        train, *held_out = map(build_split, SPLITS)
        factors = train.factors
        return Dataset(
            Path(self.path).stem,
            train,
            *held_out,
            eight_bit=scaled.is_eight_bit and self.binarize is None,
            note=None if scaled.standardization is None else STANDARDIZED,
            factors=tuple(  # nothing says that their values are ordered
                GenerativeFactor(f"factor {column}", is_ordered=False)
                for column in range(0 if factors is None else factors.shape[1])
            ),
            remarks=(*layout.remarks, *([] if scaled.remark is None else [scaled.remark])),
            columns=tuple(map(str, arrays.get(COLUMNS, ()))),
            standardization=scaled.standardization,
        )

    def _find(self, path: str, root: Path | None, key: str) -> Path:
        return find_path(path, "arrays", root, f"data.{key} {path} was not found", Path.is_file)

    def _layout(self, root: Path | None) -> "ArrayLayout":
        path = self._find(self.path, root, "path")
        return _layout(path, _read_headers(path))

    def _rows(self, counts: Mapping[str, int]) -> dict[SplitName, tuple[str, np.ndarray | None]]:
        """Return each split's array and its rows there, None for all of them.

        Splits that the file does not have are taken from `x`, or from `train`, in an order drawn
        once.
        """
        missing = [name for name in SPLITS[1:] if name not in counts]
        rows: dict[SplitName, tuple[str, np.ndarray | None]]
        rows = {split: (split, None) for split in SPLITS if split in counts}
        if not missing:
            return rows
        source = "x" if "x" in counts else "train"
        order = np.random.default_rng(self.shuffle_seed).permutation(counts[source])
        shares: dict[str, float] = {name: getattr(self, name) for name in missing}
        cut = hold_out_shares(len(order), **shares)
        return rows | {split: (source, order[cut[split]]) for split in SPLITS if split in cut}


@final
@dataclass(frozen=True)
class ArrayLayout:
    """Which arrays of a file are read, and as what; remarks are on those that are not.

    Keys of `names` and `counts` are `x`, or `train` and other splits; of `names` also labels and
    `columns`.
    """

    path: Path
    names: Mapping[str, str]
    counts: Mapping[str, int]
    example_shape: tuple[int, ...]
    remarks: tuple[str, ...]


def _layout(path: Path, headers: Mapping[str, Header]) -> ArrayLayout:
    """Choose the arrays of examples and labels by their names."""
    examples = _examples(path, headers)
    labels = {_key_beside(key, "labels"): key for key in examples}
    with _reading(path):
        for name in (*examples.values(), *labels):
            if name in headers and headers[name].dtype.hasobject:
                raise ValueError(OBJECTS.format(name))
    for name in examples.values():
        shape, dtype = headers[name].shape, headers[name].dtype
        if len(shape) < 2 or shape[0] < 3 or 0 in shape or dtype.kind not in "buif":
            raise UsageError(
                f"{path}: {name} has shape {shape} and type {dtype}; "
                "examples are numbers, one a row, at least 3 rows"
            )
    shapes = {name: headers[name].shape for name in examples.values()}
    if len({shape[1:] for shape in shapes.values()}) > 1:
        raise UsageError(f"{path}: the splits hold examples of different shapes: {shapes}")
    counts = {key: headers[name].shape[0] for key, name in examples.items()}
    for name, key in labels.items():
        if name in headers:
            shape, dtype, count = headers[name].shape, headers[name].dtype, counts[key]
            if shape[:1] != (count,) or dtype.kind not in "buif":
                raise UsageError(
                    f"{name} have shape {shape} and type {dtype}; {count} numbers are expected"
                )
    example_shape = next(iter(shapes.values()))[1:]
    if COLUMNS in headers:
        shape, dtype = headers[COLUMNS].shape, headers[COLUMNS].dtype
        if dtype.kind != "U" or shape != example_shape:
            raise UsageError(
                f"{path}: {COLUMNS} has shape {shape} and type {dtype}; "
                f"a text for each entry of an example of shape {example_shape} is expected"
            )
    names = examples | {name: name for name in (*labels, COLUMNS) if name in headers}
    unused = [name for name in headers if name not in names.values()]
    return ArrayLayout(path, names, counts, example_shape, _unused_remarks(path, unused, names))


def _examples(path: Path, headers: Mapping[str, Header]) -> dict[str, str]:
    """Return the names of the arrays of examples by key: `x`, or `train` and other splits."""
    headers = {name: header for name, header in headers.items() if name != COLUMNS}
    splits = [name for name in SPLITS if name in headers]
    if "train" in splits and ("x" not in headers or len(splits) == len(SPLITS)):
        return {name: name for name in splits}
    if "x" in headers and not splits:
        return {"x": "x"}
    if len(headers) == 1:
        return {"x": next(iter(headers))}
    raise UsageError(
        f"{path} holds the arrays {', '.join(headers)}: which are the examples?",
        hint="Name them x, or train, validation and test; labels may be named labels, or "
        "train_labels and so on." + _renaming(path, list(headers), ()),
    )


def _unused_remarks(path: Path, unused: Sequence[str], names: Mapping[str, str]) -> tuple[str, ...]:
    """Return which arrays are not used, and what they are probably meant for."""
    meant = {name: key for name in unused if (key := guess_key(name)) and key not in names}
    if splits := [name for name, key in meant.items() if key in SPLITS]:
        raise UsageError(
            f"{path}: {', '.join(splits)} looks like a split of the data, and is not read as one "
            f"beside {', '.join(names.values())}",
            hint="Splits are named train, validation and test."
            + _renaming(path, [*names.values(), *meant], names.values()),
        )
    remarks = []
    for name in unused:
        key = meant.get(name)
        suggestion = "" if key is None else f"; is it {key}? Then save it under that name"
        remarks.append(f"array {name} of {path.name} is not used{suggestion}")
    return tuple(remarks)


def _renaming(path: Path, names: Sequence[str], kept: Collection[str]) -> str:
    """Return the Python that saves the arrays under the names they are probably meant for."""
    keys: dict[str, str] = {}
    for name in names:
        key = ("train" if name == "x" else name) if name in kept else guess_key(name)
        if key is not None:
            keys.setdefault(key, name)
    if not keys:
        return ""
    parts = ", ".join(f'{key}=a["{name}"]' for key, name in keys.items())
    return f' Python: a = numpy.load("{path}"); numpy.savez("renamed.npz", {parts})'


def _key_beside(key: str, what: str) -> str:
    """Return the key of the labels or factors of an array of examples."""
    return what if key == "x" else f"{key}_{what}"


def _read_headers(path: Path) -> dict[str, Header]:
    """Return the headers of the arrays of a .npy, an .npz or a .csv by name."""
    with _reading(path):
        if path.suffix.lower() != tables.SUFFIX:
            return read_headers(path)
        return {name: Header(a.shape, a.dtype) for name, a in tables.read_csv(path).items()}


def _read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return arrays of a .npy or an .npz by name, or all of a .csv."""
    with _reading(path):
        is_text = path.suffix.lower() == tables.SUFFIX
        return tables.read_csv(path) if is_text else read_arrays(path, names)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say what to do about a file that is damaged or something else."""
    try:
        yield
    except (OSError, ValueError) as problem:
        if path.suffix.lower() == tables.SUFFIX:
            raise MissingError(
                f"{path} cannot be read as .csv: {problem}",
                hint="Give numbers alone, separated by commas; the first line may name the "
                "columns.",
            ) from None
        renamed = " A CSV is read where its name ends in .csv." if "CSV" in str(problem) else ""
        raise MissingError(
            f"{path} cannot be read as .npy or .npz: {problem}",
            hint=f"Save plain numeric arrays with numpy.save or numpy.savez.{renamed}",
        ) from None


def _factors(path: Path, counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Return the factors of the examples, cut as these are."""
    name = next(iter(_read_headers(path)))
    found = _read_arrays(path, [name])[name]
    count = sum(counts.values())
    if not is_whole(found) or found.ndim != 2 or len(found) != count or not found.size:
        raise UsageError(
            f"data.factors {path} has shape {found.shape} and type {found.dtype}; "
            f"whole numbers are expected, a row for each of {count} examples, a column a factor"
        )
    cuts = np.cumsum(list(counts.values()))[:-1]
    parts = np.split(found, cuts)
    return {_key_beside(key, "factors"): part for key, part in zip(counts, parts, strict=True)}


def _integers(array: np.ndarray | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(array.astype(np.int64))


class ScaledArrays(NamedTuple):
    """Stored examples, whether they are 8-bit images, a remark, and what `standardize` did."""

    stored: dict[SplitName, StoredExamples]
    is_eight_bit: bool = False
    remark: str | None = None
    standardization: Standardization | None = None


def _apply_scale(
    path: Path, values: Mapping[SplitName, np.ndarray], scale: Scale | None
) -> ScaledArrays:
    """Apply `data.scale`.

    Zeros and ones in 8 bits or booleans stay zeros and ones; they are stored as 0 and 255.
    """
    lowest = min(array.min() for array in values.values())
    highest = max(array.max() for array in values.values())
    train = values["train"]
    types = {str(a.dtype) if a.dtype.itemsize == 1 else "numbers" for a in values.values()}
    if scale is None and len(types) > 1:
        raise UsageError(
            f"{path} has splits of different types ({', '.join(sorted(types))}), which would be "
            "scaled in different ways",
            hint="Save them in one type.",
        )
    has_bytes = train.dtype == np.uint8
    is_binary = types == {"bool"} or (has_bytes and highest <= 1 and scale is None)
    if is_binary and scale in (None, "unit"):
        stored = {n: _tensor(a.astype(np.uint8) * np.uint8(255)) for n, a in values.items()}
        return ScaledArrays(stored)
    if has_bytes and scale is None and highest < MIN_IMAGE_VALUE:
        raise UsageError(
            f"{path} has 8-bit values from {lowest} to {highest}: are they images of 256 levels, "
            "or numbers of their own?",
            hint="data.scale=unit divides images by 255, data.scale=none takes the numbers as "
            "they are, data.scale=standardize gives them mean 0 and deviation 1.",
        )
    if scale == "unit" or (has_bytes and scale is None):
        if not all(map(is_whole, values.values())) or lowest < 0 or highest > 255:
            raise UsageError(
                "data.scale=unit is for 8-bit values, whole numbers from 0 to 255; "
                f"{path} has {train.dtype} from {lowest:g} to {highest:g}",
                hint="Use data.scale=standardize or data.scale=none.",
            )
        stored = {n: _tensor(a.astype(np.uint8, copy=False)) for n, a in values.items()}
        return ScaledArrays(stored, is_eight_bit=True)
    if scale == "standardize":
        constants = (torch.from_numpy(a.astype(np.float64)) for a in mean_and_deviation(train))
        standardization = Standardization(*constants)
        rows = {n: map(torch.from_numpy, _chunks(a)) for n, a in values.items()}
        stored = {n: torch.cat([*map(standardization.transform, r)]) for n, r in rows.items()}
        return ScaledArrays(stored, standardization=standardization)
    stored = {n: _tensor(a.astype(np.float32, copy=False)) for n, a in values.items()}
    return ScaledArrays(stored, remark=_float32_loss_remark(train))


def mean_and_deviation(train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of each column in float64; a constant one has deviation 1.

    The mean comes off before anything is squared, so that large offsets lose nothing.
    """
    mean = train.mean(axis=0, dtype=np.float64)
    largest = np.maximum(train.max(axis=0) - mean, mean - train.min(axis=0))
    is_constant = (train.min(axis=0) == train.max(axis=0)) | (largest == 0)
    largest = np.where(is_constant, 1.0, largest)
    squares = np.zeros_like(mean)
    for rows in _chunks(train):
        squares += (((rows - mean) / largest) ** 2).sum(axis=0)  # at most 1, so none overflows
    return mean, np.where(is_constant, 1.0, largest * np.sqrt(squares / len(train)))


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield rows as float64, a few at a time."""
    for start in range(0, len(array), CHUNK):
        yield array[start : start + CHUNK].astype(np.float64)


def _float32_loss_remark(train: np.ndarray) -> str | None:
    """Name the columns whose variation float32 does not hold, such as times in seconds."""
    if (train.dtype.itemsize <= 4 and train.dtype.kind == "f") or train.dtype.itemsize < 4:
        return None
    mean, deviation = mean_and_deviation(train)
    error = np.zeros_like(mean)
    for rows in _chunks(train):
        error = np.maximum(error, np.abs(rows.astype(np.float32) - rows).max(axis=0))
    is_lost = (error > MAX_FLOAT32_ERROR * deviation) & (deviation > ROUNDING_ERROR * np.abs(mean))
    is_lost &= train.min(axis=0) != train.max(axis=0)
    if not is_lost.any():
        return None
    columns = ", ".join(map(str, np.flatnonzero(is_lost)[:5]))
    return (
        f"float32 does not hold the differences within column {columns} (from 0), which are small "
        "beside the values; data.scale=standardize keeps them"
    )


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
