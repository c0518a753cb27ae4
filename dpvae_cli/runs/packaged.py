"""Trained models that come with the package: `models/NAME.safetensors`.

Each is a checkpoint without its optimizers, with the codes of the first training examples, so that
q(z) needs no data. Where a run is asked for, its name means `runs/NAME`, an ordinary run folder
that the model is unpacked into on first use.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dpvae_cli.foundation.array_files import write_cache
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.files import copy_file, write_text
from dpvae_cli.foundation.text import path_exists
from dpvae_cli.runs.checkpoint import Checkpoint, file_digest, read_checkpoint
from dpvae_cli.runs.run_folder import RunFolder

MODELS = Path(__file__).resolve().parents[1] / "models"
SUFFIX = ".safetensors"
MAX_CODES = 5_000
CODES, LOG = ("mean", "log_variance"), "log"


def packaged_names() -> list[str]:
    """Return the names of the packaged models."""
    return sorted(path.stem for path in MODELS.glob(f"*{SUFFIX}"))


def resolve_packaged(path: Path | str) -> Path | None:
    """Return the file of a packaged model; None if `path` is there, or names none of them."""
    name = str(path)
    is_packaged = name in packaged_names() and not path_exists(name)
    return MODELS / f"{name}{SUFFIX}" if is_packaged else None


def unpack(file: Path, folder: Path) -> None:
    """Make a run folder of a packaged model, unless it is one already.

    Raises:
        UsageError: there is another run, or the folder cannot be written to.
    """
    run = RunFolder(folder)
    if run.checkpoint.is_file():
        if file_digest(run.checkpoint) != file_digest(file):
            raise UsageError(
                f"{folder} is another run than the packaged model {file.stem}",
                hint=f"Name it by its path, ./{folder}, or move it away.",
            )
        return
    checkpoint = read_checkpoint(file)
    codes = {name: tensor.numpy() for name, tensor in checkpoint.part("codes").items()}
    run.write_start(checkpoint.recipe, device=torch.device("cpu"))
    lines = (json.dumps(record) + "\n" for record in checkpoint.facts.get(LOG, ()))
    write_text(run.metrics_log, "".join(lines))
    encodings = run.checkpoint.with_suffix(".encodings.npz")
    write_cache(encodings, codes, checkpoint=checkpoint.digest)
    copy_file(file, run.checkpoint)  # last: from now on it is a run


def package(
    checkpoint: Checkpoint,
    mean: torch.Tensor,
    log_variance: torch.Tensor,
    *,
    log: Iterable[Mapping[str, Any]] = (),
) -> Checkpoint:
    """Return what is packaged of a finished run: weights, recipe, first codes, validations."""
    weights = "model" if checkpoint.recipe.training.ema is None else "ema"
    kept = (f"{weights}.", "data.", "fitted.")
    tensors = {name: each for name, each in checkpoint.tensors.items() if name.startswith(kept)}
    for name, codes in zip(CODES, (mean, log_variance), strict=True):
        tensors[f"codes.{name}"] = codes[:MAX_CODES].float().cpu()
    facts = dict(checkpoint.facts)
    facts[LOG] = [dict(record) for record in log if record["kind"] == "validation"]
    if len(mean) > MAX_CODES:
        note = f"q(z) is over the first {MAX_CODES:,} of {len(mean):,} training examples"
        facts["data_note"] = "; ".join(filter(None, (facts.get("data_note"), note)))
    return replace(checkpoint, tensors=tensors, facts=facts)
