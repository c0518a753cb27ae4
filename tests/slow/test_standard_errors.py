"""Whether reported standard errors are as large as the spread that they stand for.

Of every metric with a standard error: the deviation of its value over repeated measurements of one
model, divided by the root mean square of the errors that were reported; their mean where many draws
carry the value, while for a leak that few draws show the squares alone are right on average. `-rP`
shows the table. What differs between two measurements is said in each test: the draws alone, or
held-out examples or images too, where the error is over these. The training seed never does: no
reported error is about that. `cost` is left out, for the machine's clock is what varies there, and
`active_units` has no error.

The spread of n values is itself uncertain: its 95 % interval under a normal distribution widens the
limits of 0.85 and 1.2. Seeds are fixed, so that the outcome is.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
import torch
from scipy import stats

from dpvae_cli.data import Dataset, GenerativeFactor, Split
from dpvae_cli.data.moons import Moons
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.evaluate import measure
from dpvae_cli.evaluation.features import FeatureOptions
from dpvae_cli.evaluation.metrics import METRICS
from dpvae_cli.foundation.results import Result
from dpvae_cli.model import VAE
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.samples import TrainingEncodings
from tests.evaluation.planted import normal, planted, prior_of
from tests.small import image_vae, tiny_extractor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

LOWEST, HIGHEST = 0.85, 1.2
SIZES = Evaluation(
    samples=1_000,
    nll_samples=200,
    nll_images=200,
    manifold_samples=500,
    fid_samples=200,
    support_samples=200,
    factor_samples=200,
    c2st_samples=400,
    factor_repeats=10,
)
Row = tuple[str, float, float]
DRAWS = ["skl", "leak", "manifold", "manifold_lp", "path"]
NEIGHBOURS = ["skl_knn"]
HELD_OUT = ["elbo", "nll", "probe"]
SAMPLE_SETS = ["fid", "fid_lp"]
KERNEL = ["kid"]
CLASSIFIER = ["c2st"]
SUPPORT = ["precision", "recall", "density", "coverage", "precision_lp"]
FACTORS = {"mig": 100, "sap": 60, "factor_score": 60, "beta_score": 30, "dci": 30}
"""Metrics by the test that measures them; the last with the number of measurements."""


def rows_of(result: Result) -> Iterable[Row]:
    """Yield (name, value, reported error), of a leakage curve a row for each point of it."""
    details = result.details
    if not result.metric.startswith("leak"):
        yield result.metric, result.value, result.standard_error
    for kind, name in (("quantile_", "quantiles"), ("", "thresholds")):
        if name in details:
            columns = details[name], details[f"{kind}values"], details[f"{kind}standard_errors"]
            for at, value, error in zip(*columns, strict=True):
                where = f"{100 * at:g} %" if kind else f"tau {at:g}"
                yield f"{result.metric} at {where}", value or 0.0, error or 0.0
    if "null" in details:
        yield f"{result.metric}, null", *details["null"].values()


def check(repeat: Callable[[int], list[Result]], *, seeds: int, varies: str) -> None:
    """Print and check the ratio of every row over the measurements."""
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(seeds):
        for result in repeat(seed):
            for name, value, error in rows_of(result):
                found.setdefault(name, []).append((value, error))
    ends = [math.sqrt(stats.chi2.ppf(level, seeds - 1) / (seeds - 1)) for level in (0.025, 0.975)]
    wrong = []
    for name, pairs in found.items():
        values, errors = torch.tensor(pairs, dtype=torch.float64).T
        if name.startswith("leak") and not values.any():  # below such a threshold lies no draw
            continue
        ratio = float(values.std() / errors.square().mean().sqrt())
        mean, spread = f"{values.mean():.4g}", f"{values.std():.2g}"
        print(f"| `{name}` | {varies} | {seeds} | {mean} | {spread} | {ratio:.2f} |")  # noqa: T201
        if not LOWEST * ends[0] < ratio < HIGHEST * ends[1]:
            wrong.append((name, ratio))
    assert not wrong


def measured(model, data, names, seed, **options) -> list[Result]:
    encoded = TrainingEncodings(model, lambda: data)
    results, failed = measure(
        EvaluationContext(model, lambda: data, encoded, SIZES, seed, **options), names
    )
    assert not failed, failed
    return results


@torch.no_grad()
def moons() -> tuple[VAE, Dataset]:
    """Return two moons, and a model whose codes are the points themselves with noise added."""
    data = Moons(train=500, test=400).load()
    model, _ = planted(prior_of("decoupled"), data.train.examples(), 0.3)
    model.decoder.weight.copy_(torch.eye(2))
    model.decoder.bias.zero_()
    return model, data


def test_of_draws_alone():
    """Draws of p(z), of q(z) and of pairs of held-out examples; model and data stay."""
    model, data = moons()
    check(lambda seed: measured(model, data, DRAWS, seed), seeds=150, varies="draws")


def test_of_nearest_neighbours():
    """Draws of p(z) and q(z), with k = 1; model and data stay."""
    model, data = moons()
    check(lambda seed: measured(model, data, NEIGHBOURS, seed), seeds=100, varies="draws")


def test_of_a_classifier():
    """Draws of p(z), and codes with their draws; the prior stays."""
    prior = prior_of("decoupled")

    def repeat(seed):
        return measured(*planted(prior, normal(400, seed=seed), 0.3), CLASSIFIER, seed)

    check(repeat, seeds=40, varies="draws, training examples")


def test_of_held_out_examples():
    """Held-out examples and draws; the model and its training data stay.

    Errors of the parts of the KL of the training data are over draws alone, and so is what varies.
    """
    model, data = moons()

    pool = Moons(train=2, test=100_000).load().test  # one draw alone is spread evenly on the moons

    def repeat(seed):
        rows = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))[:400]
        is_wrong = torch.rand(400, generator=torch.Generator().manual_seed(seed)) < 0.1
        test = Split(pool.examples(rows), pool.labels[rows] ^ is_wrong.long())
        return measured(model, replace(data, test=test), HELD_OUT, seed)

    check(repeat, seeds=100, varies="draws, held-out examples")


def test_of_repeated_sample_sets(tmp_path, monkeypatch):
    """Ten sample sets each; model and training images stay."""
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cache"))
    features = FeatureOptions(features=tiny_extractor(tmp_path / "f.pt"), trust=True, repeats=10)
    model, data = image_vae(1, 6, 6), images(0)
    check(
        lambda seed: measured(model, data, SAMPLE_SETS, seed, features=features),
        seeds=100,
        varies="draws",
    )


def test_of_kernel_distances(tmp_path, monkeypatch):
    """Samples and training images; the model stays."""
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cache"))
    features = FeatureOptions(features=tiny_extractor(tmp_path / "f.pt"), trust=True)
    model = image_vae(1, 6, 6)
    check(
        lambda seed: measured(model, images(seed), KERNEL, seed, features=features),
        seeds=150,
        varies="draws, training images",
    )


def test_of_supports():
    """Samples and training examples; the model stays."""
    model, _ = moons()
    pool = normal(100_000, seed=5)

    def repeat(seed):
        rows = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
        train, test = (Split(pool[part]) for part in rows[:400].split(200))
        return measured(model, Dataset("n", train=train, validation=test, test=test), SUPPORT, seed)

    check(repeat, seeds=150, varies="draws, training examples")


def images(seed: int) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    split = Split(torch.randint(0, 256, (300, 1, 6, 6), generator=generator, dtype=torch.uint8))
    return Dataset("noise", train=split, validation=split, test=split, eight_bit=True)


@pytest.mark.parametrize(("metric", "seeds"), FACTORS.items())
def test_of_codes_and_factors(metric, seeds):
    """Which examples a repeat draws, ten repeats each; model and examples stay."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 4, (2_000, 2), generator=generator)
    means = values.double() @ torch.tensor([[0.6, 0.2], [0.1, 0.5]]).double()
    means = means + normal(2_000)
    model, data = planted(prior_of("decoupled"), means - means.mean(dim=0), 0.1)
    train = replace(data.train, factors=values)
    data = replace(
        data,
        train=train,
        factors=(GenerativeFactor("a", is_ordered=True), GenerativeFactor("b", is_ordered=False)),
    )
    check(lambda seed: measured(model, data, [metric], seed), seeds=seeds, varies="draws")


def test_no_metric_is_left_out():
    """Every metric with an error is in one of the tables above."""
    groups = DRAWS, NEIGHBOURS, HELD_OUT, SAMPLE_SETS, KERNEL, CLASSIFIER, SUPPORT, FACTORS
    assert {name for group in groups for name in group} == set(METRICS) - {"cost", "active_units"}
