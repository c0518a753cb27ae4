"""fid, fid_lp and kid of a small image model, with features simple enough to know."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import dpvae_cli as dpvae
from dpvae_cli.data import Dataset, Split
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.evaluate import evaluate, measure
from dpvae_cli.evaluation.features import FeatureOptions, quantize
from dpvae_cli.foundation.errors import DpvaeError, MissingError, UsageError
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.samples import TrainingEncodings, decode, low_posterior, prior_samples
from tests.small import image_vae, random_dataset, random_images, scripted, tiny_extractor

SHAPE = (1, 6, 6)
SIZES = Evaluation(fid_samples=60, pool=3)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture
def options(tmp_path):
    return FeatureOptions(features=tiny_extractor(tmp_path / "tiny.pt"), trust=True)


def context(options, *, data=None, model=None, sizes=SIZES, seed=0, progress=None):
    model = model or image_vae(*SHAPE)
    data = data or random_images(*SHAPE, count=70)
    heard = {} if progress is None else {"progress": progress}
    encoded = TrainingEncodings(model, lambda: data)
    return EvaluationContext(model, lambda: data, encoded, sizes, seed, features=options, **heard)


def measured(given, *names):
    results, failed = measure(given, names)
    assert not failed
    return results


def tiny_features(images):
    parts = torch.nn.functional.adaptive_avg_pool2d(quantize(images), 2)
    return parts.flatten(1).double().numpy()


def expected_distance(images, others):
    arguments = []
    for rows in (tiny_features(images), tiny_features(others)):
        arguments += [rows.mean(axis=0), np.cov(rows, rowvar=False)]
    return dpvae.frechet_distance(*arguments)


def test_fid_compares_decoded_prior_samples_with_all_training_images(options):
    given = context(options)
    [result] = measured(given, "fid")
    drawn = prior_samples(given.model, 60, generator=given.generator("fid", 0))
    train = given.dataset.train.examples()
    expected = expected_distance(decode(given.model, drawn.z), train)
    assert result.value == pytest.approx(expected, rel=1e-5)
    assert result.metric == "frechet_tiny"
    assert (result.samples, result.split, result.standard_error) == (60, "train", None)
    assert result.weights.startswith("tiny.pt (sha256 ")
    assert result.details["dimensions"] == 12
    assert (result.details["images"], result.details["images_in_split"]) == (70, 70)
    assert result.details["note"] is None


def test_fid_lp_takes_the_lowest_log_q_and_its_null_the_lowest_log_p(options):
    given = context(options)
    [result] = measured(given, "fid_lp")
    model, train = given.model, given.dataset.train.examples()
    low = low_posterior(
        model, given.aggregate, 60, pool=180, generator=given.generator("fid_lp", 0)
    )
    expected = expected_distance(decode(model, low.z), train)
    assert result.value == pytest.approx(expected, rel=1e-5)
    pool = prior_samples(model, 180, generator=given.generator("fid_lp", 0))
    null = pool.z[pool.log_p.argsort()[:60]]
    expected = expected_distance(decode(model, null), train)
    assert result.details["null"]["value"] == pytest.approx(expected, rel=1e-5)
    assert result.details["pool"] == 180
    assert result.metric == "frechet_tiny_lp"


def test_kid_is_the_kernel_distance_of_the_same_features(options):
    given = context(options)
    [result] = measured(given, "kid")
    drawn = prior_samples(given.model, 60, generator=given.generator("fid", 0))
    fake, real = (
        torch.from_numpy(tiny_features(images))
        for images in (decode(given.model, drawn.z), given.dataset.train.examples())
    )
    whole = dpvae.kernel_distance(fake, real)
    assert result.metric == "kernel_tiny"
    assert (result.details["subset_size"], result.details["subsets"]) == (6, 10)
    assert abs(result.value - whole.value) < 4 * whole.standard_error
    assert result.standard_error == pytest.approx(whole.standard_error, rel=1)


def test_repeats_give_a_standard_error(options):
    once = context(options)
    many = context(replace(options, repeats=4))
    single, [of_kid] = measured(once, "fid"), measured(once, "kid")
    several = measured(many, "fid", "fid_lp", "kid")
    values = several[0].details["repeats"]
    assert values[0] == single[0].value
    assert several[0].value == pytest.approx(np.mean(values))
    assert several[0].standard_error == pytest.approx(np.std(values, ddof=1) / 2)
    assert several[1].details["null"]["standard_error"] > 0
    assert several[2].standard_error < of_kid.standard_error


def test_fid_and_kid_look_at_the_same_samples_once(options):
    heard = []
    given = context(options, progress=lambda *what: heard.append(what))
    measured(given, "fid", "kid")
    stages = [name for name, done, total in heard if done == total]
    assert stages == ["training images", "fid: samples"]
    assert heard[0] == ("training images", 50, 70)


def test_a_part_of_the_training_images(options):
    sizes = SIZES.model_copy(update={"fid_images": 30})
    [result] = measured(context(options, sizes=sizes), "fid")
    assert (result.details["images"], result.details["images_in_split"]) == (30, 70)
    too_many = SIZES.model_copy(update={"fid_images": 5_000})
    [result] = measured(context(options, sizes=too_many), "fid")
    assert result.details["images"] == 70


def test_statistics_of_training_images_are_cached(options, cache):
    [first] = measured(context(options), "fid")
    [file] = cache.iterdir()
    heard = []
    [again] = measured(context(options, progress=lambda *what: heard.append(what)), "fid")
    assert again == first
    assert {name for name, _, _ in heard} == {"fid: samples"}
    measured(context(options), "kid")
    assert list(cache.iterdir()) == [file]


def test_a_damaged_cache_is_computed_anew(options, cache):
    [first] = measured(context(options), "fid")
    [file] = cache.iterdir()
    for content in (b"", b"PK\x03\x04 torn", file.read_bytes()[:200]):
        file.write_bytes(content)
        assert measured(context(options), "fid") == [first]


def test_the_cache_is_of_these_images_this_extractor_and_this_count(options, cache, tmp_path):
    measured(context(options), "fid")
    measured(context(options, data=random_images(*SHAPE, count=80)), "fid")
    measured(context(options, sizes=SIZES.model_copy(update={"fid_images": 60})), "fid")
    parts = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    scripted(parts, tmp_path / "tiny.pt")
    [result] = measured(context(options), "fid")
    assert result.details["dimensions"] == 3
    assert len(list(cache.iterdir())) == 4


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(options, cache):
    cache.parent.mkdir()
    cache.touch()
    assert measured(context(options), "fid")


def test_statistics_go_out_and_come_back(options, tmp_path):
    file = tmp_path / "statistics.npz"
    first = measured(context(replace(options, save_reference=file)), "fid", "kid")

    def no_data():
        raise AssertionError("the data are not needed")

    model = image_vae(*SHAPE)
    model.units = random_images(*SHAPE).units
    given = context(replace(options, reference=file), model=model)
    given = replace(given, load_dataset=no_data)
    again = measured(given, "fid", "kid")
    assert [r.value for r in again] == [r.value for r in first]
    assert again[0].split is None
    assert again[0].details["reference"] == "statistics.npz"
    assert again[0].details["images"] == 70


def test_pytorch_fid_s_statistics_are_taken_and_ours_are_its(options, tmp_path):
    from pytorch_fid.fid_score import compute_statistics_of_path

    mine, its = tmp_path / "mine.npz", tmp_path / "its.npz"
    [first] = measured(context(replace(options, save_reference=mine)), "fid")
    mu, sigma = compute_statistics_of_path(str(mine), None, 1, 12, "cpu")
    np.savez_compressed(its, mu=mu, sigma=sigma)
    given = context(replace(options, reference=its))
    [again] = measured(given, "fid")
    assert again.value == first.value
    assert again.details["images"] is None
    results, failed = measure(given, ["kid"])
    assert not results
    assert "no features for kid" in str(failed["kid"])


@pytest.mark.parametrize(
    "arrays",
    [
        {"mean": np.zeros(2)},
        {"mu": np.zeros(2), "sigma": np.eye(3)},
        {"mu": np.zeros(2), "sigma": np.eye(2), "rows": np.zeros((5, 3))},
        {"mu": np.array([None, 1]), "sigma": np.eye(2)},
    ],
)
def test_other_files_are_no_statistics(options, arrays, tmp_path):
    np.savez(tmp_path / "x.npz", **arrays)
    given = context(replace(options, reference=tmp_path / "x.npz"))
    with pytest.raises(MissingError, match="feature statistics"):
        _ = given.reference


def test_statistics_of_other_dimensions_are_refused(options, tmp_path):
    np.savez(tmp_path / "x.npz", mu=np.zeros(2), sigma=np.eye(2))
    given = context(replace(options, reference=tmp_path / "x.npz"))
    _, failed = measure(given, ["fid", "fid_lp"])
    for error in failed.values():
        assert isinstance(error, UsageError)
        assert "x.npz is of 2 dimensions, tiny.pt" in str(error)
    assert len(failed) == 2


def test_fewer_images_than_dimensions_are_remarked(options):
    sizes = SIZES.model_copy(update={"fid_samples": 11})
    [result] = measured(context(options, sizes=sizes), "fid")
    assert "11 images for 12 dimensions" in result.details["note"]
    assert "kid" in result.details["note"]
    few = SIZES.model_copy(update={"fid_images": 10})
    [result] = measured(context(options, sizes=few), "fid")
    assert "10 images" in result.details["note"]


def test_what_is_no_image_is_refused(options):
    model, data = image_vae(2, 6, 6), random_images(2, 6, 6)
    _, failed = measure(context(options, model=model, data=data), ["fid", "fid_lp", "kid"])
    assert all("grey or RGB images" in str(error) for error in failed.values())
    assert len(failed) == 3
    points = image_vae(2)
    with pytest.raises(DpvaeError, match=r"shape \(2,\)"):
        evaluate(points, random_dataset(2), ["fid"], features=options)


def test_values_outside_the_unit_interval_are_refused(options):
    split = Split(2 * torch.rand(30, *SHAPE))
    data = Dataset("wide", train=split, validation=split, test=split)
    _, failed = measure(context(options, data=data), ["fid"])
    assert "images in [0, 1]" in str(failed["fid"])


def test_all_of_images_includes_fid(options):
    model, data = image_vae(*SHAPE), random_images(*SHAPE)
    sizes = Evaluation(samples=20, nll_samples=5, nll_images=2, fid_samples=20)
    results = evaluate(model, data, ["all"], evaluation=sizes, features=options)
    assert {"frechet_tiny", "frechet_tiny_lp", "kernel_tiny"} < {r.metric for r in results}
    for result in results:
        result.to_json()
