"""Scores of disentanglement on planted codes: perfect, noise, and a rotation in between."""

import dataclasses

import pytest
import torch
from torch import nn

import dpvae_cli as dpvae
from dpvae_cli.architectures import Encoder
from dpvae_cli.data import Dataset, GenerativeFactor, Split
from dpvae_cli.data.sprites import factor_combinations
from dpvae_cli.evaluation import disentanglement
from dpvae_cli.evaluation.disentanglement import FactorSample
from dpvae_cli.evaluation.kl import are_active
from dpvae_cli.evaluation.metrics import metrics_needing
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.likelihoods import GaussianLikelihood
from dpvae_cli.model import VAE
from dpvae_cli.priors import Decoupled, StandardNormalPrior
from dpvae_cli.recipe import Evaluation
from tests.small import random_dataset

FACTORS = (
    GenerativeFactor("kind", is_ordered=False),
    GenerativeFactor("a", is_ordered=True),
    GenerativeFactor("b", True),
)
VALUES = factor_combinations((3, 4, 5)).repeat(20, 1)
SHUFFLED = VALUES[torch.randperm(len(VALUES), generator=stream(0, "shuffle"))]
PERFECT = SHUFFLED.double() * torch.tensor([2.0, -3.0, 1.0])
SCORES = {
    name: getattr(disentanglement, name).__wrapped__
    for name in ("mig", "sap", "dci", "factor_score", "beta_score")
}
BEST_SAP = (1 - 1 / 3 + 1 + 1) / 3
"""An unordered factor of 3 values gives at most 2/3: chance is 1/3 in any other dimension."""
HIGHEST = {"mig": 1.0, "sap": BEST_SAP, "dci": 1.0, "factor_score": 1.0, "beta_score": 1.0}
CHANCE = {"mig": 0.1, "sap": 0.1, "dci": 0.1, "factor_score": 0.5, "beta_score": 0.5}
"""What noise stays below: near 0, or near one in three."""


def noise(latent=3, seed=0):
    generator = stream(seed, "noise")
    return torch.randn(len(VALUES), latent, generator=generator, dtype=torch.float64)


def rotated(codes):
    """Return standardised codes, the last two dimensions turned by 45 degrees."""
    first, a, b = ((codes - codes.mean(0)) / codes.std(0)).T
    return torch.stack([first, (a + b) / 2**0.5, (a - b) / 2**0.5], dim=1)


def score(name, codes, *, values=SHUFFLED, factors=FACTORS, variances=None):
    """Score codes whose posteriors have these variances; points by default."""
    active = are_active(codes, torch.zeros_like(codes) if variances is None else variances)
    return SCORES[name](FactorSample(codes, values, factors, active, seed=1))


def value(name, codes, **options):
    return float(score(name, codes, **options)[name].mean())


@pytest.mark.parametrize("name", SCORES)
def test_perfectly_disentangled_codes_have_the_highest_score(name):
    tolerance = {"dci": 0.01, "beta_score": 0.01, "sap": 0.01}.get(name, 1e-9)
    assert value(name, PERFECT) == pytest.approx(HIGHEST[name], abs=tolerance)


@pytest.mark.parametrize("name", SCORES)
def test_order_scale_and_idle_dimensions_change_little(name):
    idle = torch.cat([1e-4 * noise(2), PERFECT[:, [2, 0, 1]] * 5], dim=1)
    variances = torch.tensor([1.0, 1.0, 0.1, 0.1, 0.1]).expand(len(idle), 5)
    assert value(name, idle, variances=variances) == pytest.approx(HIGHEST[name], abs=0.05)


@pytest.mark.parametrize("name", SCORES)
def test_scaling_single_dimensions_changes_nothing(name):
    codes = rotated(PERFECT) + 0.3 * noise()
    codes = torch.cat([codes, 0.02 * noise(1, seed=1)], dim=1)
    variances = torch.tensor([0.1, 0.2, 0.1, 1.0]).expand(len(codes), 4)
    expected = score(name, codes, variances=variances)
    for seed in range(3):
        power = torch.rand(4, generator=stream(seed, "scale"), dtype=torch.float64)
        scale = 10 ** (16 * power - 8)
        found = score(name, codes * scale, variances=variances * scale.square())
        for key in expected:
            assert found[key].tolist() == pytest.approx(expected[key].tolist(), abs=2e-3)


def test_perfect_codes_of_unequal_deviations_have_the_highest_factor_score():
    """The largest variance no longer decides which dimensions take part: this scored 0.2."""
    values = factor_combinations((2, 3, 2, 3, 4)).repeat(6, 1)
    factors = tuple(GenerativeFactor(name, is_ordered=True) for name in "abcde")
    codes = values.double()
    codes = codes / codes.std(dim=0) * torch.tensor([1, 1, 1, 1, 4.6])
    variances = torch.full_like(codes, 0.01)
    for name in ("factor_score", "sap", "mig"):
        found = score(name, codes, values=values, factors=factors, variances=variances)
        assert float(found[name].mean()) == pytest.approx(1, abs=1e-9)


def test_dci_of_aligned_codes_with_noise_is_high():
    """Trees grown in full put the noise into their importances, and score 0.2 here."""
    values = SHUFFLED.repeat(3, 1)
    codes = (PERFECT / PERFECT.std(dim=0)).repeat(3, 1)
    codes = codes + 0.5 * torch.cat([noise(seed=seed) for seed in range(3)])
    assert value("dci", codes, values=values) > 0.85


@pytest.mark.parametrize("name", SCORES)
def test_noise_is_near_chance_and_a_rotation_in_between(name):
    of_noise, of_rotation = value(name, noise()), value(name, rotated(PERFECT))
    assert of_noise < CHANCE[name]
    assert of_noise + 0.02 < of_rotation
    if name != "beta_score":  # a linear classifier looks through a rotation
        assert of_rotation < HIGHEST[name] - 0.1


def test_sap_is_exact_where_examples_are_a_full_factorial():
    found = score("sap", VALUES.double(), values=VALUES)["sap"]
    assert found.tolist() == pytest.approx([2 / 3, 1, 1], abs=1e-12)


def test_a_factor_twice_is_disentangled_but_not_complete_nor_separate():
    twice = torch.cat([PERFECT, PERFECT], dim=1)
    found = score("dci", twice)
    assert float(found["dci"]) > 0.99
    assert float(found["dci_completeness"].mean()) < 0.75
    assert found["dci_informativeness"].tolist() == [1, 1, 1]
    assert value("sap", twice) == pytest.approx(0, abs=1e-12)
    assert value("mig", twice) == pytest.approx(0, abs=1e-12)


def test_codes_without_any_life_score_nothing():
    dead = torch.ones(len(VALUES), 2, dtype=torch.float64)
    assert value("factor_score", dead) == 0
    assert value("sap", dead) == 0
    assert value("mig", dead) == 0
    assert value("dci", dead) == 0
    assert value("beta_score", dead) < 0.5


def linear_model(prior):
    """Return a model whose posterior mean is its data."""
    encoder = nn.Linear(3, 6)
    with torch.no_grad():
        encoder.weight.copy_(torch.cat([torch.eye(3), torch.zeros(3, 3)]))
        encoder.bias.zero_()
    return VAE(
        encoder=Encoder(encoder),
        decoder=nn.Linear(3, 3),
        likelihood=GaussianLikelihood(1.0, learned=False, floor=1e-3),
        prior=prior,
        latent_dim=3,
        example_shape=(3,),
    )


def planted(codes=PERFECT, factors=SHUFFLED, names=FACTORS):
    split = Split(codes.float(), factors[:, 0], factors=factors)
    return Dataset("planted", train=split, validation=split, test=split, factors=names)


SMALL = Evaluation(factor_samples=400, factor_repeats=2, probe_samples=400)


@pytest.fixture(scope="module")
def decoupled():
    torch.manual_seed(0)
    prior = Decoupled(blocks=2).build(3)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return linear_model(prior)


def test_records_of_both_spaces(decoupled):
    results = dpvae.evaluate(
        decoupled, planted(), metrics_needing("factors"), evaluation=SMALL, seed=2
    )
    by_name = {result.metric: result for result in results}
    dci = ("dci", "dci_completeness", "dci_informativeness")
    every = {"mig", "sap", "factor_score", "beta_score", *dci}
    assert set(by_name) == every | {f"{name}_generation" for name in every}
    for result in results:
        assert (result.samples, result.split, result.seed) == (400, "train", 2)
        assert result.unit == "no unit"
        assert len(result.details["repeats"]) == 2
        assert result.details["factors"] == ["kind", "a", "b"]
        assert 0 <= result.value <= 1
    assert by_name["mig"].value > 0.95
    assert by_name["mig_generation"].value < by_name["mig"].value - 0.1
    gaps = by_name["mig"].details["by_factor"]
    assert sum(gaps.values()) / 3 == pytest.approx(by_name["mig"].value)
    assert by_name["dci"].details["by_factor"] is None


def test_without_a_bijection_to_speak_of_both_spaces_agree():
    model = linear_model(StandardNormalPrior(3))
    results = dpvae.evaluate(model, planted(), metrics_needing("factors"), evaluation=SMALL)
    found = {result.metric: (result.value, result.standard_error) for result in results}
    names = [name for name in found if not name.endswith("_generation")]
    assert len(names) == 7
    assert all(found[name] == found[f"{name}_generation"] for name in names)


def test_one_repeat_has_no_error_and_many_have_their_spread(decoupled):
    def measured(repeats):
        sizes = SMALL.model_copy(update={"factor_repeats": repeats, "factor_samples": 100})
        data = planted(rotated(PERFECT))
        return dpvae.evaluate(decoupled, data, ["mig"], evaluation=sizes)[0]

    assert measured(1).standard_error is None
    few, many = measured(4), measured(16)
    assert 0 < many.standard_error < few.standard_error * 1.5
    assert abs(few.value - many.value) < 5 * few.standard_error


def test_a_repeat_takes_half_of_few_examples_at_most(decoupled):
    sizes = SMALL.model_copy(update={"factor_samples": 10_000})
    [result, _] = dpvae.evaluate(decoupled, planted(), ["sap"], evaluation=sizes)
    assert result.samples == len(VALUES) // 2


def test_factors_that_never_vary_are_left_out(decoupled):
    constant = torch.cat([torch.full_like(SHUFFLED[:, :1], 7), SHUFFLED * 3], dim=1)
    data = planted(factors=constant, names=(GenerativeFactor("colour", is_ordered=False), *FACTORS))
    [result, _] = dpvae.evaluate(decoupled, data, ["mig"], evaluation=SMALL)
    assert result.details["factors"] == ["kind", "a", "b"]
    assert result.details["note"] == "colour does not vary and is left out"
    assert result.value > 0.95
    alone = planted(factors=constant[:, :1], names=FACTORS[:1])
    with pytest.raises(UsageError, match="no factor of data planted varies"):
        dpvae.evaluate(decoupled, alone, ["mig"], evaluation=SMALL)


@pytest.mark.parametrize("name", metrics_needing("factors"))
def test_a_factor_that_is_constant_in_some_draws_is_left_out_there(name, decoupled):
    """Of a value that 4 examples of 1,200 have, some draws of 100 see nothing, one sees it."""
    rare = torch.zeros(len(SHUFFLED), 1, dtype=torch.long)
    rare[::300] = 1
    data = planted(
        factors=torch.cat([SHUFFLED, rare], dim=1),
        names=(*FACTORS, GenerativeFactor("rare", False)),
    )
    sizes = SMALL.model_copy(update={"factor_samples": 100, "factor_repeats": 3})
    result = dpvae.evaluate(decoupled, data, [name], evaluation=sizes)[0]
    assert 0 <= result.value <= 1
    assert "rare has one value in" in result.details["note"]
    assert result.details["factors"] == ["kind", "a", "b", "rare"]


@pytest.mark.parametrize("name", metrics_needing("factors"))
def test_too_few_examples_and_draws_without_any_variation_say_so(name, decoupled):
    few = planted(PERFECT[:15], SHUFFLED[:15])
    with pytest.raises(DpvaeError, match="15 here; 20 are needed"):
        dpvae.evaluate(decoupled, few, [name], evaluation=SMALL)
    rare = torch.zeros(len(SHUFFLED), 1, dtype=torch.long)
    rare[0] = 1
    data = planted(factors=rare, names=FACTORS[:1])
    sizes = SMALL.model_copy(update={"factor_samples": 10, "factor_repeats": 2})
    with pytest.raises(DpvaeError, match="no factor varies in any draw of 10 examples"):
        dpvae.evaluate(decoupled, data, [name], evaluation=sizes)


def test_activity_in_z0_does_not_depend_on_the_scale_of_z(decoupled):
    """g of a draw varies in z0 as much as two draws say: here nothing of it is the example's."""
    from dpvae_cli.evaluation.codes import variances_in_both_spaces
    from dpvae_cli.evaluation.context import EvaluationContext
    from dpvae_cli.sampling.samples import TrainingEncodings, from_codes

    data = planted(codes=torch.zeros_like(PERFECT))
    context = EvaluationContext(
        decoupled, lambda: data, TrainingEncodings(decoupled, lambda: data), SMALL, 0
    )
    found = variances_in_both_spaces(context)
    assert found[""].unique().tolist() == [1.0]
    z = torch.randn(20_000, 3, generator=stream(0, "z"))
    expected = from_codes(decoupled, z).z0.double().var(dim=0)
    torch.testing.assert_close(found["_generation"].mean(dim=0), expected, rtol=0.2, atol=0)


@pytest.mark.parametrize("name", metrics_needing("factors"))
def test_data_without_factors_is_refused(name, decoupled):
    with pytest.raises(UsageError, match="no known factors") as caught:
        dpvae.evaluate(decoupled, random_dataset(3), [name], evaluation=SMALL)
    assert "data.kind=sprites" in caught.value.hint


def test_encodings_of_other_data_are_noticed(decoupled):
    from dpvae_cli.evaluation.context import EvaluationContext
    from dpvae_cli.sampling.samples import TrainingEncodings

    data = planted()
    fewer = dataclasses.replace(data, train=data.train.subset(slice(0, 100)))
    encoded = TrainingEncodings(decoupled, lambda: data)
    context = EvaluationContext(decoupled, lambda: fewer, encoded, SMALL, 0)
    with pytest.raises(DpvaeError, match="of 1,200 training examples, the data has 100"):
        disentanglement.mig(context)
