"""What the recipe tests share: a minimal recipe, files, and the mistakes of a bad one."""

from pathlib import Path

import pytest

from dpvae_cli.recipe import RecipeError, load_recipe

MINIMAL = "data: moons\narchitecture: mlp\nlikelihood: gaussian\nregularizer: beta_h\n"


def written(folder: Path, text: str | bytes, name: str = "mine.yaml") -> Path:
    """Write a recipe file."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def mistakes(path: Path | str, *overrides: str) -> list[str]:
    """Return what loading complains about, without the folder."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    assert caught.value.exit_code == 2
    return [str(mistake).replace(f"{Path(path).parent}/", "") for mistake in caught.value.issues]
