"""The VampPrior: a mixture of the encoder's posteriors, whose encoder is not its own."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import dpvae_cli as dpvae
from dpvae_cli.architectures import Mlp
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import fork_rng
from tests.mathematics.random_models import normal, random_posterior
from tests.small import PairEncoder, own_vae

SHAPE = (3,)


def built(spec: dpvae.Vamp, encoder: nn.Module | None = None):
    with fork_rng(0, "test"):
        encoder = encoder or Mlp(latent_dim=2, hidden=(8,)).build(SHAPE)[0]
        return spec.build(2, encoder.double(), SHAPE).double(), encoder


def test_it_is_the_mean_of_the_posteriors_at_its_pseudo_inputs():
    prior, encoder = built(dpvae.Vamp(pseudo_inputs=4))
    z = normal(5, 2)
    posterior = encoder(prior.pseudo_inputs)
    each = [
        dpvae.DiagonalGaussian(m.expand(5, 2), v.expand(5, 2)).log_prob(z)
        for m, v in zip(posterior.mean, posterior.log_variance, strict=True)
    ]
    assert_close(prior.log_prob(z), torch.stack(each).exp().mean(dim=0).log())


def test_gradients_reach_the_encoder_through_the_prior():
    prior, encoder = built(dpvae.Vamp(pseudo_inputs=4))
    posterior = random_posterior(6, 2)
    prior.kl(posterior, posterior.sample()).sum().backward()
    assert all((parameter.grad != 0).any() for parameter in encoder.parameters())


def test_the_encoder_is_in_no_state_of_the_prior():
    prior, _ = built(dpvae.Vamp(pseudo_inputs=4))
    assert list(prior.state_dict()) == ["pseudo_inputs"]
    model = own_vae(prior=dpvae.Vamp(pseudo_inputs=4), example_shape=(2,))
    assert [name for name in model.state_dict() if name.startswith("prior.")] == [
        "prior.pseudo_inputs"
    ]
    assert len(list(model.parameters())) == len({id(p) for p in model.parameters()})
    assert model.sample(3).shape == (3, 2)


@pytest.mark.parametrize("value_range", [None, (0.0, 1.0), (-3.0, -2.0)])
def test_pseudo_inputs_stay_in_their_range(value_range):
    prior, _ = built(dpvae.Vamp(pseudo_inputs=50, range=value_range))
    low, high = value_range or (-torch.inf, torch.inf)
    assert prior.pseudo_inputs.min() >= low
    assert prior.pseudo_inputs.max() <= high
    assert prior.pseudo_inputs.std() > 0.2, "all of them would begin as one component"
    prior.pseudo_inputs.data += 100
    assert prior.inputs().max() == min(high, prior.pseudo_inputs.max().item())


def test_batch_norm_sees_data_alone_and_the_density_is_that_of_evaluation():
    network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 4))
    from dpvae_cli.architectures import Encoder

    encoder = Encoder(network).double()
    encoder(normal(50, 3))
    prior, _ = built(dpvae.Vamp(pseudo_inputs=4), encoder)
    before = {name: tensor.clone() for name, tensor in network[1].state_dict().items()}
    in_training = prior.log_prob(normal(5, 2))
    assert network[1].training
    assert all(torch.equal(t, before[name]) for name, t in network[1].state_dict().items())
    encoder.eval()
    assert torch.equal(prior.log_prob(normal(5, 2)), in_training)


def test_an_encoder_of_ones_own_may_return_a_pair():
    prior, encoder = built(dpvae.Vamp(pseudo_inputs=4), PairEncoder(2, 3))
    assert prior.log_prob(normal(5, 2)).shape == (5,)
    assert encoder.training, "its drop-out is on again"


def test_it_says_what_it_needs():
    with pytest.raises(UsageError, match="needs both the encoder and the shape") as caught:
        dpvae.Vamp().build(2)
    assert "example_shape" in caught.value.hint
    with pytest.raises(UsageError, match="needs both"):
        own_vae(prior="vamp")
