"""One training step, and the state of a run between two steps."""

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from dpvae_cli.data import Dataset, Split
from dpvae_cli.foundation.allocation import refuse_networks
from dpvae_cli.foundation.randomness import seeded, stream
from dpvae_cli.foundation.shapes import Examples, Indices
from dpvae_cli.model import VAE, build
from dpvae_cli.recipe import Recipe
from dpvae_cli.regularizers import Batch, Term
from dpvae_cli.regularizers.base import Training as RunSizes
from dpvae_cli.training import compilation, own_model
from dpvae_cli.training.average import Average
from dpvae_cli.training.checkpoint import (
    Checkpoint,
    load_optimizer,
    load_tensors,
    optimizer_tensors,
)
from dpvae_cli.training.footprint import refuse_training
from dpvae_cli.training.guard import FiniteGuard, refuse_bad_weights
from dpvae_cli.training.order import Order
from dpvae_cli.training.precision import Precision
from dpvae_cli.training.validation import validate


@final
class Trainer:
    """Everything one training step needs, and what it adds up to.

    Args:
        recipe: the resolved recipe.
        dataset: its data; the training split is held on the device as one tensor.
        device: where to train.
        model: what to train in place of what the recipe builds.
    """

    def __init__(
        self, recipe: Recipe, dataset: Dataset, device: torch.device, model: VAE | None = None
    ) -> None:
        self.recipe, self.dataset, self.device = recipe, dataset, device
        self.iteration = 0
        self.is_compiled: bool | None = None
        self.best_elbo: float | None = None
        self.split: Split = dataset.train.to(device)
        self.precision = Precision(recipe.training.precision, device)
        if model is None:
            refuse_training(recipe, dataset.example_shape)
            model = build(recipe, example_shape=dataset.example_shape)
        self.model: VAE = self.precision.placed(model)
        self._computing = self.precision.computing(self.model)
        decay = recipe.training.ema
        self._average = None if decay is None else Average(self.model, decay)
        sizes = RunSizes(recipe.training.batch_size, len(self.split))
        latent_dim = self.model.latent_dim
        refuse_networks("the regularizer", lambda: [recipe.regularizer.build(latent_dim, sizes)])
        with seeded(recipe.seed, "regularizer"):
            regularizer = recipe.regularizer.build(latent_dim, sizes)
        self.regularizer = self.precision.placed(regularizer)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=recipe.training.learning_rate, fused=True
        )
        self.adversary_optimizer = self._make_adversary_optimizer()
        self.guard = FiniteGuard(self._optimizers(), device)
        self._fingerprint = dataset.fingerprint()
        self._order = self._make_order("order")
        self._second_order = self._make_order("second order")

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
        x = self.precision.batch(self.split.examples(self._order.batch(self.iteration)))
        if self.is_compiled is None:
            left = self.recipe.training.iterations - self.iteration
            pays = wanted == "auto" and compilation.pays(self._computing, x, steps=left)
            self.is_compiled = wanted == "on" or pays
        if self.is_compiled:
            compilation.refuse_failure(self._computing, x)
            self._computing = compilation.compiled(self._computing)

    def step(self) -> dict[str, Term]:
        """Do one optimizer step and return its terms, still on the device."""
        own_model.seed_global_draws(self.recipe, self.iteration)
        noise = stream(self.recipe.seed, "noise", self.iteration, device=self.device)
        x = self._batch(self._order.batch(self.iteration), noise)
        posterior = self._computing.encode(x)
        z = posterior.sample(generator=noise)
        terms = {"reconstruction": Term(self._computing.reconstruction(x, z), 1.0)}
        batch = Batch(posterior, z, self._computing.prior, self.iteration, generator=noise)
        terms |= self.regularizer.terms(batch)
        loss = total(terms)
        self.guard.watch(self.iteration + 1, loss, {k: term.value for k, term in terms.items()})
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.adversary_optimizer is not None:
            terms["adversary"] = Term(self._adversary_step(z.detach(), noise))
        self.iteration += 1
        if self._average is not None:
            self._average.update(self.iteration)
        return terms

    def trained(self) -> VAE:
        """Return the model for use: the averaged one where the recipe asks for it."""
        return self.model if self._average is None else self._average.model

    def _batch(self, index: Indices, noise: torch.Generator) -> Examples:
        return self.precision.batch(self.split.training_batch(index, noise))

    def _adversary_step(self, z: Tensor, noise: torch.Generator) -> Tensor:
        """Train the adversary on detached codes of this batch and of a second one."""
        assert self.regularizer.adversary is not None
        assert self.adversary_optimizer is not None
        with torch.no_grad():
            x = self._batch(self._second_order.batch(self.iteration), noise)
            z_other = self._computing.encode(x).sample(generator=noise)
        loss = self.regularizer.adversary.loss(z, z_other, generator=noise)
        self.guard.watch(self.iteration + 1, loss, {"adversary": loss})
        self.adversary_optimizer.zero_grad()
        loss.backward()
        self.adversary_optimizer.step()
        return loss.detach()

    def validate(self) -> tuple[dict[str, Any], bool]:
        """Return the validation record and whether its ELBO is the best so far."""
        model = self.trained()
        model.eval()
        record = validate(model, self.dataset, seed=self.recipe.seed)
        model.train()
        is_best = self.best_elbo is None or record["elbo"] > self.best_elbo
        if is_best:
            self.best_elbo = record["elbo"]
        return record, is_best

    def checkpoint(self) -> Checkpoint:
        """Return the state of the run; refuses weights that are not finite."""
        self.guard.read()
        refuse_bad_weights(self.model, self.iteration)
        parts = {
            "model": self.model.state_dict(),
            "regularizer": self.regularizer.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
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
                "data": self.dataset.name,
                "data_note": self.dataset.note,
                "data_fingerprint": self._fingerprint,
                "training_examples": len(self.split),
                "best_elbo": self.best_elbo,
                "compiled": self.is_compiled,
                **own_model.facts(self.recipe, self.model),
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same recipe."""
        load_tensors(self.model, checkpoint.part("model"), "model")
        if self._average is not None:
            load_tensors(self._average.model, checkpoint.part("ema"), "averaged model")
        load_tensors(self.regularizer, checkpoint.part("regularizer"), "regularizer")
        load_optimizer(self.optimizer, checkpoint.part("optimizer"))
        if self.adversary_optimizer is not None:
            load_optimizer(self.adversary_optimizer, checkpoint.part("adversary_optimizer"))
        self.iteration = checkpoint.iteration
        best, compiled = (checkpoint.facts.get(key) for key in ("best_elbo", "compiled"))
        self.best_elbo = best if isinstance(best, float) else None
        self.is_compiled = compiled if isinstance(compiled, bool) else None

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
