"""FactorVAE: total correlation by a discriminator (Kim and Mnih 2018; paper, equations (27)-(29)).

The discriminator tells codes z ~ q(z) ("joint") from codes whose dimensions were permuted over a
second batch, z ~ prod_j q(z_j) ("product"); its logit estimates log q(z) / prod_j q(z_j).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Annotated, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from dpvae_cli.foundation.distributed import SINGLE_PROCESS, ProcessGroup
from dpvae_cli.foundation.shapes import Codes, PerExample, Scalar
from dpvae_cli.regularizers.base import (
    Adversary,
    Batch,
    DataSizes,
    Regularizer,
    Term,
    WarmUpSpec,
    WeightsPer,
    per_example_weight,
)

NEGATIVE_SLOPE = 0.2


def permute_dimensions(z: Codes, *, generator: torch.Generator | None = None) -> Codes:
    """Return z with each column shuffled on its own: a sample of the product of the marginals."""
    order = torch.rand(z.shape, generator=generator, device=z.device).argsort(dim=0)
    return z.gather(0, order)


@final
class Discriminator(Adversary):
    """The logit of "joint" against "product" for each code."""

    def __init__(self, latent_dim: int, *, width: int, depth: int, learning_rate: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        widths = [latent_dim] + [width] * depth
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), nn.LeakyReLU(NEGATIVE_SLOPE)]
        self.network = nn.Sequential(*layers, nn.Linear(width, 1))

    def logits(self, z: Codes) -> PerExample:
        """Return the logits of "joint", estimates of log q(z) - sum_j log q(z_j) in nats."""
        logits: Tensor = self.network(z)
        return logits.squeeze(-1)

    def forward(
        self,
        z: Codes,
        z_other: Codes,
        *,
        generator: torch.Generator | None = None,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> Scalar:
        """Return the cross-entropy over both classes, half each, in nats."""
        permuted = permute_dimensions(group.all_gather(z_other.detach()), generator=generator)
        joint, product = z.detach(), permuted[group.local_slice(len(permuted))]
        logits = self.logits(torch.cat([joint, product]))
        logit_joint, logit_product = logits.split([len(joint), len(product)])
        positive, negative = functional.softplus(-logit_joint), functional.softplus(logit_product)
        return 0.5 * (positive.mean() + negative.mean())


@final
class FactorRegularizer(Regularizer):
    """KL[q(z|x), p(z)] + gamma * TC, TC as the discriminator sees it."""

    def __init__(self, gamma: float, discriminator: Discriminator) -> None:
        super().__init__()
        self.gamma = gamma
        self.adversary: Discriminator = discriminator

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Return the KL and the total correlation; gradients reach z, not the discriminator."""
        with _frozen(self.adversary):
            total_correlation = self.adversary.logits(batch.z)
        return {
            "kl": Term(batch.kl(), 1.0),
            "total_correlation": Term(total_correlation, self.gamma),
        }


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


@final
class Factor(WarmUpSpec):
    """FactorVAE: the KL plus gamma times the total correlation."""

    kind: Literal["factor"] = "factor"
    gamma: Annotated[float, Field(ge=0)] = 1000.0
    """Weight of the total correlation (paper, Table 2: 1000)."""
    width: Annotated[int, Field(ge=1)] = 1000
    """Units in each hidden layer of the discriminator (paper: 1000)."""
    depth: Annotated[int, Field(ge=1, le=100)] = 5
    """Hidden layers of the discriminator (paper: 5), leaky ReLU 0.2."""
    discriminator_learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """Adam's step size for the discriminator (released code: 1e-4)."""
    weights_per: WeightsPer = "example"
    """`batch` divides gamma by training.batch_size, as the released code does."""

    def build(self, latent_dim: int, sizes: DataSizes) -> FactorRegularizer:
        """Return the regularizer with an untrained discriminator."""
        discriminator = Discriminator(
            latent_dim,
            width=self.width,
            depth=self.depth,
            learning_rate=self.discriminator_learning_rate,
        )
        gamma = per_example_weight(self.gamma, self.weights_per, sizes.batch_size)
        return FactorRegularizer(gamma, discriminator)
