"""Models of one's own: what VAE takes, what networks have to return, what it says otherwise."""

import pytest
import torch
from torch import nn

import dpvae_cli as dpvae
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.likelihoods import BernoulliLikelihood, GaussianLikelihood
from dpvae_cli.model import VAE
from dpvae_cli.priors import DecoupledPrior, StandardNormalPrior
from tests.small import PairEncoder, own_networks, own_vae

X = torch.linspace(-1, 1, 10).view(5, 2)


class Returns(nn.Module):
    """A network that returns what a function makes of its input."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.function(x)


def test_four_parts_make_a_model():
    prior = dpvae.Decoupled(blocks=2).build(3)
    likelihood = dpvae.Gaussian(scale=0.5).build()
    model = VAE(**own_networks(3), likelihood=likelihood, prior=prior)
    assert (model.prior, model.likelihood, model.latent_dim) == (prior, likelihood, 3)
    assert model.encode(X).mean.shape == (5, 3)
    assert model.sample(4).shape == (4, 2)
    assert model.reconstruction(X, model.encode(X).sample()).shape == (5,)


@pytest.mark.parametrize(
    ("likelihood", "prior", "built"),
    [
        ("gaussian", "decoupled", (GaussianLikelihood, DecoupledPrior)),
        ("bernoulli", "standard_normal", (BernoulliLikelihood, StandardNormalPrior)),
        (dpvae.Bernoulli(), dpvae.StandardNormal(), (BernoulliLikelihood, StandardNormalPrior)),
        (dpvae.Gaussian(scale=0.1), dpvae.Decoupled(), (GaussianLikelihood, DecoupledPrior)),
    ],
)
def test_words_and_specs_are_built(likelihood, prior, built):
    model = own_vae(3, likelihood=likelihood, prior=prior)
    assert (type(model.likelihood), type(model.prior)) == built
    assert model.prior.latent_dim == 3
    for given, part in ((likelihood, model.likelihood), (prior, model.prior)):
        assert given in (part.spec, part.spec.kind)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"prior": "decupled"}, "did you mean decoupled"),
        ({"likelihood": "gausian"}, "did you mean gaussian"),
        ({"prior": StandardNormalPrior(3)}, "latent_dim=2, but the prior has 3"),
        ({"prior": dpvae.Decoupled(masks=((0, 1, 1),), blocks=1)}, "mask .* has 3 entries"),
    ],
)
def test_parts_that_cannot_be(parts, said):
    with pytest.raises(UsageError, match=said):
        own_vae(**parts)


def test_a_prior_to_be_built_needs_its_size():
    with pytest.raises(UsageError, match="latent dimensions is not known") as caught:
        VAE(**own_networks(), likelihood="gaussian", prior="decoupled")
    assert "latent_dim=L" in caught.value.hint
    assert "dpvae.Decoupled(...).build(L)" in caught.value.hint


def test_a_pair_and_a_diagonal_gaussian_are_the_same_posterior():
    encoder = PairEncoder().eval()
    pair = own_vae(encoder=encoder)
    whole = own_vae(encoder=Returns(lambda x: dpvae.DiagonalGaussian(*encoder(x))))
    as_list = own_vae(encoder=Returns(lambda x: list(encoder(x))))
    mean, log_variance = encoder(X)
    for model in (pair, whole, as_list):
        posterior = model.encode(X)
        assert isinstance(posterior, dpvae.DiagonalGaussian)
        assert torch.equal(posterior.mean, mean)
        assert torch.equal(posterior.log_variance, log_variance)


def test_gradients_reach_the_networks():
    model = own_vae()
    posterior = model.encode(X)
    z = posterior.sample()
    (model.reconstruction(X, z) + model.prior.kl(posterior, z)).mean().backward()
    parameters = [*model.encoder.parameters(), *model.decoder.parameters()]
    assert all(parameter.grad is not None for parameter in parameters)
    assert all((network.grad != 0).any() for network in parameters)


MEAN = torch.zeros(5, 2)
WRONG = {
    "one tensor": ("encoder", lambda x: torch.zeros(5, 4), r"tensor of shape \(5, 4\)"),
    "two rows": ("encoder", lambda x: torch.zeros(2, 2), r"tensor of shape \(2, 2\)"),
    "three": ("encoder", lambda x: (MEAN, MEAN, MEAN), "a tuple of 3: a tensor"),
    "no tensors": ("encoder", lambda x: (1.0, 2.0), "a tuple of 2: a float"),
    "nothing": ("encoder", lambda x: None, "returned a NoneType"),
    "wide mean": (
        "encoder",
        lambda x: (torch.zeros(5, 3), torch.zeros(5, 3)),
        r"encoder's mean has shape \(5, 3\), expected \(5, 2\)",
    ),
    "narrow log_variance": (
        "encoder",
        lambda x: (MEAN, torch.zeros(5, 1)),
        r"encoder's log_variance has shape \(5, 1\), expected \(5, 2\)",
    ),
    "nan mean": ("encoder", lambda x: (MEAN / 0, MEAN), "mean has values that are not finite"),
    "inf": ("encoder", lambda x: (MEAN, MEAN + torch.inf), "log_variance has values that are not"),
    "raises": ("encoder", nn.Linear(3, 2), r"encoder fails on a tensor of shape \(5, 2\)"),
    "few columns": (
        "decoder",
        lambda z: torch.zeros(5, 1),
        r"decoder's output has shape \(5, 1\), expected \(5, 2\)",
    ),
    "extra axis": ("decoder", lambda z: torch.zeros(5, 1, 2), r"has shape \(5, 1, 2\)"),
    "nan output": ("decoder", lambda z: z * torch.nan, "output has values that are not finite"),
    "pair": ("decoder", lambda z: (z, z), "decoder returned a tuple of 2"),
    "decoder raises": ("decoder", nn.Linear(3, 2), r"decoder fails on a tensor of shape \(5, 2\)"),
}


@pytest.mark.parametrize(("name", "function", "said"), WRONG.values(), ids=WRONG)
def test_wrong_outputs_are_named(name, function, said):
    model = own_vae(**{name: Returns(function)})
    with pytest.raises(UsageError, match=said) as caught:
        model.check(X)
    assert "(mean, log_variance)" in caught.value.hint
    with pytest.raises(UsageError, match="not known yet"):
        _ = model.example_shape


def test_a_tensor_of_two_rows_is_no_pair():
    model = own_vae(encoder=Returns(lambda x: torch.zeros(2, 2)))
    with pytest.raises(UsageError, match="expected a pair"):
        model.encode(X[:2])


def test_check_learns_the_shape_and_leaves_no_trace():
    model = own_vae()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    model.check(X)
    assert torch.equal(torch.rand(3), expected)
    assert model.example_shape == (2,)
    assert model.training
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(UsageError, match=r"of shape \(2,\), these have \(3,\)"):
        model.check(torch.zeros(5, 3))


def test_lazy_modules_know_their_sizes_after_check():
    decoder = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2))
    model = own_vae(decoder=decoder)
    model.check(X)
    assert decoder[0].weight.shape == (8, 2)


def test_public_names_are_those_of_their_modules():
    for name in ("Bernoulli", "Decoupled", "DiagonalGaussian", "Gaussian", "StandardNormal"):
        assert name in dir(dpvae)
        assert getattr(dpvae, name).__name__ == name


def bernoulli_vae(decoder, data_dim=2, **said):
    return own_vae(2, data_dim, decoder=decoder, likelihood=dpvae.Bernoulli(**said)).eval()


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Softmax(dim=1), nn.Hardsigmoid()], ids=str)
@pytest.mark.parametrize("data_dim", [1, 2, 50])
def test_a_decoder_of_probabilities_is_refused_where_logits_are_taken(last, data_dim):
    decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, data_dim), last)
    x = torch.ones(5, data_dim)
    with pytest.raises(UsageError, match="second sigmoid") as caught:
        bernoulli_vae(decoder, data_dim).check(x)
    assert "dpvae.Bernoulli(probabilities=True)" in caught.value.hint
    for said in (True, False):
        bernoulli_vae(decoder, data_dim, probabilities=said).check(x)
    own_vae(2, data_dim, decoder=decoder, likelihood="gaussian").check(x)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid])
@pytest.mark.parametrize("data_dim", [5, 50])
def test_fresh_logits_are_not_taken_for_probabilities(data_dim, activation):
    x = torch.ones(16, data_dim)
    for seed in range(30):
        torch.manual_seed(seed)
        decoder = nn.Sequential(nn.Linear(2, 8), activation(), nn.Linear(8, data_dim))
        bernoulli_vae(decoder, data_dim).check(x)


def test_logits_that_happen_to_lie_in_the_unit_interval_are_logits():
    first, last = nn.Linear(2, 8), nn.Linear(8, 50)
    first.weight.data.mul_(1e-3)
    nn.init.constant_(last.bias, 0.5)
    decoder = nn.Sequential(first, nn.ReLU(), last)
    last.weight.data.mul_(0.1)
    shown = decoder(torch.randn(1_000, 2))
    assert 0 < shown.min() < shown.max() < 1
    bernoulli_vae(decoder, 50).check(torch.ones(16, 50))
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    bernoulli_vae(decoder, 50).check(torch.ones(16, 50))


def test_logits_are_refused_where_probabilities_were_promised():
    decoder = nn.Linear(2, 50)
    with pytest.raises(UsageError, match="was told of probabilities"):
        bernoulli_vae(decoder, 50, probabilities=True).check(torch.ones(5, 50))


def test_samples_with_noise_are_drawn_around_decoded_means():
    model = own_vae(likelihood=dpvae.Gaussian(scale=0.25)).eval()
    seed = torch.Generator().manual_seed
    means = model.sample(5_000, generator=seed(0))
    noisy = model.sample(5_000, noise=True, generator=seed(0))
    assert (noisy - means).std().item() == pytest.approx(0.25, rel=0.03)
