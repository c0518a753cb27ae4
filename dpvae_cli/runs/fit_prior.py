"""Fit a prior to the codes of a trained model and save both in one checkpoint."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dpvae_cli.data import Dataset
from dpvae_cli.fitting.fit import FittedPrior, fit_model_prior
from dpvae_cli.fitting.prior_file import FitRecord
from dpvae_cli.foundation import devices
from dpvae_cli.foundation.array_files import write_cache
from dpvae_cli.foundation.distributed import ProcessGroup
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.files import write_json
from dpvae_cli.foundation.text import read_json
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.recipe import Recipe
from dpvae_cli.recipe.loading import with_overrides
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs import own_networks
from dpvae_cli.runs.checkpoint import Checkpoint
from dpvae_cli.runs.loaded_run import RunData, python_warning, resolve_checkpoint
from dpvae_cli.runs.metrics_log import MetricsLog
from dpvae_cli.runs.run_folder import RunFolder, resolve_run_dir, update_latest_link
from dpvae_cli.runs.sample_picture import save_comparison, save_samples
from dpvae_cli.sampling.samples import TrainingEncodings

NOT_EMPTY_HINT = "Add --overwrite to replace it, or --out for another folder."
FIT_SUFFIX = re.compile(r"-fit_[a-z_]+$")


def fit_recipe_prior(
    model: VAE, aggregate: AggregatePosterior, recipe: Recipe, load_dataset: Callable[[], Dataset]
) -> FittedPrior:
    """Fit the recipe's `fit_prior` to the codes of a model and compare it with its own prior.

    The data is only read where the prior is given labels.
    """
    assert recipe.fit_prior is not None
    return fit_model_prior(
        model,
        aggregate,
        recipe.fit_prior,
        fitting=recipe.fitting,
        seed=recipe.seed,
        labels=None if recipe.fitting.given is None else load_dataset().class_labels(),
    )


def fit_after_training(
    folder: RunFolder,
    checkpoint: Checkpoint,
    model: VAE,
    dataset: Dataset,
    *,
    start: Checkpoint | None,
    group: ProcessGroup,
) -> VAE:
    """Return a trained model with its recipe's `fit_prior`, fitted to its codes and saved.

    A run that was complete with a fitted prior before stays as it is; missing files are written.

    `start` is what the run was resumed from; the ranks of the group encode the data together.
    """
    if start is not None and start.iteration == checkpoint.iteration and start.is_fitted:
        if group.is_main_process:
            save_fit_record(folder, start)
        return model.with_prior(start.fitted_prior(model)).eval()
    aggregate = TrainingEncodings(model, lambda: dataset, group=group).aggregate_posterior()
    fitted = fit_recipe_prior(model, aggregate, checkpoint.recipe, lambda: dataset)
    if group.is_main_process:
        folder.check_lock()
        save_fitted_prior(folder, checkpoint, fitted, aggregate)
    return model.with_prior(fitted.prior).eval()


def save_fitted_prior(
    folder: RunFolder,
    checkpoint: Checkpoint,
    fitted: FittedPrior,
    aggregate: AggregatePosterior | None,
) -> None:
    """Write a trained state with its fitted prior and the record of the fit to a run folder.

    The codes are cached as the encodings of the checkpoint, if given.
    """
    checkpoint = checkpoint.with_fitted(fitted.prior, fitted.record.to_dict())
    checkpoint.write(folder.checkpoint)
    save_fit_record(folder, checkpoint)
    if aggregate is None:
        return
    names = ("mean", "log_variance")
    arrays = {name: getattr(aggregate, name).to(fitted.dtype).cpu().numpy() for name in names}
    with suppress(UsageError):  # a cache that cannot be written costs only time
        cache = folder.checkpoint.with_suffix(".encodings.npz")
        write_cache(cache, arrays, checkpoint=checkpoints.file_digest(folder.checkpoint))


def save_fit_record(folder: RunFolder, checkpoint: Checkpoint) -> None:
    """Write the record of the fit in a checkpoint to fit.json and metrics.jsonl, if missing.

    This completes a run that was killed before it wrote them.
    """
    record = checkpoint.facts.get("fit")
    if not isinstance(record, dict):
        return
    if read_json(folder.fit) != record:
        write_json(folder.fit, record)
    line = {"iteration": checkpoint.iteration, "kind": "fit"}
    line |= {name: record.get(name) for name in ("prior", "gain")}
    if line not in MetricsLog.read(folder.metrics_log):
        log = MetricsLog(folder.metrics_log, keep_until=checkpoint.iteration)
        log.write(line)
        log.close()


def fit_run(
    path: Path | None,
    prior: str,
    overrides: Sequence[str] = (),
    *,
    run_dir: Path | None = None,
    best: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    data_root: Path | None = None,
    download: bool = True,
    mark_latest: bool = False,
    warn: Callable[[str], None] = python_warning,
) -> tuple[RunFolder, FitRecord]:
    """Fit a prior to a trained model's codes and save both as a new run.

    The rest of the checkpoint is unchanged, so the new run can be resumed, too. The gain is over
    the prior of the given run, trained or fitted.

    Args:
        path: a checkpoint, a run folder, or None for the latest run.
        prior: a word or a section, as `fit_prior=` takes it.
        overrides: `fitting.KEY=VALUE`.
        run_dir: the new run's folder; by default the old one's name and `-fit_<kind>`.
        best: of a run folder take best.pt.
        overwrite: replace the run in the new folder, once the prior is fitted.
        device: auto, cpu, cuda, cuda:N or mps.
        data_root: folder to look for data in, where there are no encodings beside the checkpoint.
        download: allow a download where the data has a source.
        mark_latest: let runs/latest name the new run, unless its prior is clearly worse.
        warn: called if the data is not what the run was trained on.

    Raises:
        CheckpointError: missing, corrupt, of another format, or of own networks.
        UsageError: an option is wrong, or the new folder is in use or not empty.
        MissingError: the data is needed and missing.
        DivergedError: the likelihood is no longer finite.
    """
    file = resolve_checkpoint(path, best=best)
    checkpoint = checkpoints.read_checkpoint(file)
    own_networks.resolve_networks(file, checkpoint, None, None)
    recipe = with_overrides(checkpoint.recipe, [f"fit_prior={prior}"])
    recipe = with_overrides(recipe, overrides, section="fitting")
    with checkpoints.suggest_fallback(file):
        model = checkpoint.model(devices.resolve(device), as_trained=not checkpoint.is_fitted)
    new = run_dir or default_fit_dir(file, recipe.final_prior.kind)
    folder = RunFolder(resolve_run_dir(new))
    if folder.path.resolve() == file.parent.resolve():
        raise UsageError(
            f"{folder.path} is the folder of the model itself", hint="Name another with --out."
        )
    load_dataset = RunData(checkpoint, lambda: recipe.data.load(data_root, download=download), warn)
    cache, key = file.with_suffix(".encodings.npz"), checkpoint.digest
    with folder.lock():
        folder.prepare(overwrite=overwrite or folder.is_unfinished, hint=NOT_EMPTY_HINT)
        encoded = TrainingEncodings(model, load_dataset, path=cache, key=key)
        aggregate = encoded.aggregate_posterior()
        fitted = fit_recipe_prior(model, aggregate, recipe, load_dataset)
        folder.check_lock()
        if not folder.is_staged:
            folder.stage()  # a killed fit leaves no partial run
        folder.write_start(recipe, device=model.device)
        RunFolder(file.parent).copy_metrics_log(folder)
        state = replace(checkpoint, recipe=recipe)
        save_fitted_prior(folder, state, fitted, None if load_dataset.is_changed else aggregate)
        repaired = model.with_prior(fitted.prior)
        save_samples(repaired, load_dataset, folder, seed=recipe.seed)
        save_comparison(model, repaired, aggregate, folder, seed=recipe.seed)
        if not overwrite:
            folder.mark_unfinished()
        folder.commit()
        if mark_latest and not fitted.record.is_clear_loss:
            update_latest_link(folder.path)
        folder.finish()
    return folder, fitted.record


def default_fit_dir(checkpoint: Path, kind: str) -> Path:
    """Return the default folder for a run with a prior of this kind fitted to it."""
    run = Path(checkpoint).resolve().parent
    return run.with_name(f"{FIT_SUFFIX.sub('', run.name)}-fit_{kind}")
