"""The loss, one optimizer step, and everything that changes in training."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from dpvae_cli.data import Dataset
from dpvae_cli.foundation.allocation import check_model_memory
from dpvae_cli.foundation.distributed import SINGLE_PROCESS, ProcessGroup
from dpvae_cli.foundation.randomness import seeded, stream
from dpvae_cli.foundation.shapes import Codes, Examples, Indices, Scalar
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.model import VAE, build
from dpvae_cli.recipe import Recipe
from dpvae_cli.regularizers import Adversary, Batch, Regularizer, Term
from dpvae_cli.regularizers.base import DataSizes
from dpvae_cli.runs import own_networks
from dpvae_cli.runs.checkpoint import Checkpoint, load_state_dict
from dpvae_cli.runs.optimizer_state import load_optimizer, optimizer_tensors
from dpvae_cli.runs.precision import Precision
from dpvae_cli.runs.run_data import data_facts
from dpvae_cli.runs.units_state import units_facts, units_tensors
from dpvae_cli.training.checks import check_training_memory
from dpvae_cli.training.ddp import convert_sync_batch_norm, data_parallel
from dpvae_cli.training.ema import EMA
from dpvae_cli.training.finite_check import FiniteCheck
from dpvae_cli.training.sampler import EpochSampler
from dpvae_cli.training.validation import validate


@final
class Objective(nn.Module):
    """The training loss of a VAE under a regularizer: what DDP, autocast and compile apply to."""

    def __init__(
        self, model: VAE, regularizer: Regularizer, group: ProcessGroup, precision: Precision
    ) -> None:
        super().__init__()
        self.model = model
        # in a tuple, so that DDP does not take the discriminator's weights for the model's
        self._regularizer, self._group, self._precision = (regularizer,), group, precision

    def forward(
        self, x: Examples, noise: torch.Generator, iteration: int
    ) -> tuple[Scalar, dict[str, Term], Codes]:
        """Return the loss in nats per example, its terms and the codes, the last two detached."""
        posterior, z = self.encode(x, noise)
        with self._precision.autocast():
            decoded = self.model.decoder(z)
        reconstruction = -self.model.likelihood.log_prob(x, decoded.to(x.dtype))
        batch = Batch(posterior, z, self.model.prior, iteration, noise, self._group)
        terms = {"reconstruction": Term(reconstruction, 1.0)}
        terms |= self._regularizer[0].terms(batch)
        detached = {name: Term(term.value.detach(), term.weight) for name, term in terms.items()}
        return weighted_loss(terms), detached, z.detach()

    def encode(self, x: Examples, noise: torch.Generator) -> tuple[DiagonalGaussian, Codes]:
        """Return q(z|x) and a draw of each example, the same for any number of processes."""
        with self._precision.autocast():
            posterior = self.model.encode(x)
        mean, log_variance = posterior.mean.to(x.dtype), posterior.log_variance.to(x.dtype)
        shape = (len(mean) * self._group.world_size, *mean.shape[1:])
        draws = torch.randn(shape, generator=noise, dtype=mean.dtype, device=mean.device)
        posterior = DiagonalGaussian(mean, log_variance)
        return posterior, posterior.reparameterised(draws[self._group.local_slice(len(draws))])


def weighted_loss(terms: Mapping[str, Term]) -> Scalar:
    """Return the weighted sum of the terms' means, in nats per example."""
    return torch.stack([t.weight * t.value.mean() for t in terms.values() if t.weight != 0]).sum()


@final
class AdversaryObjective(nn.Module):
    """The discriminator's loss, for DDP."""

    def __init__(self, adversary: Adversary, group: ProcessGroup) -> None:
        super().__init__()
        self.adversary, self._group = adversary, group

    def forward(self, z: Codes, z_other: Codes, noise: torch.Generator) -> Scalar:
        """Return the loss in nats."""
        return self.adversary.loss(z, z_other, generator=noise, group=self._group)


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> None:
    """Scale gradients by min(1, max_norm / (|g| + 1e-6)), without waiting for the device.

    Unlike `torch.nn.utils.clip_grad_norm_`, a norm that is not finite changes nothing, so that the
    gradient to blame can be named.
    """
    gradients = [weight.grad for weight in parameters if weight.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    scale = (max_norm / (norm + 1e-6)).clamp(max=1)
    torch._foreach_mul_(gradients, torch.where(torch.isfinite(norm), scale, 1.0))


@dataclass
class TrainState:
    """Everything that changes during training."""

    model: VAE
    regularizer: Regularizer
    optimizer: torch.optim.Optimizer
    adversary_optimizer: torch.optim.Optimizer | None
    ema: EMA | None
    iteration: int = 0
    best_elbo: float | None = None
    is_compiled: bool | None = None

    @property
    def trained_model(self) -> VAE:
        """The model for use: the averaged one where the recipe asks for it."""
        return self.model if self.ema is None else self.ema.model

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint."""
        parts: dict[str, Mapping[str, Tensor]] = {
            "model": self.model.state_dict(),
            "regularizer": self.regularizer.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
            "data": units_tensors(self.model.units),
        }
        if self.ema is not None:
            parts["ema"] = self.ema.model.state_dict()
        if self.adversary_optimizer is not None:
            parts["adversary_optimizer"] = optimizer_tensors(self.adversary_optimizer)
        return {f"{part}.{k}": v for part, tensors in parts.items() for k, v in tensors.items()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Load the state of a checkpoint of the same recipe."""
        load_state_dict(self.model, checkpoint.part("model"), "model")
        if self.ema is not None:
            load_state_dict(self.ema.model, checkpoint.part("ema"), "averaged model")
        load_state_dict(self.regularizer, checkpoint.part("regularizer"), "regularizer")
        load_optimizer(self.optimizer, checkpoint.part("optimizer"))
        if self.adversary_optimizer is not None:
            load_optimizer(self.adversary_optimizer, checkpoint.part("adversary_optimizer"))
        self.iteration = checkpoint.iteration
        best, is_compiled = (checkpoint.facts.get(key) for key in ("best_elbo", "compiled"))
        self.best_elbo = best if isinstance(best, float) else None
        self.is_compiled = is_compiled if isinstance(is_compiled, bool) else None


@final
class Trainer:
    """Takes the optimizer steps of a recipe; the ranks of a group share every batch.

    Args:
        recipe: the resolved recipe.
        dataset: its data; the training split is held on the device as one tensor.
        device: where to train.
        model: what to train in place of what the recipe builds.
        group: the processes that share the run, each of which has a trainer.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        device: torch.device,
        model: VAE | None = None,
        *,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.recipe, self.dataset, self.device, self.group = recipe, dataset, device, group
        self.split = dataset.train.to(device)
        self.precision = Precision(recipe.training.precision, device)
        model = model or build(recipe, example_shape=dataset.example_shape)
        model = self.precision.placed(convert_sync_batch_norm(model, group))
        model.units = dataset.units
        sizes = DataSizes(recipe.training.batch_size, len(self.split))
        latent_dim = model.latent_dim
        check_model_memory("the regularizer", lambda: [recipe.regularizer.build(latent_dim, sizes)])
        with seeded(recipe.seed, "regularizer"):
            regularizer = recipe.regularizer.build(latent_dim, sizes)
        local_size = recipe.training.batch_size // group.world_size
        check_training_memory((model, regularizer), local_size, math.prod(model.example_shape))
        self.precision.placed(regularizer)
        rate, decay = recipe.training.learning_rate, recipe.training.ema
        ema = None if decay is None else EMA(model, decay)
        optimizers = [torch.optim.Adam(model.parameters(), lr=rate, fused=True)]
        self.state = TrainState(model, regularizer, optimizers[0], None, ema)
        if (adversary := regularizer.adversary) is not None:
            rate, weights = adversary.learning_rate, adversary.parameters()
            self.state.adversary_optimizer = torch.optim.Adam(weights, lr=rate, fused=True)
            optimizers.append(self.state.adversary_optimizer)
            self._adversary = data_parallel(AdversaryObjective(adversary, group), group)
        modules = [model, regularizer, *([] if ema is None else [ema.model])]
        self.finite_check = FiniteCheck(modules, optimizers, device)
        self.objective = Objective(model, regularizer, group, self.precision)
        uses_own_networks = own_networks.uses_own_networks(recipe)
        if uses_own_networks:
            own_networks.seed_each_call(self.objective, recipe, rank=group.rank)
        self._loss = data_parallel(self.objective, group, static_graph=not uses_own_networks)
        self.fingerprint = dataset.fingerprint()
        self._data_facts = data_facts(dataset)
        self._sampler, self._second_sampler = (
            EpochSampler(
                len(self.split), recipe.training.batch_size, seed=recipe.seed, name=n, device=device
            )
            for n in ("order", "second order")
        )

    def batch(self, index: Indices, noise: torch.Generator) -> Examples:
        """Return this rank's examples of a global batch."""
        rows = self.group.local_slice(len(index))
        return self.precision.batch(self.split.training_batch(index, noise, rows=rows))

    def step(self) -> dict[str, Term]:
        """Take one optimizer step and return its terms, of this rank's share and on the device."""
        state, iteration = self.state, self.state.iteration
        noise = stream(self.recipe.seed, "noise", iteration, device=self.device)
        x = self.batch(self._sampler.batch(iteration), noise)
        terms: dict[str, Term]
        loss, terms, z = self._loss(x, noise, iteration)
        values = {name: term.value for name, term in terms.items()}
        self._descend(state.optimizer, state.model, loss, values)
        if state.adversary_optimizer is not None:
            with torch.no_grad():
                x = self.batch(self._second_sampler.batch(iteration), noise)
                _, z_other = self.objective.encode(x, noise)
            loss = self._adversary(z, z_other, noise)
            values = {"adversary": loss}
            self._descend(state.adversary_optimizer, state.regularizer, loss, values)
            terms["adversary"] = Term(loss.detach())
        state.iteration += 1
        if state.ema is not None:
            state.ema.update(state.iteration)
        return terms

    def _descend(
        self,
        optimizer: torch.optim.Optimizer,
        module: nn.Module,
        loss: Scalar,
        terms: Mapping[str, Tensor],
    ) -> None:
        """Take a step down the gradient of a loss that is finite."""
        self.finite_check.check_loss(self.state.iteration + 1, loss, terms)
        optimizer.zero_grad()
        loss.backward()
        if (max_norm := self.recipe.training.gradient_clip) is not None:
            clip_gradients(module.parameters(), max_norm)
        optimizer.step()

    def validate(self) -> tuple[dict[str, Any], bool]:
        """Return the validation record and whether its ELBO is the best so far."""
        self.finite_check.check_weights(self.state.iteration)
        model = self.state.trained_model.eval()
        with torch.compiler.set_stance("force_eager"):
            record = validate(model, self.dataset, seed=self.recipe.seed)
        model.train()
        is_best = self.state.best_elbo is None or record["elbo"] > self.state.best_elbo
        if is_best:
            self.state.best_elbo = record["elbo"]
        return record, is_best

    def checkpoint(self) -> Checkpoint:
        """Return the state of the run, the same on all ranks; weights must be finite."""
        self.finite_check.check_weights(self.state.iteration)
        facts = {
            **units_facts(self.dataset.units),
            "data": self.dataset.name,
            "data_note": self.dataset.note,
            "data_fingerprint": self.fingerprint,
            **self._data_facts,
            "training_examples": len(self.split),
            "best_elbo": self.state.best_elbo,
            "compiled": self.state.is_compiled,
            **own_networks.network_facts(self.recipe, self.state.model),
        }
        shape, tensors = self.dataset.example_shape, self.state.tensors()
        return Checkpoint(self.recipe, self.state.iteration, shape, tensors, facts)
