"""The checkpoints of a run folder, and which of them can replace one that cannot be read."""

import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dpvae_cli.foundation.errors import CheckpointError

if TYPE_CHECKING:
    from dpvae_cli.runs.checkpoint import Checkpoint

CURRENT, PREVIOUS, BEST = "checkpoint.pt", "checkpoint.previous.pt", "best.pt"


def fallback_hint(path: Path, read: Callable[[Path], "Checkpoint"]) -> str | None:
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
