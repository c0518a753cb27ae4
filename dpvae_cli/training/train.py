"""Train a recipe in a run folder: the loop around the optimizer steps."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, get_args

from dpvae_cli.data import Dataset
from dpvae_cli.foundation import devices
from dpvae_cli.foundation.distributed import AsyncMax, ProcessGroup, process_group
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.memory import oom_context
from dpvae_cli.model import VAE
from dpvae_cli.recipe import Recipe
from dpvae_cli.regularizers import Term
from dpvae_cli.runs import own_networks
from dpvae_cli.runs.checkpoint import Checkpoint, suggest_fallback
from dpvae_cli.runs.fit_prior import fit_recipe_prior
from dpvae_cli.runs.paths import resolve_run_dir
from dpvae_cli.runs.precision import Precision, check_device_precision
from dpvae_cli.runs.resume import ResumePoint, load_resume_point
from dpvae_cli.runs.run_data import check_unchanged
from dpvae_cli.runs.run_folder import RunFolder
from dpvae_cli.sampling.encodings import TrainingEncodings
from dpvae_cli.training.callback import Callback
from dpvae_cli.training.checks import check_data, check_divisible, check_ranks_agree
from dpvae_cli.training.compilation import compiled, should_compile
from dpvae_cli.training.recorder import Recorder
from dpvae_cli.training.signals import graceful_shutdown
from dpvae_cli.training.threads import cpu_threads
from dpvae_cli.training.trainer import Trainer, weighted_loss

TrainMode = Literal["new", "resume", "resume_previous", "overwrite"]


def fit(trainer: Trainer, recorder: Recorder) -> None:
    """Step until the recipe's iterations are done; log, validate and save when it is due.

    Raises:
        InterruptedRun: a signal asked for a stop; the state was saved.
    """
    state, settings, group = trainer.state, trainer.recipe.training, trainer.group
    clock, first_timed = time.perf_counter(), state.iteration
    stop_signal = AsyncMax(group)
    with graceful_shutdown(repeatable=group.world_size > 1) as request:
        while state.iteration < settings.iterations:
            terms = trainer.step()
            iteration, is_last = state.iteration, state.iteration == settings.iterations
            recorder.step(iteration)
            if is_last or iteration % settings.log_every == 0:
                trainer.finite_check.check_past_losses()
                seconds, clock = time.perf_counter() - clock, time.perf_counter()
                pace, first_timed = (iteration - first_timed) / max(seconds, 1e-9), iteration
                record = {"kind": "train", **mean_terms(terms, group), "steps_per_second": pace}
                recorder.log({"iteration": iteration, **record})
            if recorder.is_active and (is_last or iteration % settings.validate_every == 0):
                record, is_best = trainer.validate()
                recorder.log({"iteration": iteration, "kind": "validation", **record})
                if is_best:
                    recorder.save_best(trainer.checkpoint())
            signal_number = stop_signal.submit(request.signal_number or 0)
            if is_last or signal_number or iteration % settings.checkpoint_every == 0:
                checkpoint = trainer.checkpoint()
                group.barrier()  # once the state of every rank is finite
                recorder.save(checkpoint)
            if signal_number and not is_last:
                group.barrier()
                raise recorder.interruption(trainer.recipe, iteration, signal_number)
        stop_signal.result()


def mean_terms(terms: Mapping[str, Term], group: ProcessGroup) -> dict[str, Any]:
    """Return the loss and each term, plain and weighted, of the global batch."""
    means = {name: term.value.detach().mean() for name, term in terms.items()}
    values = {name: float(group.all_reduce_mean(mean)) for name, mean in means.items()}
    weighted = {name: terms[name].weight * value for name, value in values.items()}
    loss = float(group.all_reduce_mean(weighted_loss(terms).detach()))
    return {"loss": loss, "terms": values, "weighted": weighted}


def train(
    recipe: Recipe,
    run_dir: Path | str,
    *,
    mode: TrainMode = "new",
    model: VAE | None = None,
    dataset: Dataset | Callable[[], Dataset] | None = None,
    device: str = "auto",
    callback: Callback | None = None,
) -> VAE:
    """Train a recipe and return the trained model.

    Args:
        recipe: what to train; on a resume, the run folder's recipe but for
            `training.iterations`, which may grow.
        run_dir: the run folder.
        mode: `new` starts a run in a new or empty folder; `resume` goes on from its
            `checkpoint.pt`, with the numbers of an uninterrupted run; `resume_previous` goes on
            from `checkpoint.previous.pt` and drops `checkpoint.pt`; `overwrite` replaces the run
            in the folder, once this one has its first checkpoint.
        model: a model of one's own, trained where it stands; its encoder, decoder, likelihood and
            prior take the place of the recipe's, and the recipe that is kept says so. Resume with
            one made the same way; the saved weights go into it.
        dataset: the recipe's data, or a function that loads it; by default it is looked for, and
            downloaded where it has a source, as `recipe.data.load()` does.
        device: auto, cpu, cuda, cuda:N or mps.
        callback: called on progress.

    Returns:
        The model, in evaluation mode; where the recipe has training.ema a copy with the averaged
        weights, while a model that was given keeps its own.

    Raises:
        UsageError: the folder is in use, not empty, or was moved or deleted meanwhile; or recipe
            or model do not fit the data.
        CheckpointError: a run to resume is of networks of the caller's own and no model is given,
            or the other way round.
        MissingError: the data is not there.
        DivergedError: a loss or a weight is not finite.
        InterruptedRun: a signal asked for a stop; the state was saved.

    Example:
        >>> import dpvae_cli as dpvae
        >>> recipe = dpvae.load_recipe("vae_moons", ["training.iterations=20"])
        >>> model = dpvae.train(recipe, "runs/try")  # doctest: +SKIP
    """
    if mode not in (modes := get_args(TrainMode)):
        raise UsageError(f"mode is {mode!r}", hint=f"Use one of {', '.join(modes)}.")
    resume, from_previous = mode.startswith("resume"), mode == "resume_previous"
    run = RunFolder(resolve_run_dir(run_dir))
    where = devices.resolve(device)
    check_device_precision(recipe.training.precision, where)
    recipe = own_networks.recipe_for_model(recipe, model, resume=resume)
    with (
        process_group() as group,
        run.locked(wanted=group.is_main_process),
        own_networks.preserve_rng_state(where, wanted=model is not None),
    ):
        recorder = Recorder(run, group, callback or Callback())
        recorder.prepare(resume=resume, overwrite=mode == "overwrite")
        group.barrier()
        start = ResumePoint(recipe, None)
        if resume:
            start = load_resume_point(run, recipe, model=model, from_previous=from_previous)
        recipe = start.recipe
        check_divisible(recipe.training.batch_size, group.world_size)
        if dataset is None:
            dataset = recipe.data.load()
        elif not isinstance(dataset, Dataset):
            dataset = dataset()
        recorder.on_data_loaded(dataset)
        if start.checkpoint is not None:
            check_unchanged(start.checkpoint, dataset)
        check_data(recipe, dataset, processes=group.world_size)
        if model is not None:
            own_networks.prepare(model, dataset, Precision(recipe.training.precision, where))
        trainer = Trainer(recipe, dataset, where, model, group=group)
        state = trainer.state
        if start.checkpoint is not None:
            with suggest_fallback(run.previous if from_previous else run.checkpoint):
                state.restore(start.checkpoint)
        check_ranks_agree(group, recipe, trainer.fingerprint, state.iteration)
        if from_previous:
            recorder.rollback()
        if state.is_compiled is None:
            state.is_compiled = should_compile(
                recipe.training.compile, where, processes=group.world_size
            )
        batch_size = recipe.training.batch_size
        local_size = batch_size // group.world_size
        x = trainer.precision.batch(trainer.split.examples(slice(0, local_size)))
        with (
            cpu_threads(state.model, local_size),
            compiled(state.model, x, enabled=state.is_compiled),
            closing(recorder),
            oom_context(
                f"in a step of training.batch_size={batch_size}",
                hint=f"Lower it, to training.batch_size={max(2, batch_size // 2)} for example, in "
                "another --run-dir; or continue on another --device. The last checkpoint is "
                "untouched.",
                kind=UsageError,
            ),
        ):
            recorder.start(recipe, where, state.iteration)
            fit(trainer, recorder)
        trained = state.trained_model.eval()
        if recipe.fit_prior is not None:
            trained = with_fitted_prior(trained, trainer, recorder, start.checkpoint)
        recorder.save_samples(trained, dataset, seed=recipe.seed)
        return trained


def with_fitted_prior(
    model: VAE, trainer: Trainer, recorder: Recorder, start: Checkpoint | None
) -> VAE:
    """Return the trained model with the recipe's `fit_prior`, fitted now and saved.

    A run that was complete with a fitted prior before stays as it is; missing files are written.
    """
    if start is not None and start.iteration == trainer.state.iteration and start.is_fitted:
        recorder.save_fit_record(start)
        return model.with_prior(start.fitted_prior(model)).eval()
    encodings = TrainingEncodings(model, lambda: trainer.dataset, group=trainer.group)
    aggregate = encodings.aggregate_posterior()
    fitted = fit_recipe_prior(model, aggregate, trainer.recipe, lambda: trainer.dataset)
    recorder.save_fitted(trainer.checkpoint(), fitted, aggregate)
    return model.with_prior(fitted.prior).eval()
