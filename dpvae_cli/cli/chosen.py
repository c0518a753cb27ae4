"""Examples that the user names: by their number in the test split, or as picture files."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpvae_cli.data import Split
    from dpvae_cli.foundation.shapes import Codes
    from dpvae_cli.runs.loaded_run import LoadedRun


def code(found: "LoadedRun", text: str, *, option: str) -> "Codes":
    """Return the posterior mean of one example, `(1, latent)`.

    A whole number counts test examples from 0; anything else is a file, prepared as the data of
    the recipe prepares its pictures.

    Raises:
        UsageError: there is no such example, or no such picture.
    """
    import torch

    numbered = re.fullmatch(r"[+-]?[0-9]{1,18}", text)
    example = _numbered(found, int(text), option) if numbered else _picture(found, text, option)
    with torch.no_grad():
        return found.model.encode(example.examples().to(found.model.device, found.model.dtype)).mean


def _numbered(found: "LoadedRun", index: int, option: str) -> "Split":
    from dpvae_cli.data import Split
    from dpvae_cli.foundation.errors import UsageError

    test = found.load_dataset().test
    if not 0 <= index < len(test):
        raise UsageError(f"{option}: {index} is not among the {len(test)} test examples (from 0)")
    return Split(test.stored[index : index + 1])


def _picture(found: "LoadedRun", text: str, option: str) -> "Split":
    from dpvae_cli.foundation.errors import UsageError
    from dpvae_cli.foundation.text_files import path_exists

    path = Path(text)
    if not path_exists(path):
        raise UsageError(
            f"{option}: {text} is neither a number nor a file",
            hint="Name a test example by its number, from 0, or a picture by its path.",
        )
    try:
        return found.recipe.data.load_image(path)
    except UsageError as error:
        raise UsageError(f"{option}: {error}", hint=error.hint) from error
