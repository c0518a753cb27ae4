"""What every prior must do, over the union `AnyPrior`: a new kind is tested by joining it."""

from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence
from torch.testing import assert_close

from dpvae_cli.architectures import Mlp
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.priors import (
    AnyPrior,
    Decoupled,
    FlowMatchingPrior,
    LearnedPrior,
    Prior,
    StandardNormal,
)
from dpvae_cli.priors.base import kinds_with_generation
from dpvae_cli.recipe.validation import kinds
from tests.cases import NOT_DIFFERENTIABLE, VARIANTS, small_spec
from tests.mathematics.random_models import (
    assert_near,
    members,
    normal,
    random_posterior,
    randomised,
)

EXAMPLE_SHAPE = (3,)
DRAWS = 10_000
POST_HOC = [kind for kind in kinds("fit_prior") if kind not in kinds("prior")]
SPECS = (
    [small_spec("prior", kind) for kind in kinds("prior")]
    + [kinds("prior")[kind](**fields) for (_, kind), all_ in VARIANTS.items() for fields in all_]
    + [small_spec("fit_prior", kind) for kind in POST_HOC]
)
BIJECTIVE = [spec for spec in SPECS if spec.has_generation]
DIRECT = [spec for spec in SPECS if not spec.has_generation]
FITTING = [(spec, size) for spec in BIJECTIVE for size in (2, 3) if not spec.validation_error(size)]


def name_of(spec) -> str:
    return f"{spec.kind}-{SPECS.index(spec)}"


def build(spec, *, latent_dim: int = 2) -> Prior:
    """Return the prior in float64 with random weights, moderate enough for a quadrature."""
    encoder, _ = Mlp(latent_dim=latent_dim, hidden=(8,)).build(EXAMPLE_SHAPE)
    encoder = randomised(encoder, gain=1.5, seed=4)
    return randomised(spec.build(latent_dim, encoder, EXAMPLE_SHAPE), gain=0.9, seed=3)


def build_fine(spec, *, latent_dim: int = 2) -> Prior:
    """Return the same prior; where a way is integrated, with steps that leave no error to see."""
    prior = build(spec, latent_dim=latent_dim)
    if isinstance(prior, FlowMatchingPrior):
        prior.bijection.steps = 40
    return prior


each = pytest.mark.parametrize("spec", SPECS, ids=name_of)
each_bijective = pytest.mark.parametrize("spec", BIJECTIVE, ids=name_of)
each_direct = pytest.mark.parametrize("spec", DIRECT, ids=name_of)


@pytest.fixture(params=SPECS, ids=name_of)
def prior(request) -> Prior:
    return build(request.param)


def grid(low: Tensor, high: Tensor, *, points: int = 241) -> tuple[Tensor, float]:
    """Return a grid over a box in the plane and the area that each of its points stands for."""
    axes = [
        torch.linspace(a, b, points, dtype=torch.float64) for a, b in zip(low, high, strict=True)
    ]
    area = ((high - low) / (points - 1)).prod().item()
    return torch.cartesian_prod(*axes), area


def support(prior) -> tuple[Tensor, float]:
    """Return a grid over the box that many samples lie in, and a margin."""
    with torch.no_grad():
        z = prior.sample(DRAWS, generator=stream(0, "support"))
    margin = 0.25 * (z.amax(dim=0) - z.amin(dim=0))
    return grid(z.amin(dim=0) - margin, z.amax(dim=0) + margin, points=361)


def uncertainty(prior) -> float:
    """Return how far a density that contains an estimate may be off."""
    known = getattr(prior, "log_normaliser", None)
    return 0.0 if known is None else 4 * known.standard_error


@torch.no_grad()
def check_integral(prior) -> None:
    """Assert that the density integrates to one."""
    points, area = support(prior)
    total = prior.log_prob(points).exp().sum().item() * area
    assert total == pytest.approx(1, abs=2e-3 + uncertainty(prior))


def squashed(z: Tensor) -> Tensor:
    """Return z with its far ends drawn in, so that heavy tails have moments too."""
    return 3 * torch.tanh(z / 3)


def jacobians(way, z: Tensor) -> Tensor:
    """Return autograd's Jacobian of a map at each row."""

    def of_one(row):
        return way(row[None])[0][0]

    return torch.stack([torch.autograd.functional.jacobian(of_one, row) for row in z])


FUNCTIONS = {
    "z1": lambda z: z[:, 0],
    "z2": lambda z: z[:, 1],
    "z1^2": lambda z: z[:, 0].square(),
    "z2^2": lambda z: z[:, 1].square(),
    "z1 z2": lambda z: z[:, 0] * z[:, 1],
    "cos": lambda z: torch.cos(3 * z[:, 0] - z[:, 1]),
    "quadrant": lambda z: torch.sigmoid(4 * z).prod(dim=1),  # smooth, for the quadrature
}


@torch.no_grad()
def check_samples(prior) -> None:
    """Assert that means over samples equal integrals against the density."""
    points, area = support(prior)
    weights = area * prior.log_prob(points).exp()
    z = squashed(prior.sample(DRAWS, generator=stream(0, "samples")))
    points = squashed(points)
    for function in FUNCTIONS.values():
        values = function(z)
        expected = (weights * function(points)).sum().item()
        error = values.std().item() / DRAWS**0.5
        floor = 2e-3 + uncertainty(prior) * float(function(points).abs().max())
        assert_near(values.mean().item(), expected, error=error, floor=floor)


@dataclass
class Broken:
    """Broken copies of a prior: without the log-determinant, or with samples too wide."""

    prior: Prior
    forget_log_det: bool = False
    stretch: float = 1.0

    def log_prob(self, z: Tensor) -> Tensor:
        if not self.forget_log_det:
            return self.prior.log_prob(z)
        return self.prior.log_prob(z) - self.prior.to_generation(z)[1]

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        return self.stretch * self.prior.sample(n, generator=generator)


def test_density_integrates_to_one(prior):
    check_integral(prior)


@pytest.mark.parametrize("spec", BIJECTIVE[1:], ids=name_of)
def test_density_without_its_log_determinant_does_not(spec):
    with pytest.raises(AssertionError):
        check_integral(Broken(build(spec), forget_log_det=True))


def test_samples_match_the_density(prior):
    check_samples(prior)


def test_stretched_samples_do_not(prior):
    with pytest.raises(AssertionError):
        check_samples(Broken(prior, stretch=1.15))


@each_bijective
def test_maps_undo_each_other(spec):
    prior, z = build_fine(spec), 2 * normal(50, 2)
    z0, forward = prior.to_generation(z)
    back, inverse = prior.to_representation(z0)
    assert_close(back, z)
    assert_close(forward + inverse, torch.zeros_like(forward))
    assert forward.shape == (50,)


@pytest.mark.parametrize(("spec", "latent_dim"), FITTING, ids=str)
def test_log_determinants_are_those_of_autograd(spec, latent_dim):
    prior, z = build_fine(spec, latent_dim=latent_dim), 2 * normal(3, latent_dim)
    for way in (prior.to_generation, prior.to_representation):
        assert_close(way(z)[1], torch.linalg.slogdet(jacobians(way, z)).logabsdet)


@each_bijective
def test_density_is_that_of_z0_pulled_back(spec):
    prior, z = build(spec), 2 * normal(50, 2)
    z0, log_abs_det = prior.to_generation(z)
    assert_close(prior.log_prob(z), prior.require_generation().log_prob(z0) + log_abs_det)
    if getattr(spec, "base", "normal") == "normal":
        expected = Normal(0.0, 1.0).log_prob(z0).sum(dim=-1)
        assert_close(prior.generation.log_prob(z0), expected)


@each_direct
def test_without_a_bijection_there_is_no_z0_and_it_says_so(spec):
    prior = build(spec)
    for call in (
        lambda: prior.to_generation(normal(3, 2)),
        lambda: prior.to_representation(normal(3, 2)),
        prior.require_generation,
    ):
        with pytest.raises(UsageError, match=f"the {spec.kind} prior has no generation space") as e:
            call()
        assert "--space z" in e.value.hint


@each
def test_the_section_knows_whether_there_is_a_z0(spec):
    assert spec.has_generation == (build(spec).generation is not None)
    assert (spec.kind in kinds_with_generation()) == spec.has_generation


@torch.no_grad()
def test_mean_of_the_kl_equals_its_integral(prior):
    """KL[q(z|x), p(z)] = integral of q (log q - log p), by quadrature over six deviations."""
    posterior = random_posterior(3, 2)
    z = posterior.sample(DRAWS, generator=stream(0, "kl"))
    for i in range(3):
        repeated = type(posterior)(
            posterior.mean[i].expand(DRAWS, 2), posterior.log_variance[i].expand(DRAWS, 2)
        )
        kl = prior.kl(repeated, z[:, i])
        deviation = torch.exp(0.5 * posterior.log_variance[i])
        points, area = grid(posterior.mean[i] - 6 * deviation, posterior.mean[i] + 6 * deviation)
        log_q = Independent(Normal(posterior.mean[i], deviation), 1).log_prob(points)
        expected = (log_q.exp() * (log_q - prior.log_prob(points))).sum().item() * area
        error = kl.std().item() / DRAWS**0.5
        assert_near(kl.mean().item(), expected, error=error, floor=1e-5)


def test_gradients_reach_every_parameter(prior):
    posterior = random_posterior(20, 2)
    prior.kl(posterior, posterior.sample(generator=stream(0, "z"))).sum().backward()
    assert all((p.grad != 0).any() for p in prior.parameters())
    assert (posterior.mean.grad != 0).all()
    assert (posterior.log_variance.grad != 0).all()


def test_gradients_of_samples_reach_what_moves_them(prior):
    unreached = NOT_DIFFERENTIABLE.get(prior.spec.kind, set())
    if ... in unreached:
        assert not prior.sample(20, generator=stream(0, "z")).requires_grad
        return
    prior.sample(200, generator=stream(0, "z")).square().sum().backward()
    without = {n for n, p in prior.named_parameters() if p.grad is None or not p.grad.any()}
    assert without <= unreached


def test_only_the_standard_normal_has_no_parameters():
    without = [spec.kind for spec in SPECS if not list(build(spec).parameters())]
    assert without == ["standard_normal"]


def test_samples_follow_the_generator(prior):
    draws = [prior.sample(5, generator=stream(seed, "z")) for seed in (0, 0, 1)]
    assert draws[0].shape == (5, 2)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_state_survives_saving(prior):
    z = normal(5, 2)
    state = {name: tensor.clone() for name, tensor in prior.state_dict().items()}
    before = prior.log_prob(z)
    for parameter in prior.parameters():
        parameter.data += 0.1
    prior.load_state_dict(state)
    assert torch.equal(prior.log_prob(z), before)


@pytest.mark.parametrize("latent_dim", [2, 3, 8])
@pytest.mark.parametrize("kind", dict.fromkeys(members(AnyPrior) + members(LearnedPrior)))
def test_fresh_priors_of_any_size_work_in_float32(kind, latent_dim):
    encoder, _ = Mlp(latent_dim=latent_dim).build(EXAMPLE_SHAPE)
    prior = kind().build(latent_dim, encoder, EXAMPLE_SHAPE)
    z = prior.sample(4)
    assert z.shape == (4, latent_dim)
    assert z.dtype == prior.log_prob(z).dtype == torch.float32
    assert kind().validation_error(latent_dim) is None


def test_kl_of_the_standard_normal_is_torchs():
    posterior = random_posterior(7, 5)
    prior = StandardNormal().build(5, None, EXAMPLE_SHAPE).double()
    deviation = torch.exp(0.5 * posterior.log_variance)
    expected = kl_divergence(Normal(posterior.mean, deviation), Normal(0.0, 1.0)).sum(dim=-1)
    assert_close(prior.kl(posterior, normal(7, 5)), expected)


@torch.no_grad()
def test_sampled_kl_with_the_identity_equals_the_closed_form():
    decoupled = Decoupled().build(3, None, EXAMPLE_SHAPE).double()
    for parameter in decoupled.parameters():
        parameter.zero_()
    standard = StandardNormal().build(3, None, EXAMPLE_SHAPE).double()
    posterior = random_posterior(4, 3)
    assert_close(decoupled.log_prob(posterior.mean), standard.log_prob(posterior.mean))
    z = posterior.sample(DRAWS, generator=stream(0, "kl"))
    repeated = type(posterior)(
        posterior.mean.expand_as(z).flatten(0, 1), posterior.log_variance.expand_as(z).flatten(0, 1)
    )
    sampled = decoupled.kl(repeated, z.flatten(0, 1)).unflatten(0, (DRAWS, 4))
    for i, expected in enumerate(standard.kl(posterior, z[0])):
        error = sampled[:, i].std().item() / DRAWS**0.5
        assert error > 1e-4
        assert_near(sampled[:, i].mean().item(), expected.item(), error=error)


def test_which_priors_factorise():
    assert build(StandardNormal()).factorises
    assert not build(Decoupled()).factorises


@each
def test_a_prior_knows_its_size_and_the_section_it_is_built_from(spec):
    encoder, _ = Mlp(latent_dim=2).build(EXAMPLE_SHAPE)
    built = spec.build(2, encoder, EXAMPLE_SHAPE)
    assert built.latent_dim == 2 == built.sample(3).shape[1]
    assert built.spec == spec
    if spec.kind != "vamp" and spec.validation_error(5) is None:
        assert spec.build(5).latent_dim == 5
    assert StandardNormal().build(5).latent_dim == 5


def test_copies_compute_the_same_and_share_nothing(prior):
    z, copied = normal(5, 2), deepcopy(prior)
    prior.eval(), copied.eval()
    before = prior.log_prob(z)
    assert torch.equal(copied.log_prob(z), before)
    for parameter in copied.parameters():
        parameter.data += 0.1
    assert torch.equal(prior.log_prob(z), before)


def test_a_generator_on_the_cpu_serves_every_device():
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    for prior in map(build, SPECS):
        drawn = prior.sample(5, generator=stream(0, "z"))
        if prior.spec.kind == "vamp":
            prior._encoder_ref[0].cuda()
        assert_close(prior.cuda().sample(5, generator=stream(0, "z")).cpu(), drawn)


@pytest.mark.parametrize("radius", [1e3, 1e6])
@pytest.mark.parametrize("gain", [1.0, 10.0, 1_000.0])
@each
def test_far_away_the_density_may_vanish_and_is_never_nan(spec, gain, radius):
    """In float32, with weights of any size, with and without gradients."""
    prior = build(spec).float().eval()
    for module in (prior, *getattr(prior, "_encoder_ref", ())):
        for parameter in module.float().parameters():
            parameter.data *= gain
    z = radius * torch.nn.functional.normalize(normal(300, 2).float())
    with torch.no_grad():
        without_gradients = prior.log_prob(z)
    for log_p in (without_gradients, prior.log_prob(z)):
        assert not torch.isnan(log_p).any()
        assert (log_p < torch.inf).all()


def test_nan_stays_nan():
    """A density that is lost for another reason than overflow is not taken for zero."""
    prior = build(Decoupled(scale_bound=None, translate_bound=None))
    z = torch.tensor([[torch.nan, 0.0], [0.0, 0.0]], dtype=torch.float64)
    assert torch.isnan(prior.log_prob(z)).tolist() == [True, False]
