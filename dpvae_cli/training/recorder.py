"""What a run leaves behind: logs, checkpoints, a sample picture; rank 0 alone records it."""

import shlex
import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec, final

import torch

from dpvae_cli.data import Dataset
from dpvae_cli.foundation.distributed import ProcessGroup
from dpvae_cli.foundation.errors import InterruptedRun
from dpvae_cli.foundation.progress import report_progress
from dpvae_cli.model import VAE
from dpvae_cli.recipe import Recipe
from dpvae_cli.runs import own_networks
from dpvae_cli.runs.checkpoint import Checkpoint
from dpvae_cli.runs.metrics_log import MetricsLog
from dpvae_cli.runs.run_folder import RunFolder
from dpvae_cli.runs.sample_picture import save_samples
from dpvae_cli.runs.start import TrainMode
from dpvae_cli.training.events import Callback
from dpvae_cli.training.trackers import Trackers

P = ParamSpec("P")


def main_process_only(
    method: Callable[Concatenate["Recorder", P], None],
) -> Callable[Concatenate["Recorder", P], None]:
    """Make a method do nothing on every rank but 0."""

    @wraps(method)
    def wrapper(self: "Recorder", /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.is_active:
            method(self, *args, **kwargs)

    return wrapper


def describe_step(record: Mapping[str, Any]) -> str:
    """Return pace, loss and terms of a record, as shown beside the progress."""
    terms = "  ".join(f"{name} {value:.4g}" for name, value in record["terms"].items())
    return f"{record['steps_per_second']:.0f} steps/s  loss {record['loss']:.4g}  {terms}"


@final
class Recorder:
    """Writes the files of a run and calls the callback."""

    def __init__(self, run: RunFolder, group: ProcessGroup, callback: Callback) -> None:
        self.is_active = group.is_main_process
        self._run, self._group, self._callback = run, group, callback
        self._rolls_back = False
        self._log: MetricsLog | None = None
        self._trackers: Trackers | None = None
        self._recipe: dict[str, Any] = {}
        self._iterations, self._text = 0, ""
        self._last_logged = 0
        self._clock = 0.0

    def prepare(self, mode: TrainMode) -> None:
        """Check and clean up the run folder while the other ranks wait."""
        self._rolls_back = mode == "resume_previous"
        if self.is_active:
            self._run.prepare(resume=mode.startswith("resume"), overwrite=mode == "overwrite")
        self._group.barrier()

    @main_process_only
    def on_data_loaded(self, dataset: Dataset) -> None:
        """Call the callback."""
        self._callback.on_data_loaded(dataset)

    @main_process_only
    def start(self, recipe: Recipe, device: torch.device, iteration: int) -> None:
        """Write recipe and environment and open the logs, without records after `iteration`.

        Where the run goes on from the previous checkpoint, the last one is dropped.
        """
        if self._rolls_back:
            self._run.rollback()
        self._run.write_start(recipe, device=device, processes=self._group.world_size)
        self._log = MetricsLog(self._run.metrics_log, keep_until=iteration)
        if names := recipe.training.active_trackers:
            self._trackers = Trackers(names)
            self._recipe = recipe.model_dump(mode="json")
            if not self._run.is_staged:
                self._trackers.open(self._run.path, self._recipe)
        self._iterations = recipe.training.iterations
        self._last_logged, self._clock = iteration, time.perf_counter()
        self._callback.on_train_start(
            self._run.path, iteration=iteration, iterations=self._iterations
        )

    @main_process_only
    def step(self, iteration: int) -> None:
        """Report the step, with the terms that were logged last, and call the callback."""
        report_progress("training", iteration, self._iterations, self._text)
        self._callback.on_step(iteration)

    @main_process_only
    def log_terms(self, iteration: int, means: Mapping[str, Any]) -> None:
        """Log the terms of a step, and the optimizer steps per second since the last ones."""
        now, steps = time.perf_counter(), iteration - self._last_logged
        pace = steps / max(now - self._clock, 1e-9)
        self._last_logged, self._clock = iteration, now
        record = {"iteration": iteration, "kind": "train", **means, "steps_per_second": pace}
        self._text = describe_step(record)
        self.log(record)

    @main_process_only
    def log(self, record: Mapping[str, Any]) -> None:
        """Write a record to metrics.jsonl and the trackers."""
        assert self._log is not None
        self._run.check_lock()
        self._log.write(dict(record))
        if self._trackers is not None:
            self._trackers.write(record)
        self._callback.on_log(record)

    @main_process_only
    def save_best(self, checkpoint: Checkpoint) -> None:
        """Write best.pt."""
        checkpoint.write(self._run.best)

    @main_process_only
    def save(self, checkpoint: Checkpoint) -> None:
        """Write checkpoint.pt; the first one lets the run replace the one it overwrites."""
        self._run.check_lock()
        checkpoint.write(self._run.checkpoint, previous=self._run.previous)
        if self._run.is_staged:
            self._run.commit()
            if self._trackers is not None:  # in a folder that stays
                self._trackers.open(self._run.path, self._recipe)
        self._callback.on_checkpoint(self._run.checkpoint, iteration=checkpoint.iteration)

    @main_process_only
    def close(self) -> None:
        """Close the logs, where they are open."""
        if self._log is not None:
            self._log.close()
        if self._trackers is not None:
            self._trackers.close()

    @main_process_only
    def save_samples(self, model: VAE, dataset: Dataset, *, seed: int) -> None:
        """Draw samples.png."""
        self._run.check_lock()
        save_samples(model, lambda: dataset, self._run, seed=seed)

    def interruption(self, recipe: Recipe, iteration: int, signal_number: int) -> InterruptedRun:
        """Return the error of a run that a signal has stopped, after its state was saved."""
        path = self._run.path
        command = f"dpvae train --resume --run-dir {shlex.quote(str(path))}"
        if recipe.architecture.kind == "own":
            command = own_networks.resume_call(path)
        return InterruptedRun(
            f"stopped at iteration {iteration} of {recipe.training.iterations}; "
            f"saved {self._run.checkpoint}",
            signal_number=signal_number,
            hint=f"Continue with: {command}",
        )
