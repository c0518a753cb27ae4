"""Shapes, sizes and refusals of the encoder/decoder pairs."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from dpvae_cli.architectures import (
    AnyArchitecture,
    CelebaConv,
    Conv,
    Mlp,
    MnistConv,
    Own,
    SvhnConv,
)
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.model import VAE
from dpvae_cli.priors import Decoupled, StandardNormal
from tests.mathematics.random_models import members

CASES = [
    (Mlp(), (2,)),
    (Mlp(latent_dim=5), (1, 8, 8)),
    (Mlp(latent_dim=1, hidden=(7,), activation="relu"), (3, 2)),
    (Mlp(hidden=(), activation="tanh"), (4,)),
    (MnistConv(), (1, 28, 28)),
    (MnistConv(latent_dim=7), (1, 28, 28)),
    (SvhnConv(latent_dim=5), (3, 32, 32)),
    (CelebaConv(latent_dim=3), (3, 64, 64)),
    (Conv(latent_dim=4, width=5), (1, 8, 8)),
    (Conv(width=3, depth=1), (2, 10, 10)),
    (Conv(width=2), (3, 128, 128)),
]
IDS = [f"{spec.kind}-{spec.latent_dim}-{shape}" for spec, shape in CASES]
each_case = pytest.mark.parametrize(("spec", "shape"), CASES, ids=IDS)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_every_kind_has_a_case():
    assert {type(spec) for spec, _ in CASES} | {Own} == set(members(AnyArchitecture))


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
        # in training mode batch norm would take out the size of the input
        encoder = built.build(shape)[0].eval()
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


def test_identity_makes_the_moons_nets_affine():
    encoder, decoder = Mlp(activation="identity").build((2,))
    for network in (encoder.double().network, decoder.double()):
        x = torch.randn(2, 2, dtype=torch.float64)
        middle = network(x.mean(dim=0, keepdim=True))
        torch.testing.assert_close(middle, network(x).mean(dim=0, keepdim=True))


def test_slope_one_makes_celeba_conv_linear_but_for_batch_norm():
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    gaps = []
    for slope in (0.01, 1.0):
        encoder, decoder = CelebaConv(latent_dim=2, negative_slope=slope).build((3, 64, 64))
        slopes = [
            module.negative_slope
            for net in (encoder, decoder)
            for module in net.modules()
            if isinstance(module, nn.LeakyReLU)
        ]
        assert slopes == [slope] * 10
        network = encoder.double().eval().network  # evaluating, batch norm is affine
        middle = network(x.mean(dim=0, keepdim=True)) - network(x).mean(dim=0, keepdim=True)
        gaps.append(float(middle.detach().abs().max()))
    assert gaps[0] > 1e-6
    assert gaps[1] < 1e-12


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


def convolutions(module: nn.Module) -> list[tuple[int, int, int]]:
    """Return (channels in, channels out, kernel) of every convolution."""
    found = [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    return [(m.in_channels, m.out_channels, m.kernel_size[0]) for m in found]


def norms(module: nn.Module) -> list[int]:
    return [m.num_features for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def sides(network: nn.Module, x: torch.Tensor) -> list[int]:
    """Return the side of the image after every convolution."""
    found = []
    for layer in network:
        x = layer(x)
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            found.append(x.shape[-1])
    return found


def test_svhn_conv_is_the_released_code_s_but_for_useless_biases():
    encoder, decoder = SvhnConv().build((3, 32, 32))
    assert [width for _, width, _ in convolutions(encoder)] == [32] * 8
    assert [kernel for *_, kernel in convolutions(encoder)] == [4, 3, 4, 3, 3, 3, 3, 3]
    assert sides(encoder.network, torch.rand(2, 3, 32, 32)) == [16, 16, 8, 8, 6, 6, 4, 4]
    assert sides(decoder, torch.randn(2, 32)) == [6, 6, 8, 8, 16, 16, 32, 32]
    assert (norms(encoder), norms(decoder)) == ([32] * 8, [])
    weights = 3 * 32 * 16 + 32 * 32 * 16 + 6 * 32 * 32 * 9
    assert parameters(encoder) == weights + 8 * 2 * 32 + 512 * 64 + 64
    assert parameters(decoder) == (32 * 512 + 512) + 32 * 32 * (2 * 9 + 2 * 16 + 3 * 9) + 7 * 32 + (
        32 * 3 * 9 + 3
    )


def test_celeba_conv_has_the_stated_widths():
    encoder, decoder = CelebaConv().build((3, 64, 64))
    widths = [32, 64, 128, 256, 256]
    assert [out for _, out, _ in convolutions(encoder)] == widths
    assert [kernel for *_, kernel in convolutions(encoder)] == [4] * 5
    assert sides(encoder.network, torch.rand(2, 3, 64, 64)) == [32, 16, 8, 4, 2]
    assert [out for _, out, _ in convolutions(decoder)] == [256, 128, 64, 32, 3]
    assert sides(decoder, torch.randn(2, 64)) == [4, 8, 16, 32, 64]
    assert (norms(encoder), norms(decoder)) == (widths, [256, 128, 64, 32])
    slopes = [m.negative_slope for m in encoder.modules() if isinstance(m, nn.LeakyReLU)]
    assert slopes == [0.01] * 5
    modes = [m.mode for m in decoder.modules() if isinstance(m, nn.Upsample)]
    assert modes == ["nearest"] * 5


@pytest.mark.parametrize("spec", [SvhnConv(), CelebaConv()], ids=lambda spec: spec.kind)
def test_batch_norm_mixes_a_training_batch_and_remembers(spec):
    """In training an example's code depends on its batch, in evaluation on what was seen before."""
    shape = (3, 32, 32) if spec.kind == "svhn_conv" else (3, 64, 64)
    encoder, _ = spec.build(shape)
    x = torch.rand(8, *shape)
    assert not torch.allclose(encoder(x).mean[:4], encoder(x[:4]).mean, atol=1e-4)
    before = encoder.eval()(x).mean
    encoder.train()(3 * x)
    assert not torch.allclose(encoder.eval()(x).mean, before, atol=1e-4)
    assert torch.equal(encoder(x).mean, encoder(x).mean)


def test_conv_has_no_batch_norm():
    encoder, decoder = Conv().build((1, 16, 16))
    assert norms(encoder) == norms(decoder) == []


@pytest.mark.parametrize(
    ("side", "depth", "inner"),
    [
        (8, None, 4),
        (28, None, 7),
        (32, None, 4),
        (64, None, 4),
        (96, None, 6),
        (100, None, 25),
        (4, 2, 1),
        (12, 2, 3),
        (64, 1, 32),
        (64, 6, 1),
    ],
)
def test_conv_halves_the_side_as_often_as_it_says(side, depth, inner):
    encoder, decoder = Conv(width=1, depth=depth).build((1, side, side))
    assert sides(encoder.network, torch.rand(1, 1, side, side))[-1] == inner
    assert sides(decoder, torch.randn(1, 16))[-1] == side


def test_conv_doubles_its_channels_up_to_eightfold():
    encoder, decoder = Conv(width=3, depth=5).build((4, 32, 32))
    assert [out for _, out, _ in convolutions(encoder)] == [3, 6, 12, 24, 24]
    assert [out for _, out, _ in convolutions(decoder)] == [24, 12, 6, 3, 4]


@pytest.mark.parametrize(
    ("spec", "shape", "said"),
    [
        (SvhnConv(), (3, 64, 64), "architecture=conv"),
        (SvhnConv(), (1, 32, 32), "architecture=conv"),
        (CelebaConv(), (3, 32, 32), "data.size=64"),
        (Conv(), (3, 32, 28), "architecture=mlp"),
        (Conv(), (784,), "architecture=mlp"),
        (Conv(), (1, 27, 27), "data.size=32"),
        (Conv(), (1, 4, 4), "architecture=mlp"),
        (Conv(depth=3), (1, 28, 28), "architecture.depth"),
    ],
    ids=str,
)
def test_images_that_do_not_fit_are_refused_with_a_way_out(spec, shape, said):
    with pytest.raises(UsageError, match=f"architecture {spec.kind}") as caught:
        spec.build(shape)
    assert said in caught.value.hint


@pytest.mark.parametrize("fields", [{"width": 0}, {"depth": 0}, {"latent_dim": 0}], ids=str)
def test_fields_conv_refuses(fields):
    with pytest.raises(ValidationError):
        Conv(**fields)


def test_own_networks_cannot_be_built():
    with pytest.raises(UsageError, match="exist in Python alone") as caught:
        Own(latent_dim=2).build((2,))
    assert "dpvae.train(recipe, run_dir, model=" in caught.value.hint


@each_case
@pytest.mark.parametrize("size", [1e6, -1e6])
def test_huge_inputs_leave_every_loss_and_gradient_finite(spec, shape, size):
    """Log-variances are clamped and the flow's scales bounded, before training and after a step."""
    torch.manual_seed(0)
    encoder, decoder = spec.build(shape)
    prior = Decoupled(blocks=6).build(spec.latent_dim) if spec.latent_dim > 1 else None
    prior = prior or StandardNormal().build(spec.latent_dim)
    model = VAE(encoder=encoder, decoder=decoder, likelihood="gaussian", prior=prior)
    model.eval()  # batch norm would take out the size
    x = size * torch.rand(4, *shape)
    posterior = model.encode(x)
    z = posterior.sample()
    loss = model.reconstruction(x, z) + model.prior.kl(posterior, z)
    loss.mean().backward()
    assert bool(torch.isfinite(loss).all())
    log_variance = posterior.log_variance.detach()
    assert -20 <= float(log_variance.min()) <= float(log_variance.max()) <= 10
    for name, weight in model.named_parameters():
        assert weight.grad is None or bool(torch.isfinite(weight.grad).all()), name


@pytest.mark.parametrize("latent_dim", [2, 5])
@pytest.mark.parametrize("bound", [1.0, 2.0])
def test_the_flow_stretches_huge_codes_no_more_than_its_bound(latent_dim, bound):
    prior = Decoupled(blocks=6, scale_bound=bound).build(latent_dim)
    for parameter in prior.parameters():  # as far from the small initial weights as may be
        parameter.data.mul_(100)
    for size in (1.0, 1e6, -1e6):
        z = size * torch.rand(64, latent_dim)
        for way in (prior.to_generation, prior.to_representation):
            there, log_abs_det = way(z)
            assert float(log_abs_det.abs().max()) <= 6 * latent_dim * bound * (1 + 1e-6)
            assert float(there.abs().max()) <= (abs(size) + 6) * math.exp(6 * bound) * (1 + 1e-6)
