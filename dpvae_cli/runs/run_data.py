"""Whether the data that is read is what a run was trained on: its checkpoint has a digest."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, final

from dpvae_cli.data import Dataset, Split
from dpvae_cli.data.base import SPLITS, SplitName
from dpvae_cli.data.units import Standardization
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.memoize import memoize
from dpvae_cli.foundation.serialization import MALFORMED_ERRORS
from dpvae_cli.runs.checkpoint import Checkpoint

FACT, OLD_FACT = "data_splits", "data_fingerprint"
RESTORE_HINT = "Put back the data it was trained on, or train another run on this data."


class SplitFacts(NamedTuple):
    """What a checkpoint keeps of a split."""

    examples: int
    digest: str


def data_facts(dataset: Dataset) -> dict[str, Any]:
    """Return what a checkpoint keeps of its data."""
    return {FACT: {name: found._asdict() for name, found in _facts_of(dataset).items()}}


def _facts_of(dataset: Dataset) -> dict[SplitName, SplitFacts]:
    return {name: SplitFacts(len(dataset.split(name)), dataset.digest(name)) for name in SPLITS}


def describe_difference(checkpoint: Checkpoint, dataset: Dataset) -> str | None:
    """Return how data differs from what a run was trained on, None where it does not.

    Checkpoints from before each split had a digest know the training split alone.
    """
    try:
        known = {name: SplitFacts(**checkpoint.facts[FACT][name]) for name in SPLITS}
    except MALFORMED_ERRORS:
        fingerprint = checkpoint.facts.get(OLD_FACT)
        is_same = fingerprint is None or fingerprint == dataset.fingerprint()
        return None if is_same else "the training split has other values"
    found = _facts_of(dataset)
    resized = [
        f"{name} has {found[name].examples} examples, {known[name].examples} then"
        for name in SPLITS
        if found[name].examples != known[name].examples
    ]
    changed = [name for name in SPLITS if found[name] != known[name]]
    return ", ".join(resized) or (changed and f"other values in {', '.join(changed)}") or None


def check_shape(checkpoint: Checkpoint, dataset: Dataset) -> None:
    """Refuse data whose examples have another shape than those of the run.

    Raises:
        UsageError: they do.
    """
    if dataset.example_shape != checkpoint.example_shape:
        raise UsageError(
            f"data {dataset.name} has examples of shape {dataset.example_shape}, the run was "
            f"trained on examples of shape {checkpoint.example_shape}",
            hint=RESTORE_HINT,
        )


def check_unchanged(checkpoint: Checkpoint, dataset: Dataset) -> None:
    """Refuse to go on training on other data.

    Raises:
        UsageError: says what differs.
    """
    check_shape(checkpoint, dataset)
    if difference := describe_difference(checkpoint, dataset):
        raise UsageError(
            f"--resume: data {dataset.name} is not what the run was trained on: {difference}",
            hint=RESTORE_HINT,
        )


def python_warning(message: str) -> None:
    """Warn as Python does."""
    warnings.warn(message, stacklevel=2)


@final
class RunData:
    """A run's data, read when it is first asked for and compared with what the run was trained on.

    Other data of the same shape are taken with a warning; they are standardized by the constants
    of the run, and results say so.

    Args:
        checkpoint: the run's.
        load: reads the data of its recipe.
        warn: hears what differs.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        load: Callable[[], Dataset],
        warn: Callable[[str], None] = python_warning,
    ) -> None:
        self._checkpoint, self._warn = checkpoint, warn
        self._read = memoize(lambda: self._checked(load()))
        self.is_changed = False

    def __call__(self) -> Dataset:
        """Return the data.

        Raises:
            UsageError: examples have another shape.
        """
        return self._read()

    def _checked(self, dataset: Dataset) -> Dataset:
        check_shape(self._checkpoint, dataset)
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
    """Return data standardized by the constants of the run in place of its own."""
    own = dataset.standardization
    if constants is None or own is None:
        return dataset

    def changed(split: Split) -> Split:
        stored = constants.transform(own.inverse_transform(split.stored))
        return replace(split, stored=stored)

    return replace(
        dataset,
        train=changed(dataset.train),
        validation=changed(dataset.validation),
        test=changed(dataset.test),
        standardization=constants,
    )
