"""Where memory runs out, every metric halves its chunk, goes on, and gives the same numbers."""

import math

import torch
from scipy.spatial import KDTree

from dpvae_cli.data import Split
from dpvae_cli.evaluation import features
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.evaluate import evaluate, measure
from dpvae_cli.evaluation.features import FeatureOptions
from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE, build
from dpvae_cli.priors.decoupled import DecoupledPrior
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.samples import TrainingEncodings, decode, encode
from tests.small import image_vae, random_images, small_recipe, tiny_extractor

ROOM, PATH = 7, 101
SIZES = Evaluation(
    samples=200, nll_samples=40, nll_images=5, manifold_samples=30, fid_samples=40, pool=3
)


def limit(monkeypatch, owner, name, *, rows, argument=1):
    """Let a function run out of memory above a number of rows; return the sizes it was given."""
    original, given = getattr(owner, name), []

    def limited(*arguments, **options):
        count = len(arguments[argument])
        given.append(count)
        if count > rows:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, limited)
    return given


def limits(monkeypatch):
    """Limit whatever looks at many rows at once, a path has 101; return the sizes and limits."""
    places = [
        (VAE, "encode", ROOM),
        (VAE, "decode", ROOM),
        (VAE, "reconstruction", ROOM),
        (DecoupledPrior, "to_generation", PATH),
        (DecoupledPrior, "to_representation", PATH),
        (AggregatePosterior, "_log_prob", ROOM),
    ]
    return {
        name: (limit(monkeypatch, owner, name, rows=rows), rows) for owner, name, rows in places
    }


def numbers(results):
    """Return all numbers of results by their place."""
    found = {}

    def visit(place, value):
        if isinstance(value, dict):
            for key, item in value.items():
                visit(f"{place}.{key}", item)
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                visit(f"{place}.{index}", item)
        elif isinstance(value, (int, float)):
            found[place] = float(value)

    for result in results:
        visit(result.metric, result.to_json())
    return found


def assert_close(one, other, *, rel):
    assert one.keys() == other.keys()
    for place, value in one.items():
        assert math.isclose(value, other[place], rel_tol=rel, abs_tol=rel), place


def test_moons_metrics_are_the_same(monkeypatch):
    recipe = small_recipe("vae")
    model, data = build(recipe).double(), recipe.data.load()
    roomy = numbers(evaluate(model, data, ["all"], evaluation=SIZES))
    given = limits(monkeypatch)
    cramped = numbers(evaluate(model, data, ["all"], evaluation=SIZES))
    assert_close(roomy, cramped, rel=1e-9)
    assert all(max(sizes) > rows for sizes, rows in given.values())


def test_image_metrics_are_the_same(monkeypatch, tmp_path):
    model, data = image_vae(1, 4, 4).double(), random_images(1, 4, 4, count=60)
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "roomy"))
    options = FeatureOptions(features=tiny_extractor(tmp_path / "tiny.pt"), trust=True)
    names = ["fid", "fid_lp", "kid"]
    roomy = numbers(evaluate(model, data, names, evaluation=SIZES, features=options))
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cramped"))
    load = features.load_exported
    sizes = []

    def cramped_network(file, device):
        network = load(file, device)

        def limited(images):
            sizes.append(len(images))
            if len(images) > ROOM:
                raise RuntimeError("CUDA error: out of memory")
            return network(images)

        return limited

    monkeypatch.setattr(features, "load_exported", cramped_network)
    cramped = numbers(evaluate(model, data, names, evaluation=SIZES, features=options))
    assert_close(roomy, cramped, rel=1e-6)
    assert max(sizes) > ROOM


def test_encodings_are_the_same_rows(monkeypatch):
    recipe = small_recipe("vae")
    model, data = build(recipe).double(), recipe.data.load()
    whole = encode(model, data.train)
    decoded = decode(model, whole.mean)
    limits(monkeypatch)
    torch.testing.assert_close(encode(model, data.train).mean, whole.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(decode(model, whole.mean), decoded, rtol=1e-12, atol=1e-12)
    assert len(encode(model, Split(torch.zeros(1, 2))).mean) == 1
    assert decode(model, whole.mean[:0]).shape == (0, 2)


def test_a_metric_for_which_there_is_no_memory_at_all_does_not_lose_the_others(monkeypatch):
    recipe = small_recipe("vae")
    model, data = build(recipe), recipe.data.load()
    limit(monkeypatch, VAE, "reconstruction", rows=0)
    limit(monkeypatch, KDTree, "__init__", rows=0)
    context = EvaluationContext(
        model, lambda: data, TrainingEncodings(model, lambda: data), SIZES, 0
    )
    results, failed = measure(context, ["skl", "nll", "skl_knn"])
    assert [result.metric for result in results] == ["skl"]
    assert failed.keys() == {"nll", "skl_knn"}
    assert "memory ran out: reconstruction of one row" in str(failed["nll"])
    assert "memory ran out in skl_knn" in str(failed["skl_knn"])
    assert "Lower evaluation.samples" in failed["skl_knn"].hint
    assert all(isinstance(error, DpvaeError) for error in failed.values())
