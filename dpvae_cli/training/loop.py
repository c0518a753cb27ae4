"""Train a recipe in a run folder: the loop, and everything a run leaves behind."""

import shlex
import time
from pathlib import Path
from typing import Any, final

from torch import nn

from dpvae_cli.data import Dataset
from dpvae_cli.foundation import devices
from dpvae_cli.foundation.distributed import AsyncMax, process_group
from dpvae_cli.foundation.errors import InterruptedRun, UsageError
from dpvae_cli.foundation.memory import oom_context
from dpvae_cli.model import VAE
from dpvae_cli.recipe import Recipe
from dpvae_cli.recipe.schema import MIN_BATCH_SIZE
from dpvae_cli.regularizers import Term
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs import own_networks
from dpvae_cli.runs.checkpoint import Checkpoint
from dpvae_cli.runs.fit_prior import fit_recipe_prior, save_fit_record, save_fitted_prior
from dpvae_cli.runs.metrics_log import MetricsLog
from dpvae_cli.runs.paths import resolve_checkpoint, resolve_run_dir, update_latest_link
from dpvae_cli.runs.precision import Precision, refuse_device
from dpvae_cli.runs.resume import ResumePoint, load_resume_point
from dpvae_cli.runs.run_data import check_unchanged
from dpvae_cli.runs.run_folder import RunFolder
from dpvae_cli.runs.sample_picture import save_samples
from dpvae_cli.sampling.encodings import TrainingEncodings
from dpvae_cli.training import threads
from dpvae_cli.training.listener import Listener, Silent
from dpvae_cli.training.signals import stop_requests
from dpvae_cli.training.tensorboard import Board, open_board
from dpvae_cli.training.trainer import Trainer, total

LOOKED_AT, PIECE = 10_000, 500
"""Training examples that must fit the likelihood, and how many of them are in memory at a time."""
SHORTEST = 1e-9
"""Seconds; a clock may stand still."""


def train(
    recipe: Recipe,
    run_dir: Path | str,
    *,
    model: VAE | None = None,
    resume: bool = False,
    from_previous: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    data_root: Path | None = None,
    download: bool = True,
    listener: Listener | None = None,
    mark_latest: bool = False,
    dataset: Dataset | None = None,
) -> VAE:
    """Train a recipe and return the trained model.

    Args:
        recipe: what to train; with `resume`, the run folder's recipe but for
            `training.iterations`, which may grow.
        run_dir: where everything is kept; refused when not empty unless `resume` or `overwrite`.
        model: a model of one's own, trained where it stands; its encoder, decoder, likelihood and
            prior take the place of the recipe's, and the recipe that is kept says so. Resume with
            one made the same way; the saved weights go into it.
        resume: go on from `checkpoint.pt`, with the very numbers of an uninterrupted run.
        from_previous: resume from `checkpoint.previous.pt` and drop `checkpoint.pt`.
        overwrite: replace the run in the folder, once this one has its first checkpoint.
        device: auto, cpu, cuda, cuda:N or mps.
        data_root: folder to look for data in.
        download: allow a download where the data has a source.
        listener: hears of progress.
        mark_latest: let runs/latest name this run, as `dpvae train` does.
        dataset: the recipe's data, where it has been read already.

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
    if from_previous and not resume:
        raise UsageError("--from-previous is for --resume", hint="Add --resume.")
    folder = RunFolder(resolve_run_dir(run_dir))
    chosen = devices.resolve(device)
    refuse_device(recipe.training.precision, chosen)
    recipe = own_networks.recipe_for_model(recipe, model, resume=resume)
    with (
        process_group() as group,
        folder.locked(wanted=group.is_main_process),
        own_networks.preserve_rng_state(chosen, wanted=model is not None),
    ):
        if group.is_main_process:
            folder.prepare(resume=resume, overwrite=overwrite)
        group.barrier()
        start = ResumePoint(recipe, None)
        if resume:
            start = load_resume_point(folder, recipe, model=model, from_previous=from_previous)
        recipe = start.recipe
        check_divisible(recipe.training.batch_size, group.world_size)
        if dataset is None:
            dataset = recipe.data.load(data_root, download=download)
        heard = listener if listener and group.is_main_process else Silent()
        heard.loaded(dataset)
        if start.checkpoint is not None:
            check_unchanged(start.checkpoint, dataset)
        refuse_misfits(recipe, dataset, processes=group.world_size)
        if model is not None:
            own_networks.prepare(model, dataset, Precision(recipe.training.precision, chosen))
        trainer = Trainer(recipe, dataset, chosen, model, group=group)
        if start.checkpoint is not None:
            place = folder.previous if from_previous else folder.checkpoint
            with checkpoints.suggest_fallback(place):
                trainer.restore(start.checkpoint)
        trainer.refuse_strangers()
        if from_previous and group.is_main_process:
            folder.rollback()
        trainer.settle()
        with threads.limited(trainer.model, trainer.next_examples()):
            if group.is_main_process:
                folder.write_start(recipe, device=chosen, processes=group.world_size)
            with Run(trainer, folder, heard, mark_latest=mark_latest) as run:
                run.to_the_end()
        trained = trainer.trained().eval()
        if recipe.fit_prior is not None:
            trained = with_fitted_prior(trained, trainer, folder, start.checkpoint)
        if group.is_main_process:
            folder.check_lock()
            save_samples(trained, lambda: dataset, folder, seed=recipe.seed)
        return trained


def with_fitted_prior(
    model: VAE, trainer: Trainer, folder: RunFolder, start: Checkpoint | None
) -> VAE:
    """Return the trained model with the recipe's `fit_prior`, fitted now and kept.

    A run that had come to its end with a fitted prior before stays as it is; what it had not come
    to write is written.
    """
    group = trainer.group
    if start is not None and start.iteration == trainer.iteration and start.is_fitted:
        if group.is_main_process:
            save_fit_record(folder, start)
        return model.with_prior(start.fitted_prior(model)).eval()
    encoded = TrainingEncodings(model, lambda: trainer.dataset, group=group)
    aggregate = encoded.aggregate_posterior()
    fitted = fit_recipe_prior(model, aggregate, trainer.recipe)
    state = trainer.checkpoint()
    if group.is_main_process:
        folder.check_lock()
        save_fitted_prior(folder, state, fitted, aggregate)
    return model.with_prior(fitted.prior).eval()


def refuse_misfits(recipe: Recipe, dataset: Dataset, *, processes: int = 1) -> None:
    """Refuse data that the likelihood or the batch size does not fit.

    Raises:
        UsageError: says which and what to change.
    """
    for start in range(0, min(LOOKED_AT, len(dataset.train)), PIECE):
        piece = dataset.train.examples(slice(start, min(start + PIECE, LOOKED_AT)))
        complaint = recipe.likelihood.validation_error(piece)
        if complaint is not None:
            raise UsageError(f"likelihood: {complaint}")
    if recipe.training.batch_size > len(dataset.train):
        raise UsageError(
            f"training.batch_size {recipe.training.batch_size} is more than the "
            f"{len(dataset.train)} training examples",
            hint=_fitting_batch(len(dataset.train), processes),
        )


def check_divisible(batch_size: int, processes: int) -> None:
    """Check that the processes can share a global batch equally.

    Raises:
        UsageError: names the key and sizes that work.
    """
    if batch_size % processes:
        below = batch_size // processes * processes
        options = [str(n) for n in (below, below + processes) if n]
        raise UsageError(
            f"training.batch_size {batch_size} cannot be divided among {processes} processes: it "
            "is the size of the global batch",
            hint=f"Add training.batch_size={' or '.join(options)}, or start a number of processes "
            "that divides it.",
        )


def _fitting_batch(examples: int, processes: int) -> str:
    """Return the hint with a batch size that the recipe's schema and the processes accept."""
    largest = examples // processes * processes
    if largest < MIN_BATCH_SIZE:
        needed = max(MIN_BATCH_SIZE, processes)
        return f"Train on {needed} examples or more: that many make the smallest batch."
    return f"Add training.batch_size={largest} or less."


@final
class Run:
    """A training run on its way: steps, and what is due after each of them.

    Of processes that share a run every one has its own; the first alone writes and validates.
    """

    def __init__(
        self, trainer: Trainer, folder: RunFolder, listener: Listener, *, mark_latest: bool = False
    ) -> None:
        self._trainer, self._folder, self._listener = trainer, folder, listener
        self._schedule, self._group = trainer.recipe.training, trainer.group
        first = self._group.is_main_process
        done = trainer.iteration
        self._log = MetricsLog(folder.metrics_log, keep_until=done) if first else None
        wants_board = self._schedule.tensorboard and first
        self._mark_latest = mark_latest and first
        self._board: Board = open_board(folder.files, wanted=wants_board)
        self._clock, self._steps_timed = time.perf_counter(), 0
        self._saved: int | None = None

    def __enter__(self) -> "Run":
        """Announce the run."""
        self._point_latest()
        self._listener.started(
            self._folder.path,
            iteration=self._trainer.iteration,
            iterations=self._schedule.iterations,
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Close the logs."""
        if self._log is not None:
            self._log.close()
        self._board.close()

    def to_the_end(self) -> None:
        """Step until the recipe's iterations are done, or a signal asks to stop."""
        trainer, iterations = self._trainer, self._schedule.iterations
        stop_signal = AsyncMax(self._group)
        with stop_requests(patient=self._group.world_size > 1) as request:
            while trainer.iteration < iterations:
                terms = self._step()
                self._steps_timed += 1
                self._listener.stepped(trainer.iteration)
                self._do_what_is_due(terms, last=trainer.iteration == iterations)
                signal_number = stop_signal.submit(request.signal_number or 0)
                if signal_number and trainer.iteration < iterations:
                    self._stop(signal_number)
            stop_signal.result()

    def _step(self) -> dict[str, Term]:
        """Do a step; where memory runs out, say what to lower."""
        size = self._schedule.batch_size
        hint = (
            f"Lower it, to training.batch_size={max(2, size // 2)} for one, in another --run-dir; "
            "or go on on another --device. The last checkpoint is untouched."
        )
        doing = f"in a step of training.batch_size={size}"
        with oom_context(doing, hint=hint, kind=UsageError):
            return self._trainer.step()

    def _do_what_is_due(self, terms: dict[str, Term], *, last: bool) -> None:
        """Log, validate and save, in this order, when it is due and at the end."""
        iteration, schedule = self._trainer.iteration, self._schedule
        if last or iteration % schedule.log_every == 0:
            self._trainer.guard.read()
            self._record({"kind": "train", **self._losses(terms)})
        if last or iteration % schedule.validate_every == 0:
            self._validate()
        if last or iteration % schedule.checkpoint_every == 0:
            self._save()

    def _losses(self, terms: dict[str, Term]) -> dict[str, Any]:
        """Return the loss, each term plain and weighted, and the pace since the last record."""
        means = {name: term.value.detach().mean() for name, term in terms.items()}
        values = {name: float(self._group.all_reduce_mean(mean)) for name, mean in means.items()}
        weighted = {name: terms[name].weight * value for name, value in values.items()}
        pace = self._steps_timed / max(time.perf_counter() - self._clock, SHORTEST)
        self._clock, self._steps_timed = time.perf_counter(), 0
        loss = float(self._group.all_reduce_mean(total(terms).detach()))
        return {"loss": loss, "terms": values, "weighted": weighted, "steps_per_second": pace}

    def _record(self, record: dict[str, Any]) -> None:
        if self._log is None:
            return
        self._folder.check_lock()
        record = {"iteration": self._trainer.iteration, **record}
        self._log.write(record)
        self._board.write(record)
        self._listener.logged(record)

    def _validate(self) -> None:
        if not self._group.is_main_process:
            return
        record, is_best = self._trainer.validate()
        self._record({"kind": "validation", **record})
        if is_best:
            self._trainer.checkpoint().write(self._folder.best)

    def _save(self) -> None:
        """Save the state once all processes have found theirs sound."""
        folder, iteration = self._folder, self._trainer.iteration
        if self._saved == iteration:
            return
        state = self._trainer.checkpoint()
        self._group.barrier()
        self._saved = iteration
        if self._group.is_main_process:
            folder.check_lock()
            state.write(folder.checkpoint, previous=folder.previous)
            if folder.is_staged:
                self._replace_old_run()
            self._listener.saved(folder.checkpoint, iteration=iteration)

    def _replace_old_run(self) -> None:
        """Let the run take the place of the one before it, now that it has a checkpoint."""
        self._board.close()  # it opens its file by name each time
        self._folder.commit()
        wants_board = self._schedule.tensorboard
        self._board = open_board(self._folder.files, wanted=wants_board)
        self._point_latest()

    def _point_latest(self) -> None:
        if self._mark_latest and not self._folder.is_staged:
            update_latest_link(self._folder.path)

    def _stop(self, signal_number: int) -> None:
        self._save()
        self._group.barrier()
        folder = self._folder.path
        command = f"dpvae train --resume --run-dir {shlex.quote(str(folder))}"
        if own_networks.uses_own_networks(self._trainer.recipe):
            command = own_networks.resume_call(folder)
        raise InterruptedRun(
            f"stopped at iteration {self._trainer.iteration} of {self._schedule.iterations}; "
            f"saved {self._folder.checkpoint}",
            signal_number=signal_number,
            hint=f"Go on with: {command}",
        )


def load(
    path: Path | str,
    *,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    device: str = "cpu",
) -> VAE:
    """Return the trained model of a checkpoint, in evaluation mode and its run's precision.

    Args:
        path: a checkpoint file or a run folder.
        encoder: an encoder made like the one that was trained, where it was the caller's own; the
            weights go into it.
        decoder: the same of the decoder.
        device: where to put it.

    Raises:
        CheckpointError: missing, damaged, foreign or newer; or encoder and decoder are missing,
            superfluous or of other weights.
        UsageError: the device has no float64 and the run was of it.
    """
    file = resolve_checkpoint(Path(path))
    checkpoint = checkpoints.read_checkpoint(file)
    networks = own_networks.resolve_networks(file, checkpoint, encoder, decoder)
    with checkpoints.suggest_fallback(file):
        return checkpoint.model(devices.resolve(device), networks=networks)
