"""Load a run: where its checkpoint is, its model and its data; every command but `train` does."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from torch import nn

from dpvae_cli.data import Arrays, Dataset, Split
from dpvae_cli.data.dataset import Standardization
from dpvae_cli.foundation import devices
from dpvae_cli.foundation.distributed import current_process_group
from dpvae_cli.foundation.memoize import memoize
from dpvae_cli.model import VAE
from dpvae_cli.recipe import Recipe
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs import own_networks
from dpvae_cli.runs.checkpoint import Checkpoint
from dpvae_cli.runs.packaged import resolve_packaged, unpack
from dpvae_cli.runs.run_folder import (
    BEST,
    CURRENT,
    RUNS,
    RunFolder,
    follow_links,
    latest_run_dir,
    read_latest,
)
from dpvae_cli.runs.start import check_dataset_shape, describe_difference
from dpvae_cli.sampling.samples import TrainingEncodings


def resolve_run(path: Path | str) -> Path:
    """Return the folder of runs/latest or of a packaged model, unpacked; other paths stay."""
    place = read_latest(path)
    if (model := resolve_packaged(place)) is None:
        return place
    unpack(model, RUNS / model.stem)
    return RUNS / model.stem


def resolve_checkpoint(path: Path | None, *, best: bool = False) -> Path:
    """Return the checkpoint file that a path means.

    Args:
        path: the file, a run folder, a packaged model (unpacked into `runs/NAME`), or None for the
            latest run.
        best: of a run folder take best.pt.
    """
    place = latest_run_dir() if path is None else resolve_run(path)
    if place.is_dir():
        return follow_links(place) / (BEST if best else CURRENT)
    return follow_links(place.parent) / place.name


def python_warning(message: str) -> None:
    """Issue a Python warning."""
    warnings.warn(message, stacklevel=2)


@final
class RunData:
    """A run's data, read on first use and compared with the data it was trained on.

    Other data of the same shape is used with a warning and standardized by the constants of the
    run; results have a note.
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

    def restandardize(split: Split) -> Split:
        return replace(split, stored=constants.transform(own.inverse_transform(split.stored)))

    return replace(
        dataset,
        train=restandardize(dataset.train),
        validation=restandardize(dataset.validation),
        test=restandardize(dataset.test),
        standardization=constants,
    )


@final
@dataclass(frozen=True)
class LoadedRun:
    """A model with its recipe, its data (read on first use) and its encodings (cached)."""

    path: Path
    digest: str
    iteration: int
    recipe: Recipe
    model: VAE
    load_dataset: RunData
    encoded: TrainingEncodings
    data_note: str | None
    """Why results on this training data cannot be compared with published ones."""

    @property
    def units_note(self) -> str | None:
        """Return a note where examples are not in the units of the data."""
        data = self.recipe.data
        is_standardized = isinstance(data, Arrays) and data.scale == "standardize"
        if not is_standardized or self.model.units.standardization is not None:
            return None
        return (
            f"{self.path} was written by a version that did not save the mean and deviation of the "
            "data: examples are in standardized units."
        )

    @property
    def folder(self) -> RunFolder:
        """Return the run folder the checkpoint lies in."""
        return RunFolder(self.path.parent)

    @property
    def label(self) -> str:
        """Return the run folder's name."""
        return self.path.resolve().parent.name


def load_run(
    path: Path | None,
    *,
    best: bool = False,
    device: str = "auto",
    data_root: Path | None = None,
    download: bool = True,
    load_dataset: Callable[[], Dataset] | None = None,
    warn: Callable[[str], None] = python_warning,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
) -> LoadedRun:
    """Load a checkpoint file, the checkpoint of a run folder, or with None of the latest run.

    Args:
        path: the checkpoint file, the run folder, or a packaged model.
        best: of a run folder take best.pt.
        device: where to put the model.
        data_root: folder to look for data in.
        download: allow a download where the data has a source.
        load_dataset: returns the recipe's data instead of reading it.
        warn: called if the data is not what the run was trained on.
        encoder: made like the one that was trained, where it was the caller's own.
        decoder: the same of the decoder.

    Raises:
        CheckpointError: missing, corrupt, of another format or newer; or encoder and decoder are
            missing, superfluous or of other weights.
        UsageError: the run is of float64 and the device has none.
    """
    file = resolve_checkpoint(path, best=best)
    checkpoint = checkpoints.read_checkpoint(file)
    networks = own_networks.resolve_networks(file, checkpoint, encoder, decoder)
    with checkpoints.suggest_fallback(file):
        model = checkpoint.model(devices.resolve(device), networks=networks)
    data = RunData(
        checkpoint,
        load_dataset or (lambda: checkpoint.recipe.data.load(data_root, download=download)),
        warn,
    )
    cache, digest = file.with_suffix(".encodings.npz"), checkpoint.digest
    note = checkpoint.facts.get("data_note")
    return LoadedRun(
        path=file,
        digest=digest,
        iteration=checkpoint.iteration,
        recipe=checkpoint.recipe,
        model=model,
        load_dataset=data,
        encoded=TrainingEncodings(
            model, data, path=cache, key=digest, group=current_process_group()
        ),
        data_note=note if isinstance(note, str) else None,
    )


def load(
    path: Path | str,
    *,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    device: str = "cpu",
) -> VAE:
    """Return the trained model of a checkpoint, in evaluation mode and its run's precision.

    Args:
        path: a checkpoint file, a run folder, or a packaged model.
        encoder: an encoder made like the one that was trained, where it was the caller's own; the
            weights go into it.
        decoder: the same of the decoder.
        device: where to put it.

    Raises:
        CheckpointError: missing, damaged, foreign or newer; or encoder and decoder are missing,
            superfluous or of other weights.
        UsageError: the device has no float64 and the run was of it.

    Example:
        >>> import dpvae_cli as dpvae
        >>> dpvae.load("beta_h_moons-decoupled").sample(4).shape
        torch.Size([4, 2])
    """
    file = resolve_packaged(path) or Path(path)
    return load_run(file, device=device, encoder=encoder, decoder=decoder).model
