"""Checkpoints: tensors and one JSON text, written whole or not at all, loaded without executing.

Names of tensors begin with `model.`, `ema.` (averaged weights, where the recipe has training.ema),
`regularizer.`, `optimizer.`, `adversary_optimizer.`, `data.` (mean and deviation, where the data
was standardized) or `fitted.` (a prior fitted after training, where the recipe has fit_prior).
There is no generator state: all randomness is a function of the recipe's seed and the iteration.
"""

import hashlib
import math
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from dpvae_cli.data.units import Standardization, Units
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
from dpvae_cli.priors.standardized import match_saved_prior
from dpvae_cli.recipe import Recipe
from dpvae_cli.recipe.dump import from_dict, to_dict
from dpvae_cli.recipe.mistakes import shortened
from dpvae_cli.runs.precision import Precision

CPU = torch.device("cpu")
RETRAIN_HINT = "Train again, or name another checkpoint."
FORMAT = FileFormat(
    format="dpvae-checkpoint",
    version=1,
    noun="checkpoint",
    make="Train a model first: dpvae train RECIPE.",
    again=RETRAIN_HINT,
)
CURRENT, PREVIOUS, BEST = "checkpoint.pt", "checkpoint.previous.pt", "best.pt"
"""The checkpoints of a run folder."""
MOMENT_NAMES = {"step", "exp_avg", "exp_avg_sq"}
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
        """Return the tensors whose names begin with `prefix` and a dot, without it."""
        return select_prefix(prefix, self.tensors)

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
        tensors = self.part("model" if training.ema is None else "ema")

        def make() -> VAE:
            model = build(self.recipe, example_shape=self.example_shape, networks=networks)
            # a prior that was fitted to codes of the caller's and then trained on is standardised
            model.prior = match_saved_prior(model.prior, select_prefix("prior", tensors))
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
        """Return the units of the training data; an old checkpoint knows none of arrays.

        Raises:
            CheckpointError: they are not of examples of this shape.
        """
        known = None if self.recipe.data.kind == "arrays" else [0.0, 1.0]  # as all images are kept
        try:
            return Units(
                _standardization(self.part("data"), self.example_shape),
                _value_range(self.facts.get("data_range", known)),
                tuple(
                    sanitize_line(expect_type(str, name))
                    for name in self.facts.get("data_columns", ())
                ),
            )
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
        spec = self._fitted_spec(asked)
        built = spec.build(model.latent_dim, model.encoder, model.example_shape)
        prior = match_saved_prior(built, fitted).to(next(model.parameters()))
        load_state_dict(prior, fitted, "fitted prior")
        return prior.eval()

    def _fitted_spec(self, asked: PriorSpec) -> PriorSpec:
        """Return the fitted prior's section: as the recipe asked, with what the fit has chosen.

        Raises:
            CheckpointError: the record of the fit is none.
        """
        try:
            chosen = self.facts["fit"].get("spec") or asked
            spec: PriorSpec = TypeAdapter[Any](LearnedPrior).validate_python(chosen)
        except MALFORMED_ERRORS as error:
            raise CheckpointError(
                "the checkpoint's record of the fit does not say which prior was fitted",
                hint=RETRAIN_HINT,
            ) from error
        return spec


def select_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix` and a dot, without it."""
    start = prefix + "."
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in the file can execute.

    Raises:
        CheckpointError: missing, damaged, foreign, or of a newer version; offers a good one that
            lies beside it.
    """
    with suggest_fallback(path):
        return _read(path)


def _read(path: Path) -> Checkpoint:
    meta, tensors, digest = FORMAT.read(path)
    try:
        return Checkpoint(
            recipe=from_dict(meta["recipe"]).named(
                sanitize_line(expect_type(str, meta["recipe_name"]))
            ),
            iteration=expect_count(meta["iteration"]),
            example_shape=_shape(meta["example_shape"]),
            tensors=tensors,
            facts=expect_type(dict, meta["facts"]),
            digest=digest[:DIGEST_LENGTH],
        )
    except (*MALFORMED_ERRORS, UsageError) as error:
        raise FORMAT.wrong_format(path) from error


def _shape(value: Any) -> tuple[int, ...]:
    shape = tuple(map(expect_count, expect_type(list, value)))
    if len(shape) > MAX_AXES or 0 in shape:
        raise ValueError(f"{shape} is the shape of no example")
    return shape


def units_facts(units: Units) -> dict[str, Any]:
    """Return what the facts of a checkpoint say of the units of the data."""
    value_range = None if units.value_range is None else list(units.value_range)
    return {"data_range": value_range, "data_columns": list(units.columns)}


def units_tensors(units: Units) -> dict[str, Tensor]:
    """Return what the tensors of a checkpoint say of the units of the data."""
    return {} if units.standardization is None else units.standardization._asdict()


def _standardization(
    tensors: Mapping[str, Tensor], shape: tuple[int, ...]
) -> Standardization | None:
    if not tensors:
        return None
    mean, deviation = tensors["mean"].double(), tensors["deviation"].double()
    if mean.shape != shape or deviation.shape != shape:
        raise ValueError(f"mean {tuple(mean.shape)} and deviation {tuple(deviation.shape)}")
    if not (mean.isfinite().all() and deviation.isfinite().all() and (deviation > 0).all()):
        raise ValueError("mean or deviation is not finite and positive")
    return Standardization(mean, deviation)


def _value_range(ends: Any) -> tuple[float, float] | None:
    if ends is None:
        return None
    low, high = map(float, expect_type(list, ends))
    if not -math.inf < low <= high < math.inf:
        raise ValueError(f"range {low} to {high}")
    return low, high


@contextmanager
def suggest_fallback(path: Path) -> Iterator[None]:
    """Let an error about a run's checkpoint name the file, and a good one that lies beside it.

    Raises:
        CheckpointError: what was raised inside, with what to type next.
    """
    try:
        yield
    except WrongFileTypeError:
        raise
    except CheckpointError as error:
        named = str(error) if str(path) in str(error) else f"{path}: {error}"
        hints = filter(None, (_find_fallback(path), error.hint))
        raise CheckpointError(named, hint="\n".join(hints) or None) from None


def _find_fallback(path: Path) -> str | None:
    """Return what to do with a good checkpoint beside this one; None where there is none."""
    names = (PREVIOUS, CURRENT, BEST)
    if path.name not in names:
        return None
    for beside in (path.with_name(name) for name in names if name != path.name):
        with suppress(CheckpointError):
            return _fallback_hint(beside, _read(beside))
    return None


def _fallback_hint(path: Path, checkpoint: Checkpoint) -> str:
    """Return what can be typed with a good checkpoint."""
    named = f"{path.name} beside it is whole (iteration {checkpoint.iteration:,}): "
    use = f"name it, {shlex.quote(str(path))}"
    if path.name == BEST:
        return f"{named}{use}."
    folder, is_previous = str(path.parent), path.name == PREVIOUS
    if checkpoint.recipe.architecture.kind == "own":
        word = ", from_previous=True" if is_previous else ""
        go_on = f"dpvae.train(recipe, {folder!r}, model=..., resume=True{word})"
    else:
        word = " --from-previous" if is_previous else ""
        go_on = f"dpvae train --resume{word} --run-dir {shlex.quote(folder)}"
    return f"{named}{use}, or go on from it: {go_on}"


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
    """Return the error that stored tensors are not those of the recipe."""
    return CheckpointError(
        f"the checkpoint's {what} does not fit its recipe: {reason}", hint=RETRAIN_HINT
    )


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's moments as named tensors: `<parameter index>.<moment>`."""
    return {
        f"{index}.{name}": tensor
        for index, state in optimizer.state_dict()["state"].items()
        for name, tensor in state.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put moments back; step sizes and the like come from the recipe.

    A moment is laid out as its parameter is, whatever the file has: fused optimizers walk through
    the memory of both side by side.

    Raises:
        CheckpointError: they are no moments of these parameters.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = _moment(key, len(parameters))
        state.setdefault(index, {})[name] = _match_layout(key, tensor, parameters[index])
    if any(moments.keys() != MOMENT_NAMES for moments in state.values()):
        raise _optimizer_mismatch("some of a parameter's moments are missing")
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _moment(key: str, parameters: int) -> tuple[int, str]:
    """Return the parameter's index and the moment's name.

    Raises:
        CheckpointError: it is no moment of any of so many parameters.
    """
    index, _, name = key.partition(".")
    if not re.fullmatch(r"[0-9]{1,9}", index) or name not in MOMENT_NAMES:
        raise _optimizer_mismatch(f"{shortened(key)!r} is no moment")
    if int(index) >= parameters:
        raise _optimizer_mismatch(
            f"{key} is of parameter {index}, the model has {parameters} parameters"
        )
    return int(index), name


def _match_layout(key: str, tensor: Tensor, like: Tensor) -> Tensor:
    """Return a copy with the memory layout of its parameter; a count of steps is one number."""
    is_count = key.endswith(".step") and tensor.numel() == 1
    if not is_count and tensor.shape != like.shape:
        raise _optimizer_mismatch(
            f"{key} is {tuple(tensor.shape)}, its parameter {tuple(like.shape)}"
        )
    if not torch.isfinite(tensor).all():
        raise _optimizer_mismatch(f"{key} is not finite")
    if is_count:
        return tensor.clone()
    return torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)


def _optimizer_mismatch(problem: str) -> CheckpointError:
    return CheckpointError(f"the checkpoint's optimizer does not fit: {problem}", hint=RETRAIN_HINT)


def file_digest(path: Path) -> str:
    """Return a digest of a file's content: what results and caches belong to."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_LENGTH]
