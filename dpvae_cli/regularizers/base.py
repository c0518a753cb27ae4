"""What a regularizer adds to the reconstruction, and what its spec must offer.

The training loss is mean(reconstruction) + sum over terms of weight * mean(value).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, final

import torch
from pydantic import Field
from torch import nn

from dpvae_cli.foundation.devices import check_model_memory
from dpvae_cli.foundation.distributed import SINGLE_PROCESS, ProcessGroup
from dpvae_cli.foundation.randomness import fork_rng
from dpvae_cli.foundation.shapes import Codes, PerExample, Scalar
from dpvae_cli.foundation.spec import Spec
from dpvae_cli.mathematics.density import LatentDensity
from dpvae_cli.mathematics.gaussian import DiagonalGaussian

WeightsPer = Literal["example", "batch"]


class Term(NamedTuple):
    """One term of the loss.

    `value` is nats per example, `(batch,)`, or a scalar of the global batch where the definition
    is not a mean over examples. Weight 0 means: logged, not trained on.
    """

    value: PerExample | Scalar
    weight: float = 0.0


@final
@dataclass(frozen=True)
class DataSizes:
    """What a regularizer may know of the run it belongs to."""

    batch_size: int
    dataset_size: int


@final
@dataclass(frozen=True)
class Batch:
    """What a regularizer sees of one training batch.

    `posterior` is q(z|x) of its examples, `z` one reparameterised draw from each, `prior` p(z),
    `iteration` the optimizer steps done before, `generator` the source of further randomness.
    Where several processes share a batch, posterior and z are this one's rows of it and `group`
    knows the others'; draws of the generator are the same in all of them.
    """

    posterior: DiagonalGaussian
    z: Codes
    prior: LatentDensity
    iteration: int
    generator: torch.Generator | None = None
    group: ProcessGroup = SINGLE_PROCESS

    def kl(self) -> PerExample:
        """Return KL[q(z|x), p(z)] of each example in nats."""
        return self.prior.kl(self.posterior, self.z)


class Adversary(nn.Module, ABC):
    """A network trained against the VAE with an optimizer of its own."""

    learning_rate: float

    @abstractmethod
    def forward(
        self,
        z: Codes,
        z_other: Codes,
        *,
        generator: torch.Generator | None = None,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> Scalar:
        """Return this network's own loss from detached codes of two batches, in nats.

        Where several processes share the batches, the codes are this one's and so is the loss.
        """


class Regularizer(nn.Module, ABC):
    """The terms beside the reconstruction.

    `warm_up` is the number of iterations in which their weights grow.
    """

    adversary: Adversary | None

    def __init__(self) -> None:
        super().__init__()
        self.adversary = None
        self.warm_up = 0

    def forward(self, batch: Batch) -> dict[str, Term]:
        """Return the named terms of one batch, their weights times min(1, step / warm_up).

        Steps count from 1, so that no weight is 0 that is not 0 later.
        """
        terms = self.terms(batch)
        if batch.iteration + 1 >= self.warm_up:
            return terms
        share = (batch.iteration + 1) / self.warm_up
        return {name: Term(term.value, share * term.weight) for name, term in terms.items()}

    @abstractmethod
    def terms(self, batch: Batch) -> dict[str, Term]:
        """Return the named terms of one batch with their full weights."""


@final
class WeightedKl(Regularizer):
    """beta * KL[q(z|x), p(z)]; the negative ELBO has beta = 1."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Return the KL with weight beta."""
        return {"kl": Term(batch.kl(), self.beta)}


class RegularizerSpec(Spec, ABC):
    """A recipe's `regularizer` section."""

    kind: str

    @abstractmethod
    def build(self, latent_dim: int, sizes: DataSizes) -> Regularizer:
        """Return the regularizer, with its own networks where it has any."""


class WarmUpSpec(RegularizerSpec, ABC):
    """A `regularizer` section whose weights can grow at the start of training."""

    warm_up: Annotated[int, Field(ge=0)] = 0
    """Iterations in which the weights of all terms grow linearly to their values; 0: none."""


def per_example_weight(weight: float, weights_per: WeightsPer, batch_size: int) -> float:
    """Return `weight`, divided by the global batch size where the recipe gives weights per batch.

    The paper's code sums reconstruction and KL over the batch but averages its other terms, so a
    weight of Table 2 acts as weight / batch_size on each example; `weights_per: batch` says so.
    """
    return weight / batch_size if weights_per == "batch" else weight


def build_regularizer(
    spec: RegularizerSpec, latent_dim: int, sizes: DataSizes, seed: int
) -> Regularizer:
    """Return the regularizer of a recipe; the weights of its networks follow from the seed.

    Raises:
        UsageError: they do not fit into memory.
    """
    check_model_memory("the regularizer", lambda: [spec.build(latent_dim, sizes)])
    with fork_rng(seed, "regularizer"):
        regularizer = spec.build(latent_dim, sizes)
    regularizer.warm_up = spec.warm_up if isinstance(spec, WarmUpSpec) else 0
    return regularizer


def weighted_loss(terms: Mapping[str, Term]) -> Scalar:
    """Return the weighted sum of the terms' means, in nats per example."""
    return torch.stack([t.weight * t.value.mean() for t in terms.values() if t.weight != 0]).sum()


def mean_terms(terms: Mapping[str, Term], group: ProcessGroup) -> dict[str, Any]:
    """Return the loss and each term, plain and weighted, of the global batch."""
    means = {name: term.value.detach().mean() for name, term in terms.items()}
    values = {name: float(group.all_reduce_mean(mean)) for name, mean in means.items()}
    weighted = {name: terms[name].weight * value for name, value in values.items()}
    loss = float(group.all_reduce_mean(weighted_loss(terms).detach()))
    return {"loss": loss, "terms": values, "weighted": weighted}


@final
class Vae(WarmUpSpec):
    """No regularizer beyond the ELBO."""

    kind: Literal["vae"] = "vae"

    def build(self, latent_dim: int, sizes: DataSizes) -> WeightedKl:
        """Return KL[q(z|x), p(z)] with weight one."""
        return WeightedKl(1.0)
