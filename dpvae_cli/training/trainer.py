"""One training step, and the state of a run between two steps."""

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from dpvae_cli.data import Dataset, Split
from dpvae_cli.foundation.allocation import check_model_memory
from dpvae_cli.foundation.distributed import SINGLE_PROCESS, ProcessGroup
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import seeded, stream
from dpvae_cli.foundation.shapes import Examples, Indices
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.model import VAE, build
from dpvae_cli.recipe import Recipe
from dpvae_cli.recipe.dump import to_yaml
from dpvae_cli.regularizers import Batch, Term
from dpvae_cli.regularizers.base import Training as RunSizes
from dpvae_cli.runs import own_networks
from dpvae_cli.runs.checkpoint import Checkpoint, load_state_dict
from dpvae_cli.runs.optimizer_state import load_optimizer, optimizer_tensors
from dpvae_cli.runs.precision import Precision
from dpvae_cli.runs.run_data import data_facts
from dpvae_cli.runs.units_state import units_facts, units_tensors
from dpvae_cli.training import compilation
from dpvae_cli.training.average import Average
from dpvae_cli.training.footprint import refuse_training
from dpvae_cli.training.guard import FiniteGuard, clip_gradients, refuse_bad_weights
from dpvae_cli.training.order import Order
from dpvae_cli.training.shared import Shared, with_global_batch_norm
from dpvae_cli.training.validation import validate


@final
class Trainer:
    """Everything one training step needs, and what it adds up to.

    Args:
        recipe: the resolved recipe.
        dataset: its data; the training split is held on the device as one tensor.
        device: where to train.
        model: what to train in place of what the recipe builds.
        group: the processes that share the run, each of which has a trainer of its own.
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
        self.iteration = 0
        self.is_compiled: bool | None = None
        self.best_elbo: float | None = None
        self.split: Split = dataset.train.to(device)
        self.precision = Precision(recipe.training.precision, device)
        if model is None:
            refuse_training(recipe, dataset.example_shape, processes=group.world_size)
            model = build(recipe, example_shape=dataset.example_shape)
        self.model: VAE = self.precision.placed(with_global_batch_norm(model, group))
        self.model.units = dataset.units
        self._computing = self.precision.computing(self.model)
        self._shared = self._shared_steps()
        decay = recipe.training.ema
        self._average = None if decay is None else Average(self.model, decay)
        sizes = RunSizes(recipe.training.batch_size, len(self.split))
        latent_dim = self.model.latent_dim
        check_model_memory("the regularizer", lambda: [recipe.regularizer.build(latent_dim, sizes)])
        with seeded(recipe.seed, "regularizer"):
            regularizer = recipe.regularizer.build(latent_dim, sizes)
        self.regularizer = self.precision.placed(regularizer)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=recipe.training.learning_rate, fused=True
        )
        self.adversary_optimizer = self._make_adversary_optimizer()
        adversary = self.regularizer.adversary
        self._shared_adversary = None if adversary is None else Shared(adversary, group)
        watched = (self.model, self.regularizer)
        self.guard = FiniteGuard(self._optimizers(), device, watched=watched)
        self._fingerprint = dataset.fingerprint()
        self._data_facts = data_facts(dataset)
        self._order = self._make_order("order")
        self._second_order = self._make_order("second order")

    def refuse_strangers(self) -> None:
        """Refuse processes that share the run but not its recipe, its data or its state.

        Raises:
            UsageError: says what differs.
        """
        state = {
            "recipe": to_yaml(self.recipe),
            "training data": self._fingerprint,
            "iteration": str(self.iteration),
        }
        for what, value in state.items():
            if len(set(self.group.all_gather_object(value))) > 1:
                raise UsageError(
                    f"the processes of this run do not have the same {what}",
                    hint="Give all of them the same command, the same data, and a run folder that "
                    "all machines see.",
                )

    def settle(self) -> None:
        """Compile what steps compute with, where the recipe wants it or, by `auto`, where it pays.

        A run that is gone on with stays as it was.

        Raises:
            UsageError: it is wanted and cannot be done here.
        """
        wanted = self.recipe.training.compile
        if wanted == "off":
            self.is_compiled = False
            return
        x = self.next_examples()
        if self.is_compiled is None:
            left = self.recipe.training.iterations - self.iteration
            tries = wanted == "auto" and self.group.world_size == 1  # processes might not agree
            pays = tries and compilation.pays(self._computing, x, steps=left)
            self.is_compiled = wanted == "on" or pays
        if self.is_compiled:
            compilation.refuse_failure(self._computing, x)
            self._computing = compilation.compiled(self._computing)
            self._shared = self._shared_steps()

    def next_examples(self) -> Examples:
        """Return this process's share of the next batch as stored, for trials: nothing is drawn."""
        index = self._order.batch(self.iteration)
        return self.precision.batch(self.split.examples(index[self.group.local_slice(len(index))]))

    def step(self) -> dict[str, Term]:
        """Do one optimizer step and return its terms, still on the device.

        Where processes share the run, the terms are of this one's share of the batch.
        """
        own_networks.seed_global_rng(self.recipe, self.iteration, rank=self.group.rank)
        noise = stream(self.recipe.seed, "noise", self.iteration, device=self.device)
        x = self._batch(self._order.batch(self.iteration), noise)
        loss, terms, z = self._shared(lambda model: self._loss(model, x, noise))
        self.guard.watch(self.iteration + 1, loss, {k: term.value for k, term in terms.items()})
        self.optimizer.zero_grad()
        loss.backward()
        clip_gradients(self.model.parameters(), self.recipe.training.gradient_clip)
        self.optimizer.step()
        if self.adversary_optimizer is not None:
            terms["adversary"] = Term(self._adversary_step(z, noise))
        self.iteration += 1
        if self._average is not None:
            self._average.update(self.iteration)
        return terms

    def _loss(
        self, model: VAE, x: Examples, noise: torch.Generator
    ) -> tuple[Tensor, dict[str, Term], Tensor]:
        """Return the loss, its terms and the codes; gradients flow back from the loss alone."""
        posterior = model.encode(x)
        z = self._drawn(posterior, noise)
        terms = {"reconstruction": Term(model.reconstruction(x, z), 1.0)}
        batch = Batch(posterior, z, model.prior, self.iteration, noise, self.group)
        terms |= self.regularizer.terms(batch)
        plain = {name: Term(term.value.detach(), term.weight) for name, term in terms.items()}
        return total(terms), plain, z.detach()

    def _drawn(self, posterior: DiagonalGaussian, noise: torch.Generator) -> Tensor:
        """Draw a code for each example, the same whatever the number of processes."""
        mean = posterior.mean
        shape = (len(mean) * self.group.world_size, *mean.shape[1:])
        drawn = torch.randn(shape, generator=noise, dtype=mean.dtype, device=mean.device)
        return posterior.reparameterised(drawn[self.group.local_slice(shape[0])])

    def trained(self) -> VAE:
        """Return the model for use: the averaged one where the recipe asks for it."""
        return self.model if self._average is None else self._average.model

    def _batch(self, index: Indices, noise: torch.Generator) -> Examples:
        rows = self.group.local_slice(len(index))
        return self.precision.batch(self.split.training_batch(index, noise, rows=rows))

    def _adversary_step(self, z: Tensor, noise: torch.Generator) -> Tensor:
        """Train the adversary on detached codes of this batch and of a second one."""
        assert self._shared_adversary is not None
        assert self.adversary_optimizer is not None
        with torch.no_grad():
            x = self._batch(self._second_order.batch(self.iteration), noise)
            z_other = self._drawn(self._computing.encode(x), noise)
        loss: Tensor = self._shared_adversary(
            lambda adversary: adversary.loss(z, z_other, generator=noise, group=self.group)
        )
        self.guard.watch(self.iteration + 1, loss, {"adversary": loss})
        self.adversary_optimizer.zero_grad()
        loss.backward()
        clip_gradients(self.regularizer.parameters(), self.recipe.training.gradient_clip)
        self.adversary_optimizer.step()
        return loss.detach()

    def validate(self) -> tuple[dict[str, Any], bool]:
        """Return the validation record and whether its ELBO is the best so far."""
        refuse_bad_weights(self.model, self.iteration)
        model = self.trained()
        model.eval()
        record = validate(model, self.dataset, seed=self.recipe.seed)
        model.train()
        is_best = self.best_elbo is None or record["elbo"] > self.best_elbo
        if is_best:
            self.best_elbo = record["elbo"]
        return record, is_best

    def checkpoint(self) -> Checkpoint:
        """Return the state of the run, the same in all processes; refuses weights not finite."""
        self.guard.read()
        refuse_bad_weights(self.model, self.iteration)
        refuse_bad_weights(self.regularizer, self.iteration)
        parts = {
            "model": self.model.state_dict(),
            "regularizer": self.regularizer.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
            "data": units_tensors(self.dataset.units),
        }
        if self._average is not None:
            refuse_bad_weights(self._average.model, self.iteration)
            parts["ema"] = self._average.model.state_dict()
        if self.adversary_optimizer is not None:
            parts["adversary_optimizer"] = optimizer_tensors(self.adversary_optimizer)
        return Checkpoint(
            recipe=self.recipe,
            iteration=self.iteration,
            example_shape=self.dataset.example_shape,
            tensors={f"{part}.{k}": v for part, values in parts.items() for k, v in values.items()},
            facts={
                **units_facts(self.dataset.units),
                "data": self.dataset.name,
                "data_note": self.dataset.note,
                "data_fingerprint": self._fingerprint,
                **self._data_facts,
                "training_examples": len(self.split),
                "best_elbo": self.best_elbo,
                "compiled": self.is_compiled,
                **own_networks.network_facts(self.recipe, self.model),
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same recipe."""
        load_state_dict(self.model, checkpoint.part("model"), "model")
        if self._average is not None:
            load_state_dict(self._average.model, checkpoint.part("ema"), "averaged model")
        load_state_dict(self.regularizer, checkpoint.part("regularizer"), "regularizer")
        load_optimizer(self.optimizer, checkpoint.part("optimizer"))
        if self.adversary_optimizer is not None:
            load_optimizer(self.adversary_optimizer, checkpoint.part("adversary_optimizer"))
        self.iteration = checkpoint.iteration
        best, compiled = (checkpoint.facts.get(key) for key in ("best_elbo", "compiled"))
        self.best_elbo = best if isinstance(best, float) else None
        self.is_compiled = compiled if isinstance(compiled, bool) else None

    def _shared_steps(self) -> Shared:
        return Shared(
            self._computing, self.group, is_steady=not own_networks.uses_own_networks(self.recipe)
        )

    def _make_adversary_optimizer(self) -> torch.optim.Optimizer | None:
        adversary = self.regularizer.adversary
        if adversary is None:
            return None
        return torch.optim.Adam(adversary.parameters(), lr=adversary.learning_rate, fused=True)

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [o for o in (self.optimizer, self.adversary_optimizer) if o is not None]

    def _make_order(self, name: str) -> Order:
        return Order(
            len(self.split),
            self.recipe.training.batch_size,
            seed=self.recipe.seed,
            name=name,
            device=self.device,
        )


def total(terms: Mapping[str, Term]) -> Tensor:
    """Return the loss: the weighted sum of the terms' means, in nats per example."""
    parts = [term.weight * term.value.mean() for term in terms.values() if term.weight != 0]
    return torch.stack(parts).sum()
