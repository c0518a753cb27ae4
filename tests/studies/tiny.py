"""Studies that take a second."""

from pathlib import Path

import yaml

from dpvae_cli.studies.loading import load_study
from dpvae_cli.studies.plan import make_plan
from tests.small import SMALL


def written(folder: Path, **changes) -> Path:
    """Write a tiny study of two cells to a file; a change to None leaves the key out."""
    study = {
        "title": "Tiny",
        "recipes": ["vae_moons"],
        "axes": {"prior": ["standard_normal", "decoupled"], "seed": [0]},
        "overrides": {key: yaml.safe_load(value) for key, _, value in map(parts, SMALL)},
        "metrics": ["skl", "manifold"],
        **changes,
    }
    path = folder / "tiny.yaml"
    kept = {key: value for key, value in study.items() if value is not None}
    path.write_text(yaml.safe_dump(kept, sort_keys=False))
    return path


def parts(override):
    return override.partition("=")


def planned(folder: Path, *overrides: str, **changes):
    """Return the plan of a tiny study kept in the folder."""
    path = written(folder, **changes)
    return make_plan(load_study(str(path), overrides), studies=folder / "studies")
