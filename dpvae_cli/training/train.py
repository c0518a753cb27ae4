"""Train a recipe: the loss, the optimizer steps, and the loop that logs, validates and saves."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from dpvae_cli.data import Dataset
from dpvae_cli.data.dataset import EpochSampler
from dpvae_cli.evaluation.kl import validate
from dpvae_cli.foundation import devices
from dpvae_cli.foundation.devices import Precision
from dpvae_cli.foundation.distributed import SINGLE_PROCESS, AsyncMax, ProcessGroup, process_group
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.shapes import Codes, Examples, Indices, LocalExamples, Scalar
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.model import VAE, build
from dpvae_cli.recipe import Recipe
from dpvae_cli.regularizers import Batch, Regularizer, Term, build_regularizer
from dpvae_cli.regularizers.base import DataSizes, mean_terms, weighted_loss
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs import own_networks, start
from dpvae_cli.runs.checkpoint import Checkpoint
from dpvae_cli.runs.fit_prior import fit_after_training
from dpvae_cli.runs.run_folder import RunFolder, resolve_run_dir
from dpvae_cli.training import execution
from dpvae_cli.training.ema import EMA
from dpvae_cli.training.events import Callback, graceful_shutdown
from dpvae_cli.training.execution import FiniteCheck, clip_gradients
from dpvae_cli.training.recorder import Recorder


@final
class Objective(nn.Module):
    """The training loss of a VAE under a regularizer: what DDP, autocast and compile apply to."""

    def __init__(
        self, model: VAE, regularizer: Regularizer, group: ProcessGroup, precision: Precision
    ) -> None:
        super().__init__()
        self.model, self._group, self._autocast = model, group, precision.autocast()
        self._regularizer = (regularizer,)  # hidden from DDP, which would take the discriminator

    def forward(
        self, x: Examples, noise: torch.Generator, iteration: int
    ) -> tuple[Scalar, dict[str, Term], Codes]:
        """Return the loss in nats per example, its terms and the codes, the last two detached."""
        posterior, z = self.encode(x, noise)
        with self._autocast:
            decoded = self.model.decoder(z)
        reconstruction = -self.model.likelihood.log_prob(x, decoded.to(x.dtype))
        batch = Batch(posterior, z, self.model.prior, iteration, noise, self._group)
        terms = {"reconstruction": Term(reconstruction, 1.0)} | self._regularizer[0](batch)
        detached = {name: Term(term.value.detach(), term.weight) for name, term in terms.items()}
        return weighted_loss(terms), detached, z.detach()

    def encode(self, x: Examples, noise: torch.Generator) -> tuple[DiagonalGaussian, Codes]:
        """Return q(z|x) and a draw of each example, the same for any number of processes."""
        with self._autocast:
            posterior = self.model.encode(x)
        mean, log_variance = posterior.mean.to(x.dtype), posterior.log_variance.to(x.dtype)
        shape = (len(mean) * self._group.world_size, *mean.shape[1:])
        draws = torch.randn(shape, generator=noise, dtype=mean.dtype, device=mean.device)
        posterior = DiagonalGaussian(mean, log_variance)
        return posterior, posterior.reparameterise(draws[self._group.local_slice(len(draws))])


@dataclass
class TrainState:
    """Everything that changes during training; random numbers follow from seed and iteration."""

    model: VAE
    regularizer: Regularizer
    optimizer: Optimizer
    adversary_optimizer: Optimizer | None
    ema: EMA | None
    is_compiled: bool
    iteration: int = 0
    best_elbo: float | None = None

    @property
    def trained_model(self) -> VAE:
        """The model for use: the averaged one where the recipe asks for it."""
        return self.model if self.ema is None else self.ema.model

    def parts(self) -> dict[str, nn.Module | Optimizer]:
        """Return all that has weights or moments, by its name in a checkpoint."""
        ema = self.ema and self.ema.model
        modules = {"model": self.model, "regularizer": self.regularizer, "ema": ema}
        optimizers = {"optimizer": self.optimizer, "adversary_optimizer": self.adversary_optimizer}
        return {k: part for k, part in {**modules, **optimizers}.items() if part is not None}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint."""
        tensors = {name: checkpoints.part_tensors(part) for name, part in self.parts().items()}
        return {f"{name}.{k}": v for name, part in tensors.items() for k, v in part.items()}

    def load_state_dict(self, checkpoint: Checkpoint) -> None:
        """Load the state of a checkpoint of the same recipe."""
        for name, part in self.parts().items():
            checkpoints.load_part(part, checkpoint.part(name), name)
        self.iteration = checkpoint.iteration
        best, is_compiled = (checkpoint.facts.get(key) for key in ("best_elbo", "compiled"))
        self.best_elbo = best if isinstance(best, float) else None
        self.is_compiled = is_compiled if isinstance(is_compiled, bool) else self.is_compiled


@final
@dataclass(eq=False, repr=False)
class Trainer:
    """Takes the optimizer steps of a recipe; the ranks of a group share every batch.

    `model`, if given, is trained in place of what the recipe builds.
    """

    recipe: Recipe
    dataset: Dataset
    device: torch.device
    model: InitVar[VAE | None] = None
    group: ProcessGroup = field(default=SINGLE_PROCESS, kw_only=True)

    def __post_init__(self, model: VAE | None) -> None:
        recipe, dataset, group = self.recipe, self.dataset, self.group
        training, self.split = recipe.training, dataset.train.to(self.device)
        self.precision = Precision(training.precision, self.device)
        if model is None:
            model = build(recipe, example_shape=dataset.example_shape)
        else:
            own_networks.prepare(model, dataset, self.precision)
        model = self.precision.place(execution.convert_sync_batch_norm(model, group))
        model.units = dataset.units
        sizes = DataSizes(training.batch_size, len(self.split))
        regularizer = build_regularizer(recipe.regularizer, model.latent_dim, sizes, recipe.seed)
        self.local_size = training.batch_size // group.world_size
        start.check_training_memory(model, regularizer, self.local_size)
        self.precision.place(regularizer)
        optimizer = Adam(model.parameters(), lr=training.learning_rate, fused=True)
        ema = None if training.ema is None else EMA(model, training.ema)
        is_compiled = execution.should_compile(training.compile, self.device, group.world_size)
        self.state = TrainState(model, regularizer, optimizer, None, ema, is_compiled)
        self.objective = Objective(model, regularizer, group, self.precision)
        is_own = recipe.architecture.kind == "own"
        self._loss = execution.data_parallel(self.objective, group, static_graph=not is_own)
        if (adversary := regularizer.adversary) is not None:
            self._adversary_loss = execution.data_parallel(adversary, group)
            rate, weights = adversary.learning_rate, adversary.parameters()
            self.state.adversary_optimizer = Adam(weights, lr=rate, fused=True)
        self.finite_check = FiniteCheck(self.state.parts().values(), self.device)
        self.facts = start.data_facts(dataset)
        if is_own:
            own_networks.seed_each_call(self.objective, recipe.seed, rank=group.rank)
            self.facts |= own_networks.network_facts(model)
        size, seed = training.batch_size, recipe.seed
        self.sampler, self._second_sampler = (
            EpochSampler(len(self.split), size, seed=seed, name=name, device=self.device)
            for name in ("order", "second order")
        )

    def batch(self, index: Indices, noise: torch.Generator) -> LocalExamples:
        """Return this rank's examples of a global batch."""
        rows = self.group.local_slice(len(index))
        return self.split.training_batch(index, noise, rows=rows).to(self.precision.dtype)

    def step(self) -> dict[str, Term]:
        """Take one optimizer step and return its terms, of this rank's share and on the device."""
        state, iteration = self.state, self.state.iteration
        noise = stream(self.recipe.seed, "noise", iteration, device=self.device)
        x = self.batch(self.sampler.batch(iteration), noise)
        terms: dict[str, Term]
        loss, terms, z = self._loss(x, noise, iteration)
        self._descend(state.optimizer, loss, terms)
        if state.adversary_optimizer is not None:
            with torch.no_grad():
                x = self.batch(self._second_sampler.batch(iteration), noise)
                _, z_other = self.objective.encode(x, noise)
            loss = self._adversary_loss(z, z_other, generator=noise, group=self.group)
            adversary = {"adversary": Term(loss.detach())}
            self._descend(state.adversary_optimizer, loss, adversary)
            terms |= adversary
        state.iteration += 1
        if state.ema is not None:
            state.ema.update(state.iteration)
        return terms

    def _descend(self, optimizer: Optimizer, loss: Scalar, terms: Mapping[str, Term]) -> None:
        """Take a step down the gradient of a loss that is finite."""
        self.finite_check.check_loss(self.state.iteration + 1, loss, terms)
        optimizer.zero_grad()
        loss.backward()
        if (max_norm := self.recipe.training.gradient_clip) is not None:
            clip_gradients(optimizer.param_groups[0]["params"], max_norm)
        optimizer.step()

    def validate(self) -> tuple[dict[str, Any], bool]:
        """Return the validation record and whether its ELBO is the best so far."""
        self.finite_check.check_weights(self.state.iteration)
        record = validate(self.state.trained_model, self.dataset, seed=self.recipe.seed)
        is_best = self.state.best_elbo is None or record["elbo"] > self.state.best_elbo
        if is_best:
            self.state.best_elbo = record["elbo"]
        return record, is_best

    def checkpoint(self) -> Checkpoint:
        """Return the state of the run, the same on all ranks; weights must be finite."""
        state = self.state
        self.finite_check.check_weights(state.iteration)
        facts = {**self.facts, "best_elbo": state.best_elbo, "compiled": state.is_compiled}
        tensors = state.state_dict() | checkpoints.units_tensors(self.dataset.units)
        return Checkpoint(self.recipe, state.iteration, self.dataset.example_shape, tensors, facts)

    def fit(self, recorder: Recorder) -> None:
        """Step until the recipe's iterations are done; log, validate and save when it is due.

        Raises:
            InterruptedRun: a signal asked for a stop; the state was saved.
        """
        state, training, group = self.state, self.recipe.training, self.group
        x = self.split.examples(slice(0, self.local_size)).to(self.precision.dtype)
        with (
            execution.execution(state.model, x, training.batch_size, is_compiled=state.is_compiled),
            closing(recorder),
            graceful_shutdown(repeatable=group.world_size > 1) as request,
        ):
            recorder.start(self.recipe, self.device, state.iteration)
            stop_signal = AsyncMax(group)
            while state.iteration < training.iterations:
                terms = self.step()
                iteration, is_last = state.iteration, state.iteration == training.iterations
                recorder.step(iteration)
                if is_last or iteration % training.log_every == 0:
                    self.finite_check.check_past_losses()
                    recorder.log_terms(iteration, mean_terms(terms, group))
                if recorder.is_active and (is_last or iteration % training.validate_every == 0):
                    record, is_best = self.validate()
                    recorder.log({"iteration": iteration, "kind": "validation", **record})
                    if is_best:
                        recorder.save_best(self.checkpoint())
                signal_number = stop_signal.submit(request.signal_number or 0)
                if is_last or signal_number or iteration % training.checkpoint_every == 0:
                    checkpoint = self.checkpoint()
                    group.barrier()  # once the state of every rank is finite
                    recorder.save(checkpoint)
                if signal_number and not is_last:
                    group.barrier()
                    raise recorder.interruption(self.recipe, iteration, signal_number)
            stop_signal.result()


def train(
    recipe: Recipe,
    run_dir: Path | str,
    *,
    mode: start.TrainMode = "new",
    model: VAE | None = None,
    dataset: Dataset | Callable[[], Dataset] | None = None,
    device: str = "auto",
    callback: Callback | None = None,
) -> VAE:
    """Train a recipe and return the trained model, in evaluation mode.

    Args:
        recipe: what to train; on a resume the run's own, but `training.iterations` may grow.
        run_dir: the run folder.
        mode: `new` needs a new or empty folder; `resume` goes on from `checkpoint.pt`, with the
            numbers of an uninterrupted run; `resume_previous` goes on from `checkpoint.previous.pt`
            and drops the other; `overwrite` replaces the run here, at its first checkpoint.
        model: a model of one's own, trained where it stands; its encoder, decoder, likelihood and
            prior replace the recipe's. A resume loads the saved weights into it. With training.ema
            it keeps its own weights, and a copy with the averaged ones is returned.
        dataset: the data, or a function that loads it; by default `recipe.data.load`.
        device: auto, cpu, cuda, cuda:N or mps.
        callback: called on progress.

    Raises:
        UsageError: the folder is in use, not empty or moved; recipe or model do not fit the data.
        CheckpointError: a run to resume has own networks and no model is given, or conversely.
        MissingError: the data is not there.
        DivergedError: a loss or a weight is not finite.
        InterruptedRun: a signal asked for a stop; the state was saved.

    Example:
        >>> import dpvae_cli as dpvae
        >>> model = dpvae.train(dpvae.load_recipe("vae_moons"), "runs/try")  # doctest: +SKIP
    """
    start.check_mode(mode)
    run, where = RunFolder(resolve_run_dir(run_dir)), devices.resolve(device)
    Precision(recipe.training.precision, where)  # raises before anything is done
    if model is not None:
        recipe = own_networks.recipe_for_model(recipe, model)
    with (
        process_group() as group,
        run.lock(wanted=group.is_main_process),
        torch.random.fork_rng([where] if where.type == "cuda" else [], enabled=model is not None),
    ):
        recorder = Recorder(run, group, callback or Callback())
        recorder.prepare(mode)
        recipe, saved, path = start.load_start(run, recipe, mode=mode, model=model)
        start.check_divisible(recipe.training.batch_size, group.world_size)
        dataset = dataset if isinstance(dataset, Dataset) else (dataset or recipe.data.load)()
        recorder.on_data_loaded(dataset)
        if saved is not None:
            start.check_unchanged(saved, dataset)
        start.check_data(recipe, dataset, processes=group.world_size)
        trainer = Trainer(recipe, dataset, where, model, group=group)
        if saved is not None:
            with checkpoints.suggest_fallback(path):
                trainer.state.load_state_dict(saved)
        start.check_ranks_agree(group, recipe, trainer.facts, trainer.state.iteration)
        trainer.fit(recorder)
        trained = trainer.state.trained_model.eval()
        if recipe.fit_prior is not None:
            last = trainer.checkpoint()
            trained = fit_after_training(run, last, trained, dataset, start=saved, group=group)
        recorder.save_samples(trained, dataset, seed=recipe.seed)
        return trained
