"""Shapes, sizes and refusals of the encoder/decoder pairs."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from dpvae_cli.architectures import AnyArchitecture, Mlp, MnistConv
from dpvae_cli.foundation.errors import UsageError
from tests.mathematics.random_models import members

CASES = [
    (Mlp(), (2,)),
    (Mlp(latent_dim=5), (1, 8, 8)),
    (Mlp(latent_dim=1, hidden=(7,), activation="relu"), (3, 2)),
    (Mlp(hidden=(), activation="tanh"), (4,)),
    (MnistConv(), (1, 28, 28)),
    (MnistConv(latent_dim=7), (1, 28, 28)),
]
IDS = [f"{spec.kind}-{spec.latent_dim}-{shape}" for spec, shape in CASES]
each_case = pytest.mark.parametrize(("spec", "shape"), CASES, ids=IDS)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_every_kind_has_a_case():
    assert {type(spec) for spec, _ in CASES} == set(members(AnyArchitecture))


@each_case
def test_shapes(spec, shape):
    encoder, decoder = spec.build(shape)
    posterior = encoder(torch.rand(3, *shape))
    assert posterior.mean.shape == posterior.log_variance.shape == (3, spec.latent_dim)
    assert decoder(torch.randn(3, spec.latent_dim)).shape == (3, *shape)


@each_case
def test_gradients_reach_every_parameter(spec, shape):
    encoder, decoder = (module.double() for module in spec.build(shape))
    x = torch.rand(8, *shape, dtype=torch.float64)
    posterior = encoder(x)
    (decoder(posterior.sample()).square().sum() + posterior.log_variance.sum()).backward()
    for parameter in [*encoder.parameters(), *decoder.parameters()]:
        assert (parameter.grad != 0).any()


@each_case
def test_examples_do_not_mix(spec, shape):
    encoder, decoder = (module.eval() for module in spec.build(shape))
    x = torch.rand(4, *shape)
    torch.testing.assert_close(encoder(x).mean[2:3], encoder(x[2:3]).mean)
    z = torch.randn(4, spec.latent_dim)
    torch.testing.assert_close(decoder(z)[2:3], decoder(z[2:3]))


@each_case
def test_log_variance_is_clamped_whatever_the_input(spec, shape):
    chosen = spec.model_copy(update={"log_variance_range": (-3.0, 2.0)})
    for built, (low, high) in ((spec, (-20.0, 10.0)), (chosen, (-3.0, 2.0))):
        encoder, _ = built.build(shape)
        # a linear last layer of random sign reaches both ends over enough inputs
        x = 1e6 * torch.randn(64, *shape)
        log_variance = encoder(x).log_variance
        assert low <= log_variance.min()
        assert log_variance.max() <= high
        assert low == log_variance.min() or log_variance.max() == high
        assert torch.isfinite(encoder(x).sample()).all()


def test_first_half_is_the_mean_second_half_the_log_variance():
    encoder, _ = Mlp(latent_dim=2, hidden=()).build((1,))
    last = encoder.network[-1]
    last.weight.data.zero_()
    last.bias.data = torch.tensor([1.0, 2.0, 3.0, 4.0])
    posterior = encoder(torch.zeros(1, 1))
    assert posterior.mean.tolist() == [[1.0, 2.0]]
    assert posterior.log_variance.tolist() == [[3.0, 4.0]]


def test_mnist_conv_has_the_released_code_s_size():
    encoder, decoder = MnistConv(latent_dim=2).build((1, 28, 28))
    assert parameters(encoder) == 233_604
    assert parameters(decoder) == 233_569


def test_moons_nets_are_the_paper_s():
    encoder, decoder = Mlp().build((2,))

    def widths(module: nn.Module) -> list[tuple[int, int]]:
        linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        return [(layer.in_features, layer.out_features) for layer in linear]

    assert widths(encoder) == [(2, 100), (100, 50), (50, 4)]
    assert widths(decoder) == [(2, 50), (50, 100), (100, 2)]


def test_default_activation_bends():
    """The released code's `LeakyReLU(True)` has slope one: affine nets by accident."""
    _, decoder = Mlp(latent_dim=2).build((2,))
    decoder = decoder.double()
    z = torch.randn(2, 2, dtype=torch.float64)
    middle = decoder(z.mean(dim=0, keepdim=True))
    assert (middle - decoder(z).mean(dim=0, keepdim=True)).abs().max() > 1e-6


@pytest.mark.parametrize("shape", [(28, 28), (1, 32, 32), (3, 28, 28), (784,)])
def test_mnist_conv_refuses_other_shapes(shape):
    with pytest.raises(UsageError, match="1, 28, 28") as caught:
        MnistConv().build(shape)
    assert str(shape) in str(caught.value)
    assert "mlp" in caught.value.hint


@pytest.mark.parametrize(
    "fields",
    [
        {"latent_dim": 0},
        {"hidden": (0,)},
        {"activation": "gelu"},
        {"log_variance_range": (1.0, 1.0)},
        {"log_variance_range": (2.0, 1.0)},
    ],
    ids=str,
)
def test_refused_fields(fields):
    with pytest.raises(ValidationError):
        Mlp(**fields)


def test_yaml_lists_are_accepted():
    spec = Mlp.model_validate({"hidden": [8, 4], "log_variance_range": [-5, 5]})
    assert spec.hidden == (8, 4)
    assert spec.log_variance_range == (-5, 5)
