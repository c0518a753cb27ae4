"""The user's own arrays: a .npy, an .npz with one array or one per split, or a .csv."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from dpvae_cli.data import tables
from dpvae_cli.data.base import (
    SPLITS,
    Binarize,
    Dataset,
    DataSpec,
    Factor,
    Fraction,
    Split,
    binarized,
    held_out_shares,
)
from dpvae_cli.data.locations import VARIABLE, data_root
from dpvae_cli.data.pictures import no_picture
from dpvae_cli.data.units import Standardization
from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.files import DAMAGED, refuse_bomb
from dpvae_cli.foundation.strangers import expanded, is_there

STANDARDIZED = "values are standardized: nats and distances are of these"
UNREADABLE = (OSError, ValueError, *DAMAGED)
"""Damaged, foreign, encrypted and oddly packed archives."""


@final
class Arrays(DataSpec):
    """Rows are examples of any shape an architecture fits.

    An .npz holds either `x` (or its only array) and is cut into splits, or `train`, `validation`
    and `test`. `labels`, or `train_labels` and so on, may stand beside them, and `columns`, the
    names of the entries of a row; `factors` names a second file. A .csv holds numbers alone; its
    first line may name the columns.
    """

    may_have_labels: ClassVar[bool] = True
    may_have_factors: ClassVar[bool] = True

    kind: Literal["arrays"] = "arrays"
    path: str
    """The .npy, .npz or .csv file, as given or under the data root."""
    scale: Literal["unit", "standardize", "none"] | None = None
    """`unit`: 8-bit to [0, 1]; `standardize`: training mean 0, deviation 1; null: by type."""
    validation: Fraction = 0.1
    """Share held out for validation where the file has no splits."""
    test: Fraction = 0.1
    """Share held out for testing where the file has no splits."""
    shuffle_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the order in which the rows of an unsplit file are dealt to the splits."""
    binarize: Binarize | None = None
    """`threshold` at 1/2, `static` (one fixed draw), `dynamic` (a draw a batch) or null."""
    factors: str | None = None
    """An .npy of integers, a row an example (train, validation, test), a column a known factor."""

    def example_shape(self, root: Path | None = None) -> tuple[int, ...]:
        """Read the arrays and return the shape of a row."""
        arrays = self._read(root)
        return tuple(next(iter(arrays.values())).shape[1:])

    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Read, split, scale and binarise the arrays."""
        arrays = self._read(root)
        if self.factors is not None:
            arrays |= _factors(_find(self.factors, root, "factors"), arrays)
        splits, standardization = _scaled(_split(arrays, self), self.scale)
        train, validation, test = (binarized(splits[name], self.binarize, name) for name in SPLITS)
        return Dataset(
            Path(self.path).stem,
            train=train,
            validation=validation,
            test=test,
            eight_bit=train.stored.dtype == torch.uint8 and self.binarize is None,
            note=None if standardization is None else STANDARDIZED,
            factors=_named_factors(train),
            columns=tuple(map(str, arrays.get("columns", ()))),
            standardization=standardization,
        )

    def picture(self, path: Path) -> Split:
        """Refuse: the file says nothing of how its rows were made."""
        raise no_picture(self.kind, path)

    def _read(self, root: Path | None) -> dict[str, np.ndarray]:
        """Return the arrays of examples (`x`, or the three splits) followed by the labels."""
        path = _find(self.path, root, "path")
        return _named(path, _readable(path))


def _readable(path: Path) -> dict[str, np.ndarray]:
    """Return the file's arrays by name.

    Raises:
        MissingError: it is damaged or something else.
    """
    is_text = path.suffix.lower() == tables.SUFFIX
    try:
        return tables.read_csv(path) if is_text else _loaded(path)
    except UNREADABLE as error:
        raise MissingError(
            f"{path} cannot be read as {'.csv' if is_text else '.npy or .npz'}: {error}",
            hint="Give numbers alone, separated by commas; the first line may name the columns."
            if is_text
            else "Save plain numeric arrays with numpy.save or numpy.savez.",
        ) from error


def _loaded(path: Path) -> dict[str, np.ndarray]:
    """Return the file's arrays by name; numpy refuses pickled objects, so nothing can execute."""
    refuse_bomb(path)
    with path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"x": loaded}
        arrays = {name: loaded[name] for name in loaded.files}
    if strange := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise ValueError(f"{strange[0]} in it is no .npy")  # numpy hands out its bytes
    return arrays


def _find(path: str, root: Path | None, key: str) -> Path:
    tried = [expanded(path), data_root(root) / "arrays" / path, data_root(root) / path]
    for candidate in tried:
        if is_there(candidate) and candidate.is_file():
            return candidate
    raise MissingError(
        f"data.{key} {path} was not found; looked at " + ", ".join(map(str, tried)),
        hint=f"Give a full path, or name its folder with --data-root or {VARIABLE}.",
    )


def _named(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return examples under `x` or the split names, labels under `labels` or `<split>_labels`.

    The names of the entries of an example stay under `columns`.
    """
    columns = {"columns": arrays.pop("columns")} if "columns" in arrays else {}
    if all(name in arrays for name in SPLITS):
        names: list[str] = list(SPLITS)
    elif "x" in arrays:
        names = ["x"]
    elif len(arrays) == 1:
        names = list(arrays)
    else:
        raise UsageError(
            f"{path} holds the arrays {', '.join(arrays)}: which are the examples?",
            hint="Name them x, or train, validation and test; labels may be named labels.",
        )
    examples = {("x" if len(names) == 1 else name): arrays[name] for name in names}
    for name, array in examples.items():
        _refuse_odd(f"{path}: {name}", array)
    if len({array.shape[1:] for array in examples.values()}) > 1:
        shapes = {name: array.shape for name, array in examples.items()}
        raise UsageError(f"{path}: the splits hold examples of different shapes: {shapes}")
    if columns:
        _check_columns(path, columns["columns"], next(iter(examples.values())).shape[1:])
    labels = {name: array for name, array in arrays.items() if name.endswith("labels")}
    return examples | labels | columns


def _check_columns(path: Path, columns: np.ndarray, shape: tuple[int, ...]) -> None:
    if columns.dtype.kind != "U" or columns.shape != shape:
        raise UsageError(
            f"{path}: columns has shape {columns.shape} and type {columns.dtype}; "
            f"a text for each entry of an example of shape {shape} is expected"
        )


def _refuse_odd(what: str, array: np.ndarray) -> None:
    if array.ndim < 2 or array.shape[0] < 3 or array.size == 0 or array.dtype.kind not in "uif":
        raise UsageError(
            f"{what} has shape {array.shape} and type {array.dtype}; "
            "examples are numbers, one a row, at least 3 rows"
        )
    with np.errstate(over="ignore"):
        finite = np.isfinite(array.astype(np.float32, copy=False)).all()
    if not finite:
        raise UsageError(
            f"{what} has values that are not finite (NaN, infinity, or too large for float32)"
        )


def _split(arrays: dict[str, np.ndarray], spec: Arrays) -> dict[str, Split]:
    """Return the file's own splits, or deal the rows out in a fixed random order."""
    if "x" not in arrays:
        return {
            name: Split(
                _tensor(arrays[name]),
                _labels(arrays.get(f"{name}_labels"), arrays[name]),
                factors=_whole(arrays.get(f"{name}_factors")),
            )
            for name in SPLITS
        }
    x, labels = _tensor(arrays["x"]), _labels(arrays.get("labels"), arrays["x"])
    factors = _whole(arrays.get("factors"))
    order = torch.from_numpy(np.random.default_rng(spec.shuffle_seed).permutation(len(x)))
    cut = held_out_shares(len(x), validation=spec.validation, test=spec.test)
    parts = {name: order[part] for name, part in cut.items()}
    return {name: Split(x, labels, factors=factors).part(rows) for name, rows in parts.items()}


def _factors(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the factors of the examples, cut as these are.

    Raises:
        UsageError: they are no integers, or not a row an example.
    """
    found = next(iter(_readable(path).values()))
    names = [name for name in ("x", *SPLITS) if name in arrays]
    count = sum(len(arrays[name]) for name in names)
    if found.dtype.kind not in "ui" or found.ndim != 2 or len(found) != count or not found.size:
        raise UsageError(
            f"data.factors {path} has shape {found.shape} and type {found.dtype}; "
            f"integers are expected, a row for each of {count} examples, a column a factor"
        )
    if names == ["x"]:
        return {"factors": found}
    cuts = np.cumsum([len(arrays[name]) for name in names])[:-1]
    return {f"{n}_factors": part for n, part in zip(names, np.split(found, cuts), strict=True)}


def _whole(array: np.ndarray | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(array.astype(np.int64))


def _named_factors(split: Split) -> tuple[Factor, ...]:
    """Name factors by their columns; nothing says that their values stand in an order."""
    columns = 0 if split.factors is None else split.factors.shape[1]
    return tuple(Factor(f"factor {column}", is_ordered=False) for column in range(columns))


def _tensor(array: np.ndarray) -> Tensor:
    """Return uint8 as it is and everything else as float32."""
    kept = array if array.dtype == np.uint8 else array.astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(kept))


def _labels(array: np.ndarray | None, examples: np.ndarray) -> Tensor | None:
    if array is None:
        return None
    if array.shape[:1] != examples.shape[:1] or array.dtype.kind not in "uif":
        raise UsageError(
            f"labels have shape {array.shape} and type {array.dtype}; "
            f"{examples.shape[0]} numbers are expected"
        )
    plain = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
    return torch.from_numpy(np.ascontiguousarray(plain))


def _scaled(
    splits: dict[str, Split], scale: str | None
) -> tuple[dict[str, Split], Standardization | None]:
    """Apply `data.scale`; constants of `standardize` come from the training split alone."""
    train = splits["train"].stored
    if scale == "unit" and train.dtype != torch.uint8:
        raise UsageError(
            "data.scale=unit is for 8-bit arrays (uint8)",
            hint="Use data.scale=standardize or data.scale=none.",
        )
    if scale in (None, "unit"):
        return splits, None
    values = {name: split.stored.float() for name, split in splits.items()}
    standardization = None
    if scale == "standardize":
        deviation, mean = torch.std_mean(values["train"].double(), dim=0, correction=0)
        deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
        standardization = Standardization(mean, deviation)
        values = {name: standardization.transform(value) for name, value in values.items()}
    scaled = {
        name: Split(values[name], split.labels, factors=split.factors)
        for name, split in splits.items()
    }
    return scaled, standardization
