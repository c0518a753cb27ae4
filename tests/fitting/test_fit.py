"""Priors fitted to codes: against entropies, brute force and what must not change."""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal
from typer.testing import CliRunner

import dpvae_cli as dpvae
from dpvae_cli.cli.app import app
from dpvae_cli.fitting.codes import CodeSplits, HeldOutCodes, read_codes
from dpvae_cli.fitting.prior_file import FORMAT, FitRecord
from dpvae_cli.foundation.errors import (
    CheckpointError,
    DivergedError,
    MissingError,
    UsageError,
    WrongFileTypeError,
)
from dpvae_cli.foundation.serialization import pack_tensors, unpack_tensors
from dpvae_cli.mathematics.estimates import mean_and_error
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.priors import LearnedPrior, Mixture, MixturePrior, StandardNormalPrior
from dpvae_cli.recipe.validation import kinds
from tests.mathematics.random_models import members

QUICK = dpvae.Fitting(iterations=30, batch_size=64, validate_every=10)
ALONE = [kind for kind, spec in kinds("fit_prior").items() if not spec.needs_encoder]


def two_clusters(count=600, *, seed=0, dtype=torch.float32):
    """Return codes of two clusters: half of them at (-2, 0), half at (2, 0)."""
    generator = torch.Generator().manual_seed(seed)
    side = torch.where(torch.arange(count) % 2 == 0, -2.0, 2.0)
    mean = torch.stack([side, torch.zeros(count)], dim=1)
    mean = mean + 0.3 * torch.randn(count, 2, generator=generator)
    return mean.to(dtype), torch.full((count, 2), math.log(0.04), dtype=dtype)


@pytest.mark.parametrize(
    ("prior", "slack"), [("decoupled", 0.12), ("spline", 0.06), ("mixture", 0.06)]
)
def test_a_fit_comes_near_the_entropy_of_q(prior, slack):
    """-E[log p] of the best density is q's entropy; here q is in law a mixture of two Gaussians."""
    mean, log_variance = two_clusters(4_000)
    fitting = dpvae.Fitting(iterations=500, batch_size=256, learning_rate=1e-2, validate_every=50)
    fitted = dpvae.fit_prior(mean, log_variance, prior, fitting=fitting)
    deviation = math.sqrt(0.3**2 + 0.04)
    # the clusters lie 11 deviations apart, so that the entropies add up
    entropy = math.log(2) + 1 + math.log(2 * math.pi) + 2 * math.log(deviation)
    nll = fitted.record.nll
    assert entropy - 5 * nll.standard_error < nll.value < entropy + slack + 5 * nll.standard_error
    assert fitted.record.gain.value > 10 * fitted.record.gain.standard_error


@pytest.mark.parametrize("kind", [each for each in members(LearnedPrior) if not each.needs_encoder])
def test_no_unit_of_the_codes_matters(kind):
    """In other units the density is that of the same codes, times the Jacobian of the change."""
    mean, log_variance = two_clusters(300)
    fitting = dpvae.Fitting(iterations=8, batch_size=128, learning_rate=1e-2, validate_every=4)
    reference = dpvae.fit_prior(mean, log_variance, kind(), fitting=fitting)
    expected, samples = reference.record, reference.sample(1_000)
    for scale, offset in ((0.01, 0.0), (100.0, 0.0), (1.0, 1_000.0)):
        log_scale = math.log(scale)
        other = scale * mean + offset, log_variance + 2 * log_scale
        found = dpvae.fit_prior(*other, kind(), fitting=fitting)
        nll = found.record.nll.value - 2 * log_scale
        assert nll == pytest.approx(expected.nll.value, abs=0.1)
        gain = found.record.gaussian_gain.value
        assert gain == pytest.approx(expected.gaussian_gain.value, abs=0.1)
        drawn = (found.sample(1_000) - offset) / scale
        assert torch.allclose(drawn.mean(dim=0), samples.mean(dim=0), atol=0.1)
        assert torch.allclose(drawn.std(dim=0), samples.std(dim=0), atol=0.1)
        if expected.prior == "mixture":
            assert found.record.spec == expected.spec


def test_a_dimension_that_does_not_vary_is_no_division_by_zero():
    mean, _ = two_clusters(300)
    mean = torch.cat([1e-3 * mean, torch.full((300, 1), 7.0)], dim=1)
    for prior in ("spline", Mixture(components=2, covariance="full")):
        fitted = dpvae.fit_prior(mean, None, prior, fitting=QUICK)
        assert math.isfinite(fitted.record.nll.value)
        assert torch.isfinite(fitted.sample(9)).all()


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_a_mixture_is_fitted_by_em_and_finds_its_components(covariance):
    """Two clusters that lean: one full covariance each, which diagonal ones cannot follow."""
    generator = torch.Generator().manual_seed(0)
    lean = torch.tensor([[1.0, 0.95], [0.95, 1.0]])
    within = MultivariateNormal(torch.zeros(2), lean)
    torch.manual_seed(0)
    z = within.sample((3_000,)) + 10 * torch.randint(2, (3_000, 1), generator=generator)
    record = dpvae.fit_prior(z, None, Mixture(covariance=covariance)).record
    entropy = math.log(2) + float(within.entropy())
    if covariance == "full":
        assert record.spec == {"kind": "mixture", "components": 2, "covariance": "full"}
        assert record.nll.value == pytest.approx(entropy, abs=4 * record.nll.standard_error)
    else:
        assert record.spec["components"] > 2
    assert [components for components, _ in record.curve][:3] == [1, 2, 4]
    assert record.is_improving is False
    asked = dpvae.fit_prior(z, None, Mixture(components=3, covariance=covariance)).record
    assert [components for components, _ in asked.curve] == [3]
    hasty = dpvae.fit_prior(z, None, Mixture(components=20), fitting=dpvae.Fitting(iterations=1))
    assert hasty.record.is_improving


def test_a_mixture_learns_from_posteriors_and_not_from_their_means():
    """q(z) is wider than the means by the posteriors' variance."""
    mean, log_variance = torch.randn(400, 2, generator=torch.Generator().manual_seed(1)), 1.0
    log_variance = torch.full((400, 2), math.log(8.0))
    fitted = dpvae.fit_prior(mean, log_variance, Mixture(components=1))
    assert fitted.sample(20_000).std(dim=0) == pytest.approx(torch.tensor([3.0, 3.0]), abs=0.2)


def test_more_components_than_codes_are_refused():
    mean, _ = two_clusters(40)
    with pytest.raises(UsageError, match="32 codes are too few for 50 components"):
        dpvae.fit_prior(mean, None, Mixture(components=50))


def test_what_is_reported_of_few_codes_is_not_too_good():
    """Codes that chose the best of 60 states like it better than fresh ones; reported ones do not.

    The excess over the true density, on the same codes, is KL[q, p] with little noise.
    """
    truth = MultivariateNormal(torch.zeros(4), torch.eye(4))
    fitting = dpvae.Fitting(
        iterations=60, batch_size=32, learning_rate=0.1, validate_every=1, patience=1_000
    )
    reported, choosing = [], []
    for seed in range(8):
        draw = torch.Generator().manual_seed(seed)
        z, fresh = torch.randn(200, 4, generator=draw), torch.randn(20_000, 4, generator=draw)
        prior = dpvae.Decoupled(blocks=2, hidden=16)
        fitted = dpvae.fit_prior(z, None, prior, fitting=fitting, seed=seed)
        codes = CodeSplits(z, None, held_out=fitting.held_out, seed=seed)
        on_reported, on_choosing, on_fresh = (
            float((truth.log_prob(part) - fitted.log_prob(part)).mean())
            for part in (codes.test.z, codes.validation.z, fresh)
        )
        own = -float(truth.log_prob(codes.test.z).mean())
        assert fitted.record.nll.value - own == pytest.approx(on_reported, abs=1e-4)
        reported.append(on_reported - on_fresh)
        choosing.append(on_choosing - on_fresh)
    bias, error = mean_and_error(torch.tensor(reported))
    assert abs(bias) < 3 * error
    too_good, error = mean_and_error(torch.tensor(choosing))
    assert too_good < -3 * error


def test_a_fit_that_was_cut_short_says_so():
    mean, log_variance = two_clusters()
    short = dpvae.Fitting(iterations=20, learning_rate=1e-2, validate_every=10)
    assert dpvae.fit_prior(mean, log_variance, fitting=short).record.is_improving


@pytest.mark.parametrize("prior", ALONE)
def test_the_record_is_what_can_be_measured_again(prior):
    mean, log_variance = two_clusters(dtype=torch.float64)
    spec = Mixture(components=5) if prior == "mixture" else prior
    fitted = dpvae.fit_prior(mean, log_variance, spec, fitting=QUICK, seed=3)
    codes = CodeSplits(mean, log_variance, held_out=QUICK.held_out, seed=3)
    held = codes.test
    after, before = held.nll(fitted.prior), held.nll(StandardNormalPrior(2).double())
    record = fitted.record
    assert record.nll.value == pytest.approx(float(after.mean()), rel=1e-12)
    assert record.gain.value == pytest.approx(float((before - after).mean()), rel=1e-9)
    error = float((before - after).std()) / math.sqrt(60)
    assert record.gain.standard_error == pytest.approx(error, rel=1e-9)
    assert (record.components, record.held_out, record.reported) == (600, 120, 60)
    assert record.prior == prior
    assert record.loss == ("velocity_error" if prior == "flow_matching" else "nll")
    chosen = codes.validation.loss(fitted.prior)
    assert chosen == pytest.approx(min(loss for _, loss in record.curve), rel=1e-12)
    if record.loss == "nll":
        nll = float(codes.validation.nll(fitted.prior).mean())
        assert chosen == pytest.approx(nll, rel=1e-12)
    mean_of_q, covariance = codes.training.moments()
    gaussian = MultivariateNormal(mean_of_q, covariance)
    by_moments = -gaussian.log_prob(held.z).view(-1, 60).mean(dim=0)
    assert record.gaussian_nll.value == pytest.approx(float(by_moments.mean()), abs=1e-5)
    assert record.gaussian_gain.value == pytest.approx(float((by_moments - after).mean()), abs=1e-5)
    assert not fitted.prior.training
    assert fitted.dtype == torch.float64


def test_held_out_nll_is_the_cross_entropy():
    """Under N(0, I) it has a closed form."""
    torch.manual_seed(0)
    mean, log_variance = torch.randn(50, 3).double(), torch.randn(50, 3).double() - 2
    held = HeldOutCodes(mean, log_variance, generator=torch.Generator().manual_seed(1))
    exact = DiagonalGaussian(mean, log_variance).cross_entropy_to_standard_normal()
    found = held.nll(StandardNormalPrior(3).double())
    assert len(held.z) == 10_000
    assert torch.allclose(found, exact, atol=0.35)
    assert float((found - exact).mean().abs()) < 0.03


def test_points_are_their_own_draws():
    mean, _ = two_clusters()
    codes = CodeSplits(mean, None, held_out=0.25, seed=0)
    known = {tuple(row) for row in mean.tolist()}
    drawn = {tuple(row) for row in codes.batch(1, 500)[0].tolist()}
    choosing, reported = (
        {tuple(row) for row in part.z.tolist()} for part in (codes.validation, codes.test)
    )
    assert drawn | choosing | reported <= known
    assert not drawn & choosing  # what is held out is never learned from
    assert not drawn & reported
    assert not choosing & reported  # what chose is never reported on
    assert (len(choosing), len(reported)) == (75, 75)


def test_a_batch_is_fresh_and_follows_from_the_seed():
    mean, log_variance = two_clusters()
    one, same = (CodeSplits(mean, log_variance, held_out=0.1, seed=5) for _ in range(2))
    other = CodeSplits(mean, log_variance, held_out=0.1, seed=6)
    assert torch.equal(one.batch(3, 40)[0], same.batch(3, 40)[0])
    assert not torch.equal(one.batch(3, 40)[0], one.batch(4, 40)[0])
    assert not torch.equal(one.batch(3, 40)[0], other.batch(3, 40)[0])


def test_a_fit_repeats_to_the_bit():
    mean, log_variance = two_clusters()
    one, same, other = (
        dpvae.fit_prior(mean, log_variance, fitting=QUICK, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(one.sample(9), same.sample(9))
    assert not torch.equal(one.sample(9), other.sample(9))
    assert one.record.curve == same.record.curve


def test_fitting_stops_early_and_keeps_the_best():
    mean, _ = two_clusters(40)
    fitting = dpvae.Fitting(
        iterations=4_000, learning_rate=0.05, validate_every=20, patience=3, held_out=0.5
    )
    record = dpvae.fit_prior(mean, None, "spline", fitting=fitting).record
    assert record.iterations < 4_000
    assert record.best_iteration == record.iterations - 3 * 20
    assert record.curve[-1][1] > min(nll for _, nll in record.curve)  # 20 points by heart
    assert not record.is_improving


def test_nothing_outside_changes():
    """Neither the encoder, nor the baseline, nor torch's own generator."""
    encoder = dpvae.build(dpvae.load_recipe("vae_moons")).encoder.train()
    with torch.no_grad():
        posterior = encoder(torch.randn(80, 2))
    baseline = MixturePrior(2, 3).double()
    kept = copy.deepcopy([encoder.state_dict(), baseline.state_dict()])
    before = torch.get_rng_state()
    fitted = dpvae.fit_prior(
        posterior.mean,
        posterior.log_variance,
        dpvae.Vamp(pseudo_inputs=4),
        fitting=QUICK,
        baseline=baseline,
        encoder=encoder,
        example_shape=(2,),
    )
    assert torch.equal(before, torch.get_rng_state())
    for module, state in zip((encoder, baseline), kept, strict=True):
        for name, value in module.state_dict().items():
            assert torch.equal(value, state[name])
            assert value.dtype == state[name].dtype
    assert encoder.training
    assert all(p.requires_grad and p.grad is None for p in encoder.parameters())
    assert fitted.record.baseline == "MixturePrior"


def test_arrays_and_tensors_are_the_same():
    mean, log_variance = two_clusters()
    of_tensors = dpvae.fit_prior(mean, log_variance, fitting=QUICK)
    of_arrays = dpvae.fit_prior(mean.numpy(), log_variance.numpy(), fitting=QUICK)
    assert torch.equal(of_tensors.sample(5), of_arrays.sample(5))
    assert of_tensors.sample(5).requires_grad is False


BAD = [
    (np.zeros((40, 2)), np.zeros((40, 3)), "log_variance has shape (40, 3), mean (40, 2)"),
    (np.zeros(40), None, "mean has shape (40,)"),
    (np.zeros((40, 0)), None, "mean has shape (40, 0)"),
    (np.zeros((5, 2)), None, "5 codes are too few"),
    (np.full((40, 2), np.nan), None, "40 of 40 rows of mean have values that are not finite"),
    (np.zeros((40, 2)), np.full((40, 2), np.inf), "rows of log_variance"),
    (np.array([["a", "b"]] * 40), None, "numbers are expected"),
]


@pytest.mark.parametrize(("mean", "log_variance", "words"), BAD, ids=lambda value: str(value)[:20])
def test_bad_codes_are_named(mean, log_variance, words):
    with pytest.raises(UsageError) as raised:
        dpvae.fit_prior(mean, log_variance, fitting=QUICK)
    assert words in str(raised.value)


def test_priors_that_do_not_fit_are_refused():
    mean, log_variance = two_clusters()
    for prior, words in (
        ("splin", "did you mean spline?"),
        (dpvae.StandardNormal(), "has nothing to fit"),
        ("vamp", "needs both the encoder"),
        (dpvae.Decoupled(masks=((1, 0),), blocks=1), "no block transforms dimension 0"),
    ):
        with pytest.raises(UsageError) as raised:
            dpvae.fit_prior(mean, log_variance, prior, fitting=QUICK)
        assert words in str(raised.value)
    with pytest.raises(UsageError, match="latent_dim >= 2"):
        dpvae.fit_prior(mean[:, :1], log_variance[:, :1], fitting=QUICK)


def test_a_fit_that_diverges_says_so(monkeypatch):
    mean, log_variance = two_clusters()

    def spoil(module, *_, **__):
        with torch.no_grad():
            next(iter(module.parameters())).fill_(math.nan)

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda p, _: spoil(nn.ParameterList(list(p))))
    with pytest.raises(DivergedError, match=r"after \d+ iterations") as raised:
        dpvae.fit_prior(mean, log_variance, "decoupled", fitting=QUICK)
    assert "fitting.learning_rate" in str(raised.value.hint)


@pytest.mark.parametrize("prior", ALONE)
def test_a_prior_file_is_the_prior(prior, tmp_path):
    mean, log_variance = two_clusters(dtype=torch.float64)
    fitted = dpvae.fit_prior(mean, log_variance, prior, fitting=QUICK)
    fitted.save(tmp_path / "prior.pt")
    again = dpvae.load_prior(tmp_path / "prior.pt")
    assert torch.equal(again.log_prob(mean), fitted.log_prob(mean))
    assert torch.equal(again.sample(7, seed=2), fitted.sample(7, seed=2))
    assert again.record == fitted.record


def test_a_prior_file_from_before_codes_were_standardised_is_read(tmp_path):
    """Version 1: no layer of mean and deviation, no Gaussian, 50 components that no file says."""
    prior = Mixture().build(2)
    estimate = {"value": 1.0, "standard_error": 0.1}
    record = {
        **{"prior": "mixture", "seed": 0, "components": 60, "held_out": 6, "iterations": 30},
        **{"best_iteration": 20, "nll": estimate, "baseline": "standard_normal", "seconds": 1.0},
        **{"baseline_nll": estimate, "gain": estimate, "curve": [[0, None], [20, 1.0]]},
    }
    meta = {"prior": {"kind": "mixture", "components": 50}, "latent_dim": 2, "record": record}
    replace(FORMAT, version=1).write(tmp_path / "prior.pt", meta, prior.state_dict())
    again = dpvae.load_prior(tmp_path / "prior.pt")
    z = torch.randn(5, 2)
    assert torch.equal(again.log_prob(z), prior.log_prob(z))
    assert again.record.gain == (1.0, 0.1)
    assert again.record.gaussian_gain is None
    again.save(tmp_path / "again.pt")
    assert dpvae.load_prior(tmp_path / "again.pt").record == again.record


def test_a_prior_file_is_none_of_the_others(tmp_path):
    mean, log_variance = two_clusters()
    path = tmp_path / "prior.pt"
    dpvae.fit_prior(mean, log_variance, fitting=QUICK).save(path)
    with pytest.raises(WrongFileTypeError, match="not a dpvae checkpoint but a prior file"):
        dpvae.load(path)
    with pytest.raises(CheckpointError, match="there is no prior at"):
        dpvae.load_prior(tmp_path / "none.pt")
    torch.save({"x": 1}, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match="not a dpvae prior"):
        dpvae.load_prior(tmp_path / "foreign.pt")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("latent_dim", 10**15),
        ("latent_dim", -1),
        ("latent_dim", "2"),
        ("prior", {"kind": "vamp"}),
        ("prior", {"kind": "decoupled", "hidden": 2**60}),
        ("prior", ["decoupled"]),
        ("record", None),
        ("record", {"nll": 3}),
        ("version", 99),
        ("format", "dpvae-nothing"),
    ],
)
def test_changed_prior_files_are_refused(key, value, tmp_path):
    mean, log_variance = two_clusters()
    path = tmp_path / "prior.pt"
    dpvae.fit_prior(mean, log_variance, fitting=QUICK).save(path)
    meta, tensors = unpack_tensors(path.read_bytes())
    path.write_bytes(pack_tensors(meta | {key: value}, tensors))
    with pytest.raises(CheckpointError):
        dpvae.load_prior(path)


def test_a_prior_that_needs_its_encoder_is_not_written(tmp_path):
    encoder = dpvae.build(dpvae.load_recipe("vae_moons")).encoder
    mean, log_variance = two_clusters(100)
    fitted = dpvae.fit_prior(
        mean,
        log_variance,
        dpvae.Vamp(pseudo_inputs=4),
        fitting=QUICK,
        encoder=encoder,
        example_shape=(2,),
    )
    with pytest.raises(UsageError, match="cannot be saved in a file of its own"):
        fitted.save(tmp_path / "prior.pt")
    assert not list(tmp_path.iterdir())


def test_codes_are_read_as_encode_writes_them(tmp_path):
    mean, log_variance = (part.numpy() for part in two_clusters())
    np.savez(tmp_path / "codes.npz", mean=mean, log_variance=log_variance, label=np.zeros(600))
    found = read_codes(tmp_path / "codes.npz")
    assert np.array_equal(found[0], mean)
    assert np.array_equal(found[1], log_variance)
    np.savez(tmp_path / "points.npz", mean=mean)
    assert read_codes(tmp_path / "points.npz")[1] is None
    np.savez(tmp_path / "other.npz", z=mean)
    with pytest.raises(UsageError, match="holds z, and no array `mean`"):
        read_codes(tmp_path / "other.npz")
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(UsageError, match=r"cannot be read as \.npz"):
        read_codes(tmp_path / "torn.npz")
    with pytest.raises(MissingError):
        read_codes(tmp_path / "none.npz")


@pytest.mark.parametrize("name", ["logvar", "z_log_var", "std"])
def test_log_variances_under_another_name_are_not_passed_over(tmp_path, name):
    mean, log_variance = (part.numpy() for part in two_clusters())
    np.savez(tmp_path / "codes.npz", **{"mean": mean, name: log_variance})
    done = CliRunner().invoke(app, ["fit-prior", "--codes", str(tmp_path / "codes.npz")])
    assert done.exit_code == 2
    assert f"the array {name} would not be used" in done.stderr


def test_only_codes_are_read_and_the_rest_is_named(tmp_path):
    mean, log_variance = (part.numpy() for part in two_clusters())
    objects = np.array([{}, 1], dtype=object)
    np.savez(tmp_path / "codes.npz", mean=mean, log_variance=log_variance, notes=objects)
    assert np.array_equal(read_codes(tmp_path / "codes.npz")[1], log_variance)
    one = "{kind: mixture, components: 1}"
    asked = ["fit-prior", "--codes", str(tmp_path / "codes.npz"), "--prior", one]
    done = CliRunner().invoke(app, [*asked, "fitting.iterations=2"])
    assert "codes.npz: notes." in done.stderr


def test_a_record_survives_json_with_infinities():
    mean, log_variance = two_clusters(60)
    record = dpvae.fit_prior(mean, log_variance, fitting=QUICK).record
    odd = FitRecord(**(vars(record) | {"curve": ((0, math.inf), (10, 2.0))}))
    assert FitRecord.from_dict(json.loads(json.dumps(odd.to_dict(), allow_nan=False))) == odd
