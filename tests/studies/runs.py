"""Run folders written by hand: a recipe, a log, results and pictures, without any training."""

import json
from pathlib import Path

from PIL import Image

from dpvae_cli.recipe import to_yaml
from tests.small import small_recipe


def result(metric, value, *, unit="nats", samples=50, split="train", **details):
    """Return one element of metrics.json's results."""
    return {
        "metric": metric,
        "value": value,
        "standard_error": 0.01,
        "unit": unit,
        "samples": samples,
        "seed": 0,
        "split": split,
        "weights": None,
        "details": details,
    }


def leak(scale=1.0):
    """Return a leakage record with both of its curves."""
    return result(
        "leak",
        0.02 * scale,
        value_at_quantile=0.05,
        thresholds=[-10.0, -5.0, -1.0],
        values=[None, 0.02 * scale, 0.3 * scale],
        standard_errors=[None, 0.001, 0.01],
        quantiles=[0.05, 0.25],
        quantile_values=[0.02 * scale, 0.1 * scale],
        quantile_standard_errors=[0.001, 0.01],
    )


def write_run(
    place,
    *,
    regularizer="vae",
    prior="decoupled",
    seed=0,
    results=(),
    overrides=(),
    reached=20,
    name=None,
    recipe_name=None,
    pictures=("samples.png",),
    recipe=None,
):
    """Write a run folder and return its path; `reached` of the recipe's 20 iterations."""
    recipe = recipe or small_recipe(regularizer, f"prior={prior}", f"seed={seed}", *overrides)
    folder = Path(place) / (name or f"{regularizer}_moons-{prior}-seed{seed}")
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    (folder / "metrics.jsonl").write_text(log(reached), encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps({"dpvae": "1", "device": "cpu"}))
    if results:
        write_metrics(folder, results, recipe=recipe_name or recipe.name, iteration=reached)
    for picture in pictures:
        paint(folder / picture)
    return folder


def log(reached):
    """Return metrics.jsonl up to an iteration."""
    steps = range(5, reached + 1, 5)
    lines = [{"iteration": i, "kind": "validation", "elbo": -1.0 / i} for i in steps]
    return "".join(json.dumps(line) + "\n" for line in lines)


def write_metrics(folder, results, *, recipe, iteration, checkpoint="checkpoint.pt"):
    """Write metrics.json as `dpvae eval` does."""
    record = {
        "run": folder.name,
        "checkpoint": str(folder / checkpoint),
        "checkpoint_digest": "0",
        "iteration": iteration,
        "recipe": recipe,
        "results": list(results),
    }
    (folder / "metrics.json").write_text(json.dumps(record), encoding="utf-8")


def paint(path, size=(40, 30)):
    """Write a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (30, 120, 90)).save(path)


def pairs(place, values, *, metric="skl", regularizer="vae", **options):
    """Write pairs of runs: `values` maps a seed to the metric with (standard normal, decoupled)."""
    return [
        write_run(
            place,
            regularizer=regularizer,
            prior=prior,
            seed=seed,
            results=[result(metric, value), leak(), result("active_units", 2.0, unit="dimensions")],
            **options,
        )
        for seed, both in values.items()
        for prior, value in zip(("standard_normal", "decoupled"), both, strict=True)
    ]
