"""Likelihoods against torch.distributions, over the union `AnyLikelihood` where it makes sense."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Normal
from torch.testing import assert_close

from dpvae_cli.likelihoods import AnyLikelihood, Bernoulli, Gaussian
from tests.mathematics.random_models import members, normal

SHAPES = [(3,), (1, 4, 4), (2, 3, 2)]


def binary(*shape: int) -> Tensor:
    return (normal(*shape, seed=4) > 0).double()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("fields", [{"scale": 0.3}, {"scale": 2.0, "learned": True}], ids=str)
def test_gaussian_log_prob_is_torchs(fields, shape):
    likelihood = Gaussian(**fields).build().double()
    x, output = normal(5, *shape), normal(5, *shape, seed=1)
    expected = Normal(output, likelihood.scale).log_prob(x).flatten(1).sum(dim=1)
    assert_close(likelihood.log_prob(x, output), expected)
    assert likelihood.scale.item() == pytest.approx(fields["scale"], rel=1e-6)
    assert likelihood.mean(output) is output


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bernoulli_log_prob_is_torchs(shape):
    likelihood = Bernoulli().build()
    x, logits = binary(5, *shape), 3 * normal(5, *shape, seed=1)
    expected = TorchBernoulli(logits=logits).log_prob(x).flatten(1).sum(dim=1)
    assert_close(likelihood.log_prob(x, logits), expected)
    assert_close(likelihood.mean(logits), torch.sigmoid(logits))


def test_bernoulli_stays_finite_at_sure_logits():
    x, logits = torch.tensor([[1.0, 0.0]]), torch.tensor([[-200.0, 200.0]])
    assert_close(Bernoulli().build().log_prob(x, logits), torch.tensor([-400.0]))


@pytest.mark.parametrize("kind", members(AnyLikelihood))
def test_gradients_reach_the_decoder(kind):
    output = normal(5, 3).requires_grad_()
    kind().build().double().log_prob(binary(5, 3), output).sum().backward()
    assert (output.grad != 0).all()


def test_default_scale_is_a_weight_of_one_on_the_squared_error():
    likelihood = Gaussian().build().double()
    x = normal(2, 3)
    outputs = [normal(2, 3, seed=seed) for seed in (1, 2)]
    log_probs = [likelihood.log_prob(x, output) for output in outputs]
    squared = [(x - output).square().sum(dim=1) for output in outputs]
    assert_close(log_probs[0] - log_probs[1], squared[1] - squared[0], rtol=1e-6, atol=1e-6)


def test_only_a_learned_scale_is_a_parameter():
    assert not list(Gaussian().build().parameters())
    (parameter,) = Gaussian(learned=True).build().parameters()
    assert parameter.shape == ()


def test_learned_scale_finds_the_deviation_of_the_errors():
    likelihood = Gaussian(scale=1.0, learned=True).build().double()
    error = 0.2 * normal(200, 5)
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        (-likelihood.log_prob(error, torch.zeros_like(error)).mean()).backward()
        assert (likelihood.raw_scale.grad != 0).all()
        optimizer.step()
    assert likelihood.scale.item() == pytest.approx(error.square().mean().sqrt().item(), rel=1e-2)


def test_learned_scale_stays_above_its_floor():
    likelihood = Gaussian(scale=1.0, learned=True, floor=0.1).build().double()
    likelihood.raw_scale.data.fill_(-1e4)
    assert likelihood.scale.item() >= 0.1
    x = normal(2, 3)
    assert torch.isfinite(likelihood.log_prob(x, x)).all()


def test_fixed_scale_survives_saving():
    state = Gaussian(scale=0.1).build().state_dict()
    other = Gaussian(scale=5.0).build()
    other.load_state_dict(state)
    assert other.scale.item() == pytest.approx(0.1)


@pytest.mark.parametrize(
    "fields",
    [
        {"scale": 0.0},
        {"scale": -1.0},
        {"floor": 0.0},
        {"scale": 1e-3, "learned": True},
        {"scale": 0.1, "learned": True, "floor": 0.2},
        {"scale": float("nan")},
    ],
    ids=str,
)
def test_refused_scales(fields):
    with pytest.raises(ValidationError):
        Gaussian(**fields)


def test_a_fixed_scale_may_lie_below_the_floor():
    assert Gaussian(scale=1e-4).build().scale.item() == pytest.approx(1e-4)


def test_bits_per_dimension():
    gaussian, bernoulli = Gaussian().build(), Bernoulli().build()
    nll = -100.0
    bits = (nll / 784 + math.log(256)) / math.log(2)
    assert gaussian.bits_per_dimension(nll, 784, eight_bit=True) == pytest.approx(bits)
    assert gaussian.bits_per_dimension(nll, 784, eight_bit=False) is None
    for eight_bit in (True, False):
        fair_coins = bernoulli.bits_per_dimension(784 * math.log(2), 784, eight_bit=eight_bit)
        assert fair_coins == pytest.approx(1.0)


def test_bits_per_dimension_of_uniform_intensities_is_eight():
    """A density of one on [0, 1] spends log2(256) bits on each of 256 equal bins."""
    assert Gaussian().build().bits_per_dimension(0.0, 10, eight_bit=True) == pytest.approx(8.0)


def test_complaints():
    grey, mixed = torch.tensor([[0.0, 0.25, 1.0]]), torch.tensor([[0.0, -2.0, 1.0]])
    assert Bernoulli().validation_error(torch.tensor([[0.0, 1.0]])) is None
    assert "binarize" in Bernoulli().validation_error(grey)
    assert "from -2 to 1" in Bernoulli().validation_error(mixed)
    assert Gaussian().validation_error(mixed) is None
    for bad in (math.nan, math.inf):
        spoilt = torch.tensor([[0.0, bad]])
        assert "not finite" in Gaussian().validation_error(spoilt)
        assert Bernoulli().validation_error(spoilt) is not None


@pytest.mark.parametrize(
    "spec", [Gaussian(), Gaussian(scale=0.3, learned=True, floor=0.1), Bernoulli()], ids=repr
)
def test_a_likelihood_knows_the_section_that_says_it(spec):
    assert spec.build().spec == spec


def test_probabilities_of_the_decoder_are_taken_as_they_are():
    """A decoder that ends with a sigmoid gives the density of the logits before it."""
    likelihood, logits = Bernoulli(probabilities=True).build(), 3 * normal(5, 1, 4, 4, seed=1)
    x, output = binary(5, 1, 4, 4), torch.sigmoid(logits).requires_grad_()
    log_prob = likelihood.log_prob(x, output)
    assert_close(log_prob, Bernoulli().build().log_prob(x, logits))
    assert likelihood.mean(output) is output
    log_prob.sum().backward()
    assert_close(output.grad, ((x - output) / (output * (1 - output))).detach())


def test_probabilities_of_zero_and_one_cost_a_finite_number():
    x, output = torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[0.0, 1.0, 1.0]])
    log_prob = Bernoulli(probabilities=True).build().log_prob(x, output)
    assert_close(log_prob, torch.tensor([2 * math.log(1e-6)]), rtol=0, atol=0.1)


@pytest.mark.parametrize(
    ("spec", "output", "mean", "deviation"),
    [
        (Gaussian(scale=0.3), [-1.0, 0.0, 2.0], [-1.0, 0.0, 2.0], [0.3, 0.3, 0.3]),
        (Bernoulli(), [-2.0, 0.0, 1.0], [0.1192, 0.5, 0.7311], [0.3240, 0.5, 0.4434]),
        (Bernoulli(probabilities=True), [0.1, 0.5, 1.0], [0.1, 0.5, 1.0], [0.3, 0.5, 0.0]),
    ],
    ids=str,
)
def test_samples_have_the_moments_of_the_density(spec, output, mean, deviation):
    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor(output).expand(20_000, 3)
    x = spec.build().sample(rows, generator=generator)
    assert_close(x.mean(0), torch.tensor(mean), rtol=0, atol=0.015)
    assert_close(x.std(0), torch.tensor(deviation), rtol=0, atol=0.015)
    again = spec.build().sample(rows, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x, again)
