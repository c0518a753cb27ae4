"""The discriminator: who gets gradients from what, and what it estimates."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from dpvae_cli.foundation.randomness import fork_rng, stream
from dpvae_cli.regularizers import Factor
from dpvae_cli.regularizers.factor import Discriminator, permute_dimensions
from tests.mathematics.random_models import normal, random_posterior
from tests.regularizers.cases import (
    BATCH,
    LATENT,
    PRIORS,
    TRAINING,
    build,
    random_prior,
    spec_of,
    terms_of,
    weighted,
)


def discriminator(**fields) -> Discriminator:
    adversary = build(spec_of(Factor, **fields)).adversary
    assert isinstance(adversary, Discriminator)
    return adversary


def test_adversary_step_gives_no_gradient_to_the_codes():
    z, other = normal(8, LATENT).requires_grad_(), normal(8, LATENT, seed=1).requires_grad_()
    network = discriminator()
    network(z, other, generator=stream(0, "permutation")).backward()
    assert z.grad is None
    assert other.grad is None
    assert all((p.grad != 0).any() for p in network.parameters())


def test_terms_give_no_gradient_to_the_discriminator():
    regularizer = build(spec_of(Factor))
    posterior = random_posterior(BATCH, LATENT)
    z = posterior.sample(generator=stream(0, "z"))
    weighted(terms_of(regularizer, posterior, z, random_prior(PRIORS[0]))).backward()
    for parameter in regularizer.adversary.parameters():
        assert parameter.grad is None
        assert parameter.requires_grad


def test_the_discriminator_thaws_after_an_error():
    regularizer = build(spec_of(Factor))
    wrong = normal(BATCH, LATENT + 1)
    with pytest.raises(RuntimeError):
        terms_of(regularizer, random_posterior(BATCH, LATENT + 1), wrong, random_prior(PRIORS[0]))
    assert all(p.requires_grad for p in regularizer.adversary.parameters())


def test_total_correlation_is_the_logit():
    regularizer, z = build(spec_of(Factor)), normal(BATCH, LATENT)
    terms = terms_of(regularizer, random_posterior(BATCH, LATENT), z, random_prior(PRIORS[0]))
    assert_close(terms["total_correlation"].value, regularizer.adversary.logits(z))


def test_loss_is_the_cross_entropy_of_both_classes():
    network, z, other = discriminator(), normal(8, LATENT), normal(8, LATENT, seed=1)
    product = permute_dimensions(other, generator=stream(0, "permutation"))
    logits = torch.cat([network.logits(z), network.logits(product)])
    targets = torch.cat([torch.ones(8), torch.zeros(8)]).double()
    expected = functional.binary_cross_entropy_with_logits(logits, targets)
    assert_close(network(z, other, generator=stream(0, "permutation")), expected)


def test_permuted_dimensions_keep_their_values_and_lose_their_company():
    z = normal(50, 4)
    shuffled = permute_dimensions(z, generator=stream(0, "permutation"))
    assert torch.equal(shuffled.sort(dim=0).values, z.sort(dim=0).values)
    assert (shuffled != z).any(dim=0).all()
    order = (shuffled.unsqueeze(0) == z.unsqueeze(1)).double().argmax(dim=0)
    assert len({tuple(column.tolist()) for column in order.T}) == 4, "columns move on their own"
    assert torch.equal(permute_dimensions(z, generator=stream(0, "permutation")), shuffled)


def test_the_paper_s_network_is_the_default():
    adversary = Factor().build(10, TRAINING).adversary
    widths = [layer.out_features for layer in adversary.modules() if isinstance(layer, nn.Linear)]
    slopes = [m.negative_slope for m in adversary.modules() if isinstance(m, nn.LeakyReLU)]
    assert widths == [1000] * 5 + [1]
    assert slopes == [0.2] * 5
    assert adversary.learning_rate == 1e-4


def test_trained_discriminator_finds_the_total_correlation_of_a_gaussian():
    """TC of two standard normals with correlation rho is -1/2 log(1 - rho^2)."""
    rho, generator = 0.8, stream(0, "gaussian")

    def draw(n: int) -> torch.Tensor:
        first, second = torch.randn(2, n, generator=generator)
        return torch.stack([first, rho * first + (1 - rho**2) ** 0.5 * second], dim=1)

    with fork_rng(0, "discriminator"):
        network = Discriminator(2, width=32, depth=2, learning_rate=3e-3)
    optimizer = torch.optim.Adam(network.parameters(), lr=network.learning_rate)
    for _ in range(400):
        optimizer.zero_grad()
        network(draw(512), draw(512), generator=generator).backward()
        optimizer.step()
    with torch.no_grad():
        estimate = network.logits(draw(20_000)).mean().item()
        nothing = (
            network.logits(permute_dimensions(draw(20_000), generator=generator)).mean().item()
        )
    assert estimate == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.1)
    assert nothing < 0, "it estimates -KL(product, joint) on the product"
