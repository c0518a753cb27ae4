"""Planted models: healthy ones come out healthy, each fault is found and named."""

import dataclasses
import json
import math

import pytest
import torch
from scipy import stats

import dpvae_cli as dpvae
from dpvae_cli.data import Split
from dpvae_cli.diagnosis.groups import are_in
from dpvae_cli.diagnosis.null import draw_splits
from dpvae_cli.diagnosis.record import Quantity
from dpvae_cli.diagnosis.run import measure_low_posterior
from dpvae_cli.diagnosis.verdict import (
    HELD_OUT,
    amount,
    describe_dimensions,
    percent,
    recommendation,
    summarize,
)
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.kl import elbo, skl
from dpvae_cli.evaluation.leakage import leak
from dpvae_cli.evaluation.nll import nll
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.results import Result
from dpvae_cli.priors import Decoupled, StandardNormalPrior
from dpvae_cli.runs.metrics_log import overfitting_start
from dpvae_cli.sampling.samples import TrainingEncodings
from tests.evaluation.planted import codes, context, normal, planted, prior_of
from tests.small import image_vae, random_images, small_recipe

BOTH = pytest.mark.parametrize("kind", ["standard_normal", "decoupled"])
COMMAND = "dpvae fit-prior RUN {options}"
MIXTURE = {"mixture": dpvae.Fitting()}


def diagnosed(prior, means, deviation=0.05, *, seed=0, samples=1_000, tried=None):
    budget = dpvae.DiagnosisBudget(splits=1, samples=samples, tried=tried or {})
    return dpvae.diagnose(*planted(prior, means, deviation), budget=budget, seed=seed)


def clusters(n=2_000, *, apart=1.2, width=0.15):
    """Return points of two narrow clusters, each where N(0, I) is dense."""
    generator = torch.Generator().manual_seed(3)
    side = torch.where(torch.rand(n, 1, generator=generator) < 0.5, apart, -apart)
    return torch.cat([side, side], dim=1) + width * torch.randn(n, 2, generator=generator)


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_a_model_whose_codes_are_its_prior_is_healthy(kind, seed):
    prior = prior_of(kind)
    deviation = 0.3 if kind == "standard_normal" else 0.02
    z0 = normal(2_000, deviation=deviation if kind == "standard_normal" else 0.0, seed=seed)
    found = diagnosed(prior, codes(prior, z0), deviation, seed=seed)
    assert found.is_healthy, found.off
    assert (found.has_pockets, found.leaks) == (False, False)
    assert found.off_dimensions == found.inactive == ()
    assert "is healthy" in summarize(found)
    for name in ("pocket_share", "leak_share", "held_out_leak_share", "held_out_outside_share"):
        assert found[name].value < found[name].limit < 0.04


def test_hardly_a_healthy_model_is_called_anything_else():
    """Of data sets that are drawn from the prior at most one is judged off in anything."""
    prior = StandardNormalPrior(3)
    found = [
        diagnosed(prior, normal(300, 3, deviation=0.4, seed=seed), 0.4, seed=seed, samples=400)
        for seed in range(10)
    ]
    assert sum(not each.is_healthy for each in found) <= 1
    for name, count in (("pocket_share", 150), ("leak_share", 400)):
        # of n draws 1 + 0.01 (n - 1) lie below what their 1 % quantile is interpolated between
        assert found[0][name].null == pytest.approx((1 + 0.01 * (count - 1)) / (count + 1))
        mean = sum(each[name].value for each in found) / len(found)
        assert mean == pytest.approx(found[0][name].null, abs=0.008)


@BOTH
def test_pockets(kind):
    prior = prior_of(kind)
    found = diagnosed(prior, codes(prior, clusters()))
    assert found.has_pockets
    assert not found.leaks
    assert not found.is_healthy
    assert found["pocket_share"].value > 0.8
    assert found["kl_prior_to_posterior"].is_off
    assert summarize(found).startswith("This model has pockets: 9")
    assert "leaks" not in summarize(found)


@BOTH
def test_leaks(kind):
    """A twentieth of the codes lies at radius 6 of the generation space."""
    prior = prior_of(kind)
    z0 = normal(2_000)
    z0[:100] = 6 * z0[:100] / z0[:100].norm(dim=1, keepdim=True)
    found = diagnosed(prior, codes(prior, z0), 0.02, samples=2_000)
    assert found.leaks
    assert not found.has_pockets
    assert found["leak_share"].value == pytest.approx(0.05 + 0.95 * 0.01, abs=0.01)
    assert "% of its codes lie where only 1 % of its samples do" in summarize(found)


def test_codes_where_an_unbounded_coupling_overflows_leak():
    """Of 20 % planted leaks a third overflows, log p(z) = -inf; all of them count."""
    torch.manual_seed(0)
    prior = Decoupled(hidden=8, scale_bound=None, translate_bound=None).build(2)
    for parameter in prior.parameters():
        parameter.data *= 1.5
    z = codes(prior, normal(2_000))
    z[:400] = 1e3 * z[:400] / z[:400].norm(dim=1, keepdim=True)
    with torch.no_grad():
        assert 0.2 < prior.log_prob(z[:400]).isneginf().double().mean() < 1
    found = diagnosed(prior, z, 0.02, samples=2_000)
    assert found["leak_share"].value == pytest.approx(0.2 + 0.8 * 0.01, abs=0.01)
    assert found.leaks
    assert found["kl_posterior_to_prior"].is_off, "an infinite divergence is not a healthy one"
    json.dumps(found.to_json(), allow_nan=False)


def test_a_density_that_is_nan_is_an_error():
    prior = prior_of("decoupled")
    next(prior.parameters()).data[0] = torch.nan
    chosen = context(*planted(prior, normal(100), 0.1))
    for metric in (leak, skl, nll, elbo):
        with pytest.raises(DpvaeError, match=r"NaN|not finite"):
            metric(chosen)


@pytest.mark.parametrize(
    ("value", "limit"), [(math.nan, 1.0), (0.5, math.nan), (math.inf, math.nan)]
)
def test_nan_is_off(value, limit):
    assert Quantity("leak_share", value, 0.0, math.nan, "share", limit).is_off


def test_leaks_cost_nats():
    z0 = normal(2_000, deviation=0.5)
    z0[:100] = 6 * z0[:100] / z0[:100].norm(dim=1, keepdim=True)
    found = diagnosed(StandardNormalPrior(2), z0, 0.5)
    assert found["leakage_score"].is_off
    assert found["kl_posterior_to_prior"].is_off


@BOTH
def test_a_dimension_that_is_off_and_one_that_is_inactive_are_named(kind):
    prior = prior_of(kind, 6)
    z = codes(prior, normal(2_000, 6))
    z[:, 3] = 0.4 * z[:, 3]
    deviation = torch.full((6,), 0.05)
    if kind == "standard_normal":
        z[:, 5], deviation[5] = 0, 1
    found = diagnosed(prior, z, deviation)
    assert found.off_dimensions == (3,)
    assert found.inactive == ((5,) if kind == "standard_normal" else ())
    said = describe_dimensions(found)
    assert said[0].startswith("Dimension 3 of 6: the codes and the prior's samples")
    if kind == "standard_normal":
        assert said[1].startswith("Dimension 5 of 6 inactive")


def test_an_inactive_dimension_of_a_decoupled_prior():
    prior = prior_of("decoupled")
    z = codes(prior, normal(500))
    z[:, 0] = 0
    found = diagnosed(prior, z, torch.tensor([0.5, 0.02]))
    assert found.inactive == (0,)
    assert not found.has_collapsed


def test_collapse_is_said_and_no_prior_is_sold_for_it():
    found = diagnosed(StandardNormalPrior(2), torch.zeros(300, 2), 1.0)
    assert found.off == ()
    assert found.has_collapsed
    assert not found.is_healthy
    assert summarize(found).startswith("This model has collapsed: none of its 2 dimensions")
    advice, command = recommendation(found, COMMAND)
    assert "No prior can repair that" in advice
    assert command is None


def test_shares_and_divergences_are_the_closed_forms():
    """q(z) = N(0, s^2 I) in the plane: shares are 0.01 to the power s^2, and to its inverse."""
    for deviation in (0.5, 2.0):
        means = torch.zeros(4_000, 2)
        found = diagnosed(StandardNormalPrior(2), means, deviation, samples=4_000)
        v = deviation**2
        for name, expected, margin in (
            ("pocket_share", 0.01**v, 0.05),
            ("leak_share", 0.01 ** (1 / v), 0.05),
            ("held_out_leak_share", 0.01 ** (1 / v), 0.05),
            ("held_out_outside_share", 0.01, 0.008),
            ("kl_posterior_to_prior", v - 1 - math.log(v), 0.15),
            ("kl_prior_to_posterior", 1 / v - 1 + math.log(v), 0.1),
        ):
            assert found[name].value == pytest.approx(expected, abs=margin), name
        assert found["kl_posterior_to_prior"].null == pytest.approx(0, abs=1e-6)


def test_the_distance_of_marginals_is_the_closed_form():
    """sup over t of |Phi(t) - Phi(2 t)|, at t^2 = 2/3 log 2."""
    found = diagnosed(StandardNormalPrior(2), 0.5 * normal(8_000), 1e-3, samples=8_000)
    t = math.sqrt(2 / 3 * math.log(2))
    expected = 0.5 * (math.erf(2 * t / math.sqrt(2)) - math.erf(t / math.sqrt(2)))
    for each in found.dimensions:
        assert each.mismatch.value == pytest.approx(expected, abs=0.025)


def test_halves_are_disjoint_and_each_plays_both_parts():
    chosen = context(*planted(StandardNormalPrior(2), normal(101), 0.1))
    at = draw_splits(chosen, None, splits=3, samples=50, components=40)
    for (a, b), (c, d) in zip(at.halves[::2], at.halves[1::2], strict=True):
        assert (a, b) == (d, c)
        halves = [{tuple(row) for row in at.groups.half(half).mean.tolist()} for half in (a, b)]
        assert (len(halves[0]), len(halves[1]), halves[0] & halves[1]) == (40, 40, set())
    assert at.halves[0] != at.halves[2] != at.halves[4]


def test_densities_of_halves_are_those_of_their_codes():
    chosen = context(*planted(StandardNormalPrior(2), normal(101), 0.01))
    at = draw_splits(chosen, None, splits=1, samples=60, components=99)
    (a, b), _ = at.halves
    half = at.log_q(at.prior, b, [(), (b[0], b[2], a[0])])
    z = at.prior.z.double()
    torch.testing.assert_close(half[0], at.groups.half(b).log_prob(z))
    fewer = at.groups.half([group for group in b if group not in (b[0], b[2])])
    torch.testing.assert_close(half[1], fewer.log_prob(z))
    # the code that a draw is of is in the draw's group
    own = are_in(at.codes.group, [a[1]])
    nearest = torch.cdist(at.codes.z[own], at.groups.half([a[1]]).mean).amin(dim=1)
    assert (nearest < 0.06).all()


def test_the_same_seed_gives_the_same_diagnosis():
    means = clusters(200)
    first, again, other = (
        diagnosed(StandardNormalPrior(2), means, seed=seed, samples=100) for seed in (4, 4, 5)
    )
    assert first.to_json() == again.to_json()
    assert first.to_json() != other.to_json()


def test_a_repair_gains_what_it_says_and_is_recommended():
    """KL[q, N(0, I)] of two round clusters is known, and a mixture can take all of it."""
    found = diagnosed(StandardNormalPrior(2), clusters(), 0.05, tried=MIXTURE)
    [repair] = found.repairs
    variance = 0.15**2 + 0.05**2
    most = math.log(2) * -1 + 0.5 * 2 * (variance + 1.2**2 - 1 - math.log(variance))
    assert repair.gain == pytest.approx(most, abs=0.15)
    assert repair.gain < most + 4 * repair.standard_error
    assert repair.pocket_share < 0.1 < found["pocket_share"].value
    assert found.recommendation is repair
    advice, command = recommendation(found, COMMAND)
    assert command == "dpvae fit-prior RUN --prior mixture"
    assert "a mixture prior gains +" in advice


def test_where_nothing_is_to_mend_nothing_is_recommended():
    found = diagnosed(StandardNormalPrior(2), normal(1_000, deviation=0.3), 0.3, tried=MIXTURE)
    assert len(found.repairs) == 1
    assert found.recommendation is None
    advice, command = recommendation(found, COMMAND)
    assert advice.startswith("No repair is needed.")
    assert command is None


def test_a_prior_that_does_not_fit_is_told_and_the_others_are_tried():
    tried = {"decoupled": dpvae.Fitting(iterations=5)} | MIXTURE
    found = diagnosed(StandardNormalPrior(1), normal(200, 1) / 3, tried=tried, samples=200)
    assert [each.prior for each in found.repairs] == ["mixture"]
    assert any(note.startswith("decoupled was not tried") for note in found.notes)


def test_few_codes_in_many_dimensions_cannot_tell():
    prior = StandardNormalPrior(32)
    found = diagnosed(prior, normal(160, 32, deviation=0.2), 0.2)
    assert found.off == ()
    assert not found.can_tell
    assert not found.is_healthy
    assert "cannot be decided: 160 codes for 32 dimensions" in summarize(found)
    advice, command = recommendation(found, COMMAND)
    assert advice.startswith("More codes or fewer dimensions are needed")
    assert command is None
    assert any("too few to fill the space" in note for note in found.notes)
    narrow = diagnosed(prior, 0.7 * normal(160, 32, deviation=0.2), 0.2)
    assert narrow.has_pockets, "what can be seen is said"


@pytest.mark.parametrize(("n", "latent_dim", "deviation"), [(1_000, 2, 0.05), (4_000, 8, 0.3)])
def test_codes_enough_for_their_dimensions_can_tell(n, latent_dim, deviation):
    means = normal(n, latent_dim, deviation=deviation)
    assert diagnosed(StandardNormalPrior(latent_dim), means, deviation).is_healthy


def test_held_out_codes_of_an_overfit_model_are_no_healthy_ones():
    """Training codes are drawn from the prior, held-out ones lie at twice their radius."""
    model, data = planted(StandardNormalPrior(6), normal(1_000, 6, deviation=0.1, seed=2), 0.1)
    held_out = Split(2 * normal(200, 6, seed=1))
    empty = Split(held_out.stored[:0])
    for validation, test in ((held_out, empty), (empty, held_out)):
        other = dataclasses.replace(data, validation=validation, test=test)
        found = dpvae.diagnose(model, other, budget=dpvae.DiagnosisBudget(splits=1, tried={}))
        assert {each.name for each in found.off} == set(HELD_OUT)
        expected = 1 - stats.chi2.cdf(stats.chi2.ppf(0.99, 6) / 4, 6)
        assert found["held_out_leak_share"].value == pytest.approx(expected, abs=0.12)
        assert found.overfits
        assert not found.is_healthy
        said = summarize(found)
        assert said.startswith("This model overfits: ")
        assert "% of its held-out codes lie where only 1 % of its training codes do" in said
        assert found.recommendation is None
        assert "No prior can repair" in recommendation(found, COMMAND)[0]
    since = dataclasses.replace(found, overfits_since=300)
    assert "its validation ELBO fell ever since iteration 300. --best takes" in summarize(since)


@pytest.mark.parametrize(
    ("elbos", "since"),
    [
        ([-9, -5, -6, -7, -8, -9], 200),
        ([-9, -5, -5.4, -5.1, -5.3, -5.2], None),
        ([-9, -8, -7, -6, -5, -4], None),
        ([-9, -5, -6, -7], None),
        ([-9, -5, None, -6, -7, -8, -9], 200),
        ([], None),
    ],
)
def test_since_when_a_validation_elbo_falls(elbos, since, tmp_path):
    log = tmp_path / "metrics.jsonl"
    records = [
        {"iteration": 100 * (place + 1), "kind": "validation", "elbo": elbo}
        for place, elbo in enumerate(elbos)
    ]
    log.write_text("".join(json.dumps(each) + "\n" for each in records))
    assert overfitting_start(log, until=10_000) == since
    assert overfitting_start(log, until=300) is None


def test_without_held_out_examples_the_rest_is_diagnosed():
    model, data = planted(StandardNormalPrior(2), normal(300), 0.1)
    empty = Split(data.train.stored[:0])
    none = dataclasses.replace(data, validation=empty, test=empty)
    found = dpvae.diagnose(model, none, budget=dpvae.DiagnosisBudget(splits=1, tried={}))
    assert not {each.name for each in found.quantities} & set(HELD_OUT)
    assert any("Held-out codes were not measured" in note for note in found.notes)
    assert not found.overfits


def test_the_record_is_plain_json():
    found = diagnosed(StandardNormalPrior(2), clusters(100), samples=100)
    record = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert record["has_pockets"] is found.has_pockets is True
    names = {each["name"] for each in record["quantities"]}
    assert {"pocket_share", "leak_share", "marginals"} <= names
    assert all(each["limit"] >= each["null"] for each in record["quantities"])
    assert record["low_posterior"]["reason"] == "not measured"


def test_too_few_codes_are_refused():
    with pytest.raises(UsageError, match="there are 7"):
        diagnosed(StandardNormalPrior(2), normal(7))


@pytest.mark.parametrize("sizes", [{"splits": 0}, {"samples": 9}])
def test_budgets_that_cannot_tell_anything_are_refused(sizes):
    with pytest.raises(UsageError, match="needs at least"):
        dpvae.DiagnosisBudget(**sizes)


def test_points_in_the_plane_have_arrays_for_both_figures():
    flat = diagnosed(StandardNormalPrior(2), clusters(100), samples=100)
    assert flat.arrays["prior_z"].shape == (100, 2)
    assert 48 <= len(flat.arrays["codes_z"]) <= 52, "half of the codes"
    assert flat.arrays["log_q"].shape == flat.arrays["log_p"].shape
    deep = diagnosed(StandardNormalPrior(3), normal(100, 3), samples=100)
    assert "grid_x" not in deep.arrays
    assert deep.arrays["prior_log_q"].shape == (100,)


def result(metric, value=1.0):
    return Result(metric, value, None, "squared feature units", 10, 0, "train", None, {})


def test_fid_that_was_measured_before_is_taken_from_there():
    model, data = planted(StandardNormalPrior(2), normal(20), 0.1)
    earlier = [result("skl"), result("fid"), result("fid768", 3.0), result("fid768_lp", 5.0)]
    found = measure_low_posterior(context(model, data), None, earlier)
    assert (found.random, found.lowest) == (earlier[2], earlier[3])
    alone = measure_low_posterior(context(model, data), None, earlier[:2])
    assert alone.random is alone.lowest is None


def test_decoded_samples_of_images_say_what_to_type_and_failures_cost_nothing_else():
    data = random_images(1, 6, 6)
    chosen = context(image_vae(1, 6, 6), data)
    assert "--inception-weights FILE" in measure_low_posterior(chosen, None, []).hint
    failed = measure_low_posterior(chosen, "manifold", [])
    assert failed.reason.startswith("not measured: data noise has no known manifold")


def test_of_moons_random_and_low_posterior_samples_are_measured():
    recipe = small_recipe("vae", "prior=standard_normal")
    chosen = EvaluationContext(
        dpvae.build(recipe),
        recipe.data.load,
        TrainingEncodings(dpvae.build(recipe), recipe.data.load),
        recipe.evaluation,
        0,
    )
    found = measure_low_posterior(chosen, "manifold", [])
    assert (found.random.metric, found.lowest.metric) == ("manifold", "manifold_lp")
    assert found.lowest.details["null"]["value"] > 0


@pytest.mark.parametrize(
    ("value", "shown"), [(-1e-5, "0.000 nats"), (-0.25, "-0.250 nats"), (123.456, "123.5 nats")]
)
def test_amounts(value, shown):
    assert amount(Quantity("leakage_score", value, 0.0, 1.0, "nats", 3.0), value) == shown


@pytest.mark.parametrize(
    ("share", "shown"), [(0.0123, "1.2 %"), (0.5, "50 %"), (1.0, "100 %"), (0.0, "0 %")]
)
def test_percentages(share, shown):
    assert percent(share) == shown
