"""What figures show of runs: read from the file beside the checkpoint, or made and kept there."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dpvae_cli.foundation.array_files import read_cache, write_cache
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.plotting.gallery import Gallery
from dpvae_cli.plotting.leakage import LeakageCurve, curve_from_metrics
from dpvae_cli.plotting.moons import PlanarModel
from dpvae_cli.runs import results_file
from dpvae_cli.runs.evaluate_run import evaluate_run
from dpvae_cli.runs.loaded_run import LoadedRun
from dpvae_cli.runs.sample_picture import example_rows
from dpvae_cli.sampling.gallery import gallery, portrait
from dpvae_cli.sampling.samples import drawable

IMAGES, ROWS = 36, 1_000
"""Samples of each kind in Figure 5: images, and other examples."""
LAYOUT = "2"
"""Version of the cached arrays."""


def with_labels(found: Sequence[LoadedRun]) -> list[tuple[LoadedRun, str]]:
    """Return runs with their recipe's name, and the seed where runs differ in it."""
    if len({run.recipe.seed for run in found}) == 1:
        return [(run, run.recipe.name) for run in found]
    return [(run, f"{run.recipe.name} seed {run.recipe.seed}") for run in found]


def portrait_data(run: LoadedRun, label: str) -> PlanarModel:
    """Return the data of a run for Figures 1 and 3, cached in portrait.npz.

    Raises:
        UsageError: the latent space or the data is not two-dimensional, or there is no z0 to draw.
    """
    aggregate = run.encoded.aggregate_posterior
    arrays = cached_arrays(
        run,
        "portrait.npz",
        lambda: portrait(run.model, aggregate(), run.load_dataset(), seed=run.recipe.seed),
    )
    return PlanarModel(label=label, prior=run.recipe.prior_name, arrays=arrays)


def gallery_data(run: LoadedRun, label: str) -> Gallery:
    """Return the samples of a run for Figure 5, cached in gallery.npz."""
    arrays = cached_arrays(run, "gallery.npz", lambda: _gallery(run))
    shown = {name: drawable(run.model, array) for name, array in arrays.items()}
    columns = run.model.units.columns
    return Gallery(label=label, prior=run.recipe.prior_name, arrays=shown, columns=columns)


def _gallery(run: LoadedRun) -> dict[str, np.ndarray]:
    """Return 36 images of each kind, or 1,000 rows and points of each kind and of the data."""
    shape = run.model.example_shape
    has_images = is_image(shape)
    arrays = gallery(
        run.model,
        run.encoded.aggregate_posterior(),
        seed=run.recipe.seed,
        pool=run.recipe.evaluation.pool,
        samples=IMAGES if has_images else ROWS,
    )
    return arrays if has_images else arrays | {"data": example_rows(run.load_dataset())}


def leakage_data(run: LoadedRun, label: str) -> LeakageCurve:
    """Return the curve of Figure 4, from metrics.json; `leak` is measured if it is missing.

    Raises:
        DpvaeError: it cannot be measured.
    """
    record = results_file.read_results(run)
    if not any(result["metric"] == "leak" for result in record.get("results", [])):
        measured, failed = evaluate_run(run, ["leak"])
        if "leak" in failed:
            raise failed["leak"]
        record = measured.to_json()  # which a folder that cannot be written to does not keep
    return curve_from_metrics(record, label=label, prior=run.recipe.prior_name)


def cached_arrays(
    run: LoadedRun, name: str, make: Callable[[], dict[str, Any]], *, key: str = ""
) -> dict[str, Any]:
    """Return arrays cached in the run folder, computed if the cache is missing or out of date.

    `key` says what they depend on besides the checkpoint.
    """
    path = run.folder.path / name
    source = run.digest + LAYOUT + key
    arrays = read_cache(path, checkpoint=source)
    if arrays is None:
        arrays = make()
        if not run.load_dataset.is_changed:
            write_cache(path, arrays, checkpoint=source)
    return arrays
