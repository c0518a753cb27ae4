"""Checkpoints: tensors and one JSON text, written whole or not at all, loaded without executing.

A checkpoint file is what `torch.save` makes of `{"json": str, "tensors": {name: tensor}}`. Names
begin with `model.`, `ema.` (averaged weights, where the recipe has training.ema), `regularizer.`,
`optimizer.` or `adversary_optimizer.`. There is no generator state: all randomness is a function of
the recipe's seed and the iteration.
"""

import hashlib
import json
import pickle
import shlex
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, final

import torch
from torch import Tensor, nn

from dpvae_cli.foundation.errors import CheckpointError, UsageError
from dpvae_cli.foundation.files import write_atomically
from dpvae_cli.foundation.memory import ran_out
from dpvae_cli.model import VAE, build
from dpvae_cli.recipe import Recipe
from dpvae_cli.recipe.dump import from_dict, to_dict
from dpvae_cli.training.precision import Precision
from dpvae_cli.version import __version__

FORMAT = "dpvae-checkpoint"
VERSION = 1
CPU = torch.device("cpu")
RETRAIN = "Train again, or name another checkpoint."
CURRENT, PREVIOUS, BEST = "checkpoint.pt", "checkpoint.previous.pt", "best.pt"
"""The checkpoints of a run folder."""
ZIP = b"PK\x03\x04"
"""What a file of torch.save begins with."""


@final
@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    `facts` is JSON: the data set's name, note and fingerprint, the best validation ELBO so far, and
    the classes of an encoder and a decoder of the caller's own.
    """

    recipe: Recipe
    iteration: int
    example_shape: tuple[int, ...]
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with `prefix` and a dot, without it."""
        start = prefix + "."
        return {
            name.removeprefix(start): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(start)
        }

    def write(self, path: Path, *, previous: Path | None = None) -> None:
        """Write the file atomically; what was there is kept as `previous`, where that is named."""
        text = json.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "dpvae": __version__,
                "torch": torch.__version__,
                "recipe_name": self.recipe.name,
                "recipe": to_dict(self.recipe),
                "iteration": self.iteration,
                "example_shape": list(self.example_shape),
                "facts": dict(self.facts),
            },
            allow_nan=False,
        )
        tensors = {name: tensor.detach().cpu() for name, tensor in self.tensors.items()}
        content = {"json": text, "tensors": tensors}
        write_atomically(path, lambda file: torch.save(content, file), previous=previous)

    def model(
        self, device: torch.device = CPU, *, networks: tuple[nn.Module, nn.Module] | None = None
    ) -> VAE:
        """Return the trained model, in evaluation mode: averaged weights where there are any.

        Args:
            device: where to put it.
            networks: encoder and decoder to load into, where they are the caller's own.

        Raises:
            CheckpointError: its tensors are not those of its recipe.
            UsageError: the device has no float64 and the run was of it.
        """
        training = self.recipe.training
        precision = Precision(training.precision, device)
        built = build(self.recipe, example_shape=self.example_shape, networks=networks)
        model = precision.placed(built)
        load_tensors(model, self.part("model" if training.ema is None else "ema"), "model")
        return model.eval()


def read(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in the file can execute.

    Raises:
        CheckpointError: missing, damaged, foreign, or of a newer version; offers a good one that
            lies beside it.
    """
    with offering_another(path):
        return _read(path)


def _read(path: Path) -> Checkpoint:
    content = _content(path)
    try:
        meta = json.loads(content["json"])
        _refuse_foreign(path, meta)
        return Checkpoint(
            recipe=from_dict(meta["recipe"]).named(meta["recipe_name"]),
            iteration=int(meta["iteration"]),
            example_shape=tuple(int(size) for size in meta["example_shape"]),
            tensors={str(name): _tensor(value) for name, value in content["tensors"].items()},
            facts=dict(meta["facts"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, UsageError) as error:
        raise CheckpointError(
            f"{path} is a PyTorch file but no dpvae checkpoint", hint=RETRAIN
        ) from error


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"a {type(value).__name__} among the tensors")
    return value


def _content(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            _refuse_damage(path, file)
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(
            f"there is no checkpoint at {path}", hint="Train a model first: dpvae train RECIPE."
        ) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is no dpvae checkpoint: it holds more than tensors and text",
            hint=RETRAIN,
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror or error}", hint=RETRAIN
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        if ran_out(error):
            raise
        raise CheckpointError(f"{path} is damaged or no checkpoint", hint=RETRAIN) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is a PyTorch file but no dpvae checkpoint", hint=RETRAIN)
    return content


def _refuse_damage(path: Path, file: BinaryIO) -> None:
    """Compare every part of the file with its checksum, which `torch.load` does not look at."""
    head = file.read(len(ZIP))
    if head != ZIP:
        what = "is empty" if not head else "is no dpvae checkpoint, or its beginning is damaged"
        raise CheckpointError(f"{path} {what}", hint=RETRAIN)
    try:
        with zipfile.ZipFile(file) as archive:
            wrong = archive.testzip()
    except MemoryError:
        raise
    except Exception as error:  # a damaged table of contents raises all kinds of errors
        raise CheckpointError(f"{path} is damaged: cut short or changed", hint=RETRAIN) from error
    if wrong is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of {wrong} is wrong", hint=RETRAIN)


@contextmanager
def offering_another(path: Path) -> Iterator[None]:
    """Let an error about a run's checkpoint name the file, and a good one that lies beside it.

    Raises:
        CheckpointError: what was raised inside, with what to type next.
    """
    try:
        yield
    except CheckpointError as error:
        named = str(error) if str(path) in str(error) else f"{path}: {error}"
        hints = filter(None, (_offer(path), error.hint))
        raise CheckpointError(named, hint="\n".join(hints) or None) from error


def _offer(path: Path) -> str | None:
    """Return what to do with a good checkpoint beside this one; None where there is none."""
    names = (PREVIOUS, CURRENT, BEST)
    if path.name not in names:
        return None
    for beside in (path.with_name(name) for name in names if name != path.name):
        with suppress(CheckpointError):
            return _told(beside, _read(beside))
    return None


def _told(path: Path, checkpoint: Checkpoint) -> str:
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


def _refuse_foreign(path: Path, meta: Mapping[str, Any]) -> None:
    if meta["format"] != FORMAT:
        raise CheckpointError(f"{path} is no dpvae checkpoint", hint=RETRAIN)
    version = meta["version"]
    if version > VERSION:
        raise CheckpointError(
            f"{path} was written by a newer dpvae (checkpoint version {version}, "
            f"this one reads up to {VERSION})",
            hint="Upgrade: pip install --upgrade dpvae-cli.",
        )


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Load a module's tensors strictly.

    Raises:
        CheckpointError: names or shapes differ.
    """
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise CheckpointError(
            f"the checkpoint's {what} does not fit its recipe: {error}", hint=RETRAIN
        ) from error


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
        CheckpointError: the moments are of more parameters than there are.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        if int(index) >= len(parameters):
            raise CheckpointError(
                f"the checkpoint's optimizer has moments of parameter {index}, the model "
                f"{len(parameters)} parameters",
                hint=RETRAIN,
            )
        like = parameters[int(index)]
        is_moment = tensor.shape == like.shape
        if tensor.dim() and not is_moment:
            raise CheckpointError(
                f"the checkpoint's optimizer has {name} of shape {tuple(tensor.shape)} for a "
                f"parameter of shape {tuple(like.shape)}",
                hint=RETRAIN,
            )
        kept = (
            torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)
            if is_moment
            else tensor.clone()
        )
        state.setdefault(int(index), {})[name] = kept
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def file_digest(path: Path) -> str:
    """Return a digest of a file's content: what results and caches belong to."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
