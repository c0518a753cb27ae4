"""The data of a run, compared with the data it was trained on by digests in its checkpoint."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, final

from dpvae_cli.data import Dataset, Split
from dpvae_cli.data.base import SPLITS, SplitName, each_split
from dpvae_cli.data.units import Standardization
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.memoize import memoize
from dpvae_cli.foundation.serialization import MALFORMED_ERRORS
from dpvae_cli.runs.checkpoint import Checkpoint

FACT, OLD_FACT = "data_splits", "data_fingerprint"
RESTORE_HINT = "Put back the data it was trained on, or train another run on this data."


def data_facts(dataset: Dataset) -> dict[str, Any]:
    """Return what a checkpoint stores about its data: name, units, sizes and digests."""
    units = dataset.units
    return {
        "data": dataset.name,
        "data_note": dataset.note,
        "data_range": None if units.value_range is None else list(units.value_range),
        "data_columns": list(units.columns),
        OLD_FACT: dataset.fingerprint(),
        FACT: _split_facts(dataset),
        "training_examples": len(dataset.train),
    }


def _split_facts(dataset: Dataset) -> dict[str, Any]:
    return {
        name: {"examples": len(dataset.split(name)), "digest": dataset.digest(name)}
        for name in SPLITS
    }


def describe_difference(checkpoint: Checkpoint, dataset: Dataset) -> str | None:
    """Return how data differs from what a run was trained on, or None.

    Old checkpoints have a digest of the training split only.
    """
    found = _split_facts(dataset)
    try:
        saved = {name: checkpoint.facts[FACT][name] for name in SPLITS}
        resized = [
            f"{name} has {found[name]['examples']} examples, {saved[name]['examples']} then"
            for name in SPLITS
            if found[name]["examples"] != saved[name]["examples"]
        ]
        changed = [name for name in SPLITS if found[name]["digest"] != saved[name]["digest"]]
    except MALFORMED_ERRORS:
        fingerprint = checkpoint.facts.get(OLD_FACT)
        is_same = fingerprint is None or fingerprint == dataset.fingerprint()
        return None if is_same else "the training split has other values"
    return ", ".join(resized) or (changed and f"other values in {', '.join(changed)}") or None


def check_dataset_shape(checkpoint: Checkpoint, dataset: Dataset) -> None:
    """Check that examples have the shape of those of the run.

    Raises:
        UsageError: they do not.
    """
    if dataset.example_shape != checkpoint.example_shape:
        raise UsageError(
            f"data {dataset.name} has examples of shape {dataset.example_shape}, the run was "
            f"trained on examples of shape {checkpoint.example_shape}",
            hint=RESTORE_HINT,
        )


def check_unchanged(checkpoint: Checkpoint, dataset: Dataset) -> None:
    """Check that the data is what the run was trained on.

    Raises:
        UsageError: it is not; says how it differs.
    """
    check_dataset_shape(checkpoint, dataset)
    if difference := describe_difference(checkpoint, dataset):
        raise UsageError(
            f"--resume: data {dataset.name} is not what the run was trained on: {difference}",
            hint=RESTORE_HINT,
        )


def python_warning(message: str) -> None:
    """Issue a Python warning."""
    warnings.warn(message, stacklevel=2)


@final
class RunData:
    """A run's data, read on first use and compared with the data it was trained on.

    Other data of the same shape is used with a warning and standardized by the constants of the
    run; results have a note.

    Args:
        checkpoint: of the run.
        load: reads the data of its recipe.
        warn: called with the difference.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        load: Callable[[], Dataset],
        warn: Callable[[str], None] = python_warning,
    ) -> None:
        self._checkpoint, self._warn = checkpoint, warn
        self._read = memoize(lambda: self._check(load()))
        self.is_changed = False

    def __call__(self) -> Dataset:
        """Return the data.

        Raises:
            UsageError: examples have another shape.
        """
        return self._read()

    def _check(self, dataset: Dataset) -> Dataset:
        check_dataset_shape(self._checkpoint, dataset)
        difference = describe_difference(self._checkpoint, dataset)
        if difference is None:
            return dataset
        self.is_changed = True
        self._warn(
            f"Warning: data {dataset.name} is not what this run was trained on: {difference}."
        )
        note = f"not the data of the training: {difference}"
        standardized = _restandardize(dataset, self._checkpoint.units().standardization)
        notes = "; ".join(filter(None, (dataset.note, note)))
        return replace(standardized, note=notes, is_changed=True)


def _restandardize(dataset: Dataset, constants: Standardization | None) -> Dataset:
    """Return data standardized by the constants of the run instead of its own."""
    own = dataset.standardization
    if constants is None or own is None:
        return dataset

    def restandardize(name: SplitName) -> Split:
        split = dataset.split(name)
        return replace(split, stored=constants.transform(own.inverse_transform(split.stored)))

    return replace(dataset, **each_split(restandardize), standardization=constants)
