"""Checkpoints: tensors and one JSON text, written atomically and loaded without running any code.

Names of tensors begin with `model.`, `ema.` (averaged weights, where the recipe has training.ema),
`regularizer.`, `optimizer.`, `adversary_optimizer.`, `data.` (mean and deviation, where the data
was standardized) or `fitted.` (a prior fitted after training, where the recipe has fit_prior).
There is no generator state: all randomness is a function of the recipe's seed and the iteration.
"""

import hashlib
import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.optim import Optimizer

from dpvae_cli.data.dataset import Standardization, Units
from dpvae_cli.foundation.devices import Precision, shape_mismatch
from dpvae_cli.foundation.errors import CheckpointError, UsageError, WrongFileTypeError
from dpvae_cli.foundation.serialization import (
    MALFORMED_ERRORS,
    FileFormat,
    expect_count,
    expect_type,
)
from dpvae_cli.foundation.text import sanitize_line
from dpvae_cli.model import VAE, build
from dpvae_cli.priors import LearnedPrior, Prior
from dpvae_cli.priors.base import PriorSpec
from dpvae_cli.priors.class_conditional import build_saved_prior
from dpvae_cli.recipe import Recipe
from dpvae_cli.recipe.document import truncate
from dpvae_cli.recipe.loading import from_dict, to_dict
from dpvae_cli.runs.run_folder import BEST, CURRENT, PREVIOUS

CPU = torch.device("cpu")
RETRAIN_HINT = "Train again, or name another checkpoint."
FORMAT = FileFormat(
    format="dpvae-checkpoint",
    version=2,
    noun="checkpoint",
    make="Train a model first: dpvae train RECIPE. Packaged ones: dpvae models ls.",
    again=RETRAIN_HINT,
)
MAX_AXES = 8
DIGEST_LENGTH = 32
MOMENT_NAMES = {"step", "exp_avg", "exp_avg_sq"}


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
        model = precision.place(make())
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
            recipe=from_dict(meta["recipe"]).with_name(name),
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


def part_tensors(part: nn.Module | Optimizer) -> Mapping[str, Tensor]:
    """Return the tensors of a module or an optimizer by name."""
    return part.state_dict() if isinstance(part, nn.Module) else optimizer_tensors(part)


def load_part(part: nn.Module | Optimizer, tensors: Mapping[str, Tensor], what: str) -> None:
    """Load what `part_tensors` returned.

    Raises:
        CheckpointError: names or shapes differ.
    """
    if isinstance(part, Optimizer):
        load_optimizer(part, tensors)
    else:
        load_state_dict(part, tensors, what)


def load_state_dict(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Load a module's tensors strictly.

    Raises:
        CheckpointError: names or shapes differ.
    """
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise mismatch_error(what, str(error)) from error


def mismatch_error(what: str, reason: str) -> CheckpointError:
    """Return the error about a part of a checkpoint that is not of its recipe."""
    return CheckpointError(
        f"the checkpoint's {what} does not fit its recipe: {reason}", hint=RETRAIN_HINT
    )


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's moments as named tensors: `<parameter index>.<moment>`."""
    return {
        f"{index}.{name}": tensor
        for index, state in optimizer.state_dict()["state"].items()
        for name, tensor in state.items()
    }


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore moments; learning rates and other options come from the recipe.

    Moments get the memory layout of their parameters, whatever the layout in the file: fused
    optimizers iterate over the memory of both in parallel.

    Raises:
        CheckpointError: the tensors are not the moments of these parameters.
    """
    wrong = partial(mismatch_error, "optimizer")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        if not re.fullmatch(r"[0-9]{1,9}", index) or name not in MOMENT_NAMES:
            raise wrong(f"{truncate(key)!r} is not a moment")
        if int(index) >= len(parameters):
            raise wrong(f"{key} is of parameter {index}, there are {len(parameters)} parameters")
        parameter = parameters[int(index)]
        is_step = name == "step" and tensor.numel() == 1
        if not is_step and tensor.shape != parameter.shape:
            raise wrong(f"{key} is {tuple(tensor.shape)}, its parameter {tuple(parameter.shape)}")
        if not torch.isfinite(tensor).all():
            raise wrong(f"{key} is not finite")
        state.setdefault(int(index), {})[name] = (
            tensor.clone()
            if is_step
            else torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
        )
    if any(moments.keys() != MOMENT_NAMES for moments in state.values()):
        raise wrong("some of a parameter's moments are missing")
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def units_tensors(units: Units) -> dict[str, Tensor]:
    """Return the mean and the standard deviation of the data, where it was standardized."""
    constants = {} if units.standardization is None else units.standardization._asdict()
    return {f"data.{name}": tensor for name, tensor in constants.items()}


def load_units(
    tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, shape: tuple[int, ...]
) -> Units:
    """Return the units in the tensors and facts of a checkpoint of examples of this shape.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: they are malformed.
    """
    standardization = value_range = None
    if tensors:
        mean, deviation = tensors["mean"].double(), tensors["deviation"].double()
        if mean.shape != shape or deviation.shape != shape:
            raise ValueError(f"mean {tuple(mean.shape)} and deviation {tuple(deviation.shape)}")
        if not (mean.isfinite().all() and deviation.isfinite().all() and (deviation > 0).all()):
            raise ValueError("mean or deviation is not finite and positive")
        standardization = Standardization(mean, deviation)
    if facts["data_range"] is not None:
        low, high = map(float, expect_type(list, facts["data_range"]))
        if not -math.inf < low <= high < math.inf:
            raise ValueError(f"range {low} to {high}")
        value_range = low, high
    columns = (sanitize_line(expect_type(str, name)) for name in facts.get("data_columns", ()))
    return Units(standardization, value_range, tuple(columns))


def fallback_hint(path: Path, read: Callable[[Path], Checkpoint]) -> str | None:
    """Return what to do with a good checkpoint in the same folder; None where there is none."""
    names = (PREVIOUS, CURRENT, BEST)
    if path.name not in names:
        return None
    for other in (path.with_name(name) for name in names if name != path.name):
        with suppress(CheckpointError):
            checkpoint = read(other)
            break
    else:
        return None
    found = f"{other.name} beside it is whole (iteration {checkpoint.iteration:,}): "
    use = f"name it, {shlex.quote(str(other))}"
    if other.name == BEST:
        return f"{found}{use}."
    folder, is_previous = str(other.parent), other.name == PREVIOUS
    if checkpoint.recipe.architecture.kind == "own":
        mode = "resume_previous" if is_previous else "resume"
        resume = f"dpvae.train(recipe, {folder!r}, model=..., mode={mode!r})"
    else:
        option = " --from-previous" if is_previous else ""
        resume = f"dpvae train --resume{option} --run-dir {shlex.quote(folder)}"
    return f"{found}{use}, or go on from it: {resume}"
