"""Checkpoints: tensors and one JSON text, written atomically and loaded without running any code.

Names of tensors begin with `model.`, `ema.` (averaged weights, where the recipe has training.ema),
`regularizer.`, `optimizer.`, `adversary_optimizer.`, `data.` (mean and deviation, where the data
was standardized) or `fitted.` (a prior fitted after training, where the recipe has fit_prior).
There is no generator state: all randomness is a function of the recipe's seed and the iteration.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from dpvae_cli.data.units import Units
from dpvae_cli.foundation.allocation import shape_mismatch
from dpvae_cli.foundation.errors import CheckpointError, UsageError, WrongFileTypeError
from dpvae_cli.foundation.sanitize import sanitize_line
from dpvae_cli.foundation.serialization import (
    MALFORMED_ERRORS,
    FileFormat,
    expect_count,
    expect_type,
)
from dpvae_cli.model import VAE, build
from dpvae_cli.priors import LearnedPrior, Prior
from dpvae_cli.priors.base import PriorSpec
from dpvae_cli.priors.class_conditional import build_saved_prior
from dpvae_cli.recipe import Recipe
from dpvae_cli.recipe.dump import to_dict
from dpvae_cli.recipe.loading import from_dict
from dpvae_cli.runs.checkpoint_tensors import (
    RETRAIN_HINT,
    load_state_dict,
    load_units,
    mismatch_error,
)
from dpvae_cli.runs.fallback import fallback_hint
from dpvae_cli.runs.precision import Precision

CPU = torch.device("cpu")
FORMAT = FileFormat(
    format="dpvae-checkpoint",
    version=2,
    noun="checkpoint",
    make="Train a model first: dpvae train RECIPE. Packaged ones: dpvae models ls.",
    again=RETRAIN_HINT,
)
MAX_AXES = 8
DIGEST_LENGTH = 32


@final
@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    `facts` is JSON: the data set's name, note, digests, range of values and names of columns, the
    best validation ELBO so far, and the classes of an encoder and a decoder of the caller's own.
    """

    recipe: Recipe
    iteration: int
    example_shape: tuple[int, ...]
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    """Of the file that it was read from, as `file_digest` gives it."""

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with `prefix` and a dot, without this beginning."""
        start = prefix + "."
        return {
            name.removeprefix(start): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(start)
        }

    def write(self, path: Path, *, previous: Path | None = None) -> None:
        """Write the file atomically; what was there is kept as `previous`, where that is named."""
        meta = {
            "recipe_name": self.recipe.name,
            "recipe": to_dict(self.recipe),
            "iteration": self.iteration,
            "example_shape": list(self.example_shape),
            "facts": dict(self.facts),
        }
        FORMAT.write(path, meta, self.tensors, previous=previous)

    @property
    def is_fitted(self) -> bool:
        """Tell whether it holds a prior fitted after training."""
        return bool(self.part("fitted"))

    def with_fitted(self, prior: Prior, record: Mapping[str, Any]) -> "Checkpoint":
        """Return the same state with a prior fitted to its codes, and the record of the fit."""
        others = {k: v for k, v in self.tensors.items() if not k.startswith("fitted.")}
        fitted = {f"fitted.{name}": tensor for name, tensor in prior.state_dict().items()}
        return replace(self, tensors=others | fitted, facts={**self.facts, "fit": dict(record)})

    def model(
        self,
        device: torch.device = CPU,
        *,
        networks: tuple[nn.Module, nn.Module] | None = None,
        as_trained: bool = False,
    ) -> VAE:
        """Return the model, in evaluation mode: averaged weights where there are any.

        Args:
            device: where to put it.
            networks: encoder and decoder to load into, where they are the caller's own.
            as_trained: with the prior it was trained with, whether another was fitted or not.

        Raises:
            CheckpointError: its tensors are not those of its recipe, or its recipe fits a prior
                after training and training had not come to that.
            UsageError: the device has no float64 and the run was of it.
        """
        training = self.recipe.training
        precision = Precision(training.precision, device)
        weights = "model" if training.ema is None else "ema"
        tensors = self.part(weights)

        def make() -> VAE:
            model = build(
                self.recipe,
                example_shape=self.example_shape,
                networks=networks,
                check_memory=False,  # weights of these shapes are in memory already
            )
            # a prior that was fitted to given codes and then trained on is standardised
            model.prior = build_saved_prior(
                self.recipe.prior,
                self.part(f"{weights}.prior"),
                model.latent_dim,
                model.encoder,
                model.example_shape,
            )
            return model

        if networks is None and (mismatch := shape_mismatch(make, tensors)) is not None:
            raise mismatch_error("model", mismatch)
        model = precision.placed(make())
        load_state_dict(model, tensors, "model")
        model.units = self.units()
        if self.recipe.fit_prior is not None and not as_trained:
            model = model.with_prior(self.fitted_prior(model))
        return model.eval()

    def units(self) -> Units:
        """Return the units of the training data; an old checkpoint of arrays has none.

        Raises:
            CheckpointError: they do not fit examples of this shape.
        """
        try:
            # checkpoints of images by older versions lack the range: it is [0, 1]
            known = None if self.recipe.data.kind == "arrays" else [0.0, 1.0]
            facts = {"data_range": known} | dict(self.facts)
            return load_units(self.part("data"), facts, shape=self.example_shape)
        except MALFORMED_ERRORS as error:
            raise CheckpointError(
                f"the checkpoint's units of the data cannot be used: {error}", hint=RETRAIN_HINT
            ) from error

    def fitted_prior(self, model: VAE) -> Prior:
        """Return the prior that was fitted to the codes of this model.

        Raises:
            CheckpointError: none was.
        """
        asked, fitted = self.recipe.fit_prior, self.part("fitted")
        if asked is None or not fitted:
            raise CheckpointError(
                f"this is the state at iteration {self.iteration:,}, and the prior of its recipe's "
                "fit_prior is fitted after the last",
                hint="Finish the run (dpvae train --resume), or fit a prior to this state: "
                "dpvae fit-prior CKPT.",
            )
        try:  # the record of the fit has the spec with the values that the fit chose
            chosen = self.facts["fit"].get("spec") or asked
            spec: PriorSpec = TypeAdapter[Any](LearnedPrior).validate_python(chosen)
        except MALFORMED_ERRORS as error:
            raise CheckpointError(
                "the checkpoint's record of the fit does not say which prior was fitted",
                hint=RETRAIN_HINT,
            ) from error
        prior = build_saved_prior(
            spec, fitted, model.latent_dim, model.encoder, model.example_shape
        ).to(next(model.parameters()))
        load_state_dict(prior, fitted, "fitted prior")
        return prior.eval()


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in the file can execute.

    Raises:
        CheckpointError: missing, corrupt, not a checkpoint, or of a newer version; names a good
            checkpoint in the same folder.
    """
    with suggest_fallback(path):
        return _read(path)


def _read(path: Path) -> Checkpoint:
    meta, tensors, digest = FORMAT.read(path)
    try:
        shape = tuple(map(expect_count, expect_type(list, meta["example_shape"])))
        if len(shape) > MAX_AXES or 0 in shape:
            raise ValueError(f"{shape} is not a valid example shape")
        name = sanitize_line(expect_type(str, meta["recipe_name"]))
        return Checkpoint(
            recipe=from_dict(meta["recipe"]).named(name),
            iteration=expect_count(meta["iteration"]),
            example_shape=shape,
            tensors=tensors,
            facts=expect_type(dict, meta["facts"]),
            digest=digest[:DIGEST_LENGTH],
        )
    except (*MALFORMED_ERRORS, UsageError) as error:
        raise FORMAT.wrong_format(path) from error


@contextmanager
def suggest_fallback(path: Path) -> Iterator[None]:
    """Add the path to an error about a run's checkpoint, and name a good one in the same folder.

    Raises:
        CheckpointError: the error from inside the block, with a hint.
    """
    try:
        yield
    except WrongFileTypeError:
        raise
    except CheckpointError as error:
        message = str(error) if str(path) in str(error) else f"{path}: {error}"
        hints = filter(None, (fallback_hint(path, _read), error.hint))
        raise CheckpointError(message, hint="\n".join(hints) or None) from None


def file_digest(path: Path) -> str:
    """Return the digest of a file: results and caches name the checkpoint they belong to by it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_LENGTH]
